/**
 * What is decided inside Redis about the lease of a digest, in one step each. Two keys: the lease, which holds its
 * holder's token and runs out by itself; and the last that was said of the fetch, as JSON, also published.
 */

/** ARGV: token, ttl. Answers `[1, what a holder that was lost had said]` or `[0, '']`. */
export const TAKE = `
if redis.call('exists', KEYS[1]) == 1 then return {0, ''} end
redis.call('set', KEYS[1], ARGV[1], 'px', ARGV[2])
local said = redis.call('get', KEYS[2]) or ''
if string.sub(said, 1, 7) == '{"end":' then
  redis.call('del', KEYS[2])
  said = ''
end
return {1, said}`

/**
 * Renews the lease and says how far the fetch is. A lease that ran out, or was lost with the memory of Redis, is taken
 * again when nobody else has it. ARGV: token, ttl, what is said or '', how long that is kept, channel. Answers how many
 * heard it, -1 when the lease is another's.
 */
export const BEAT = `
local holder = redis.call('get', KEYS[1])
if holder and holder ~= ARGV[1] then return -1 end
redis.call('set', KEYS[1], ARGV[1], 'px', ARGV[2])
if ARGV[3] == '' then return 0 end
redis.call('set', KEYS[2], ARGV[3], 'px', ARGV[4])
return redis.call('publish', ARGV[5], ARGV[3])`

/** Gives the lease up with a last word. ARGV: token, the word, how long it is kept, channel. */
export const END = `
local holder = redis.call('get', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('del', KEYS[1])
redis.call('set', KEYS[2], ARGV[2], 'px', ARGV[3])
redis.call('publish', ARGV[4], ARGV[2])
return 1`

/** Answers `[1 when somebody has the lease, what was said last]`. */
export const LOOK = `return {redis.call('exists', KEYS[1]), redis.call('get', KEYS[2]) or ''}`
