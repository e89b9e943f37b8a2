/**
 * What is done to freshness in Redis, each step atomic. Everything lies below `<root><era>:`: a state that was lost or
 * came back older than it was is under another era (`greet`), so nothing of it is ever met again. Times to live only
 * collect what nobody asks for any longer; whatever one takes away comes back under another generation, and the
 * announcements of an epoch only go together with the epoch.
 *
 *     repository:<name>      generation, heard (renewed by each event), asked (counts the questions)
 *     tag:<name>:<tag>       generation, answer: "repositoryGeneration heard epoch|-|! order digest", the latest
 *     writes:<name>          write -> what it touches, who sends it, the tags that another write touched meanwhile
 *     epoch                  the epoch under way
 *     epoch:<id>             holder (the process that hears); said:<key> -> "number said", what is not settled
 *     watermark:<id>         asOf on the holder's clock; at:<process> -> the same for that process (beats.ts)
 *     beats                  process -> its latest nonce
 */
import { createHash } from 'node:crypto'

export interface Script {
  readonly lua: string
  readonly sha: string
}

/** Two days. */
const KEPT_S = 2 * 24 * 60 * 60

/** How a script says that what it knew is gone: whoever called it has to greet Redis anew. */
export const STATE_IS_GONE = 'STATEGONE'

/** In place of an epoch. */
const BESIDE_WRITE = '!'

const COMMON = `
local root = KEYS[1]
local era = redis.call('HGET', root .. 'era', 'id')
if not era then return redis.error_reply('${STATE_IS_GONE} greet this Redis first') end
local base = root .. era .. ':'
local BEATS = base .. 'beats'

local function repository(name, fresh)
  local key = base .. 'repository:' .. name
  redis.call('HSETNX', key, 'generation', fresh)
  redis.call('HSETNX', key, 'heard', fresh)
  redis.call('EXPIRE', key, ${KEPT_S})
  return key
end

local function tagKey(name, tag) return base .. 'tag:' .. name .. ':' .. tag end

local function renewTag(name, tag, fresh)
  local key = tagKey(name, tag)
  redis.call('DEL', key)
  redis.call('HSET', key, 'generation', fresh)
  redis.call('EXPIRE', key, ${KEPT_S})
end

local function epochKey(id) return base .. 'epoch:' .. id end
local function isHeld(id) return redis.call('HEXISTS', epochKey(id), 'holder') == 1 end

local function epochUnderWay()
  local id = redis.call('GET', base .. 'epoch')
  if id and isHeld(id) then return id end
  return false
end

-- What is announced of each of the tags, as together() in announcements.ts; '' is nothing.
local function announced(epoch, name, tags)
  local all = {}
  for index in ipairs(tags) do all[index] = '' end
  if not epoch then return all end
  local function said(key) return redis.call('HGET', epochKey(epoch), 'said:' .. key) end
  local beyond = { said(name .. ':'), said('') }
  for index, tag in ipairs(tags) do
    for _, text in ipairs({ said(name .. ':' .. tag), beyond[1], beyond[2] }) do
      if text then
        local what = string.match(text, ' (.*)$')
        if all[index] == '' or all[index] == what then all[index] = what else all[index] = 'disputed' end
      end
    end
  end
  return all
end

-- An announcement never gives way to an earlier one.
local function announce(epoch, key, number, what)
  local field = 'said:' .. key
  local known = redis.call('HGET', epochKey(epoch), field)
  if known and tonumber(string.match(known, '^%d+')) > tonumber(number) then return end
  redis.call('HSET', epochKey(epoch), field, number .. ' ' .. what)
end

local function answerOf(key, generation)
  local text = redis.call('HGET', key, 'answer')
  if not text then return nil end
  local of, heard, epoch, order, digest = string.match(text, '^(%S+) (%S+) (%S+) (%S+) (%S+)$')
  if of ~= generation then return nil end
  return { heard = heard, epoch = epoch, order = tonumber(order), digest = digest }
end
`

const WRITES = `
local function overlap(write, against)
  for _, tag in ipairs(write.tags) do
    local touches = #against.tags == 0
    for _, other in ipairs(against.tags) do touches = touches or other == tag end
    if touches then write.overlapped[tag] = true end
  end
end

local function renew(name, tags, fresh)
  local key = repository(name, fresh)
  if #tags == 0 then redis.call('HSET', key, 'generation', fresh) end
  for _, tag in ipairs(tags) do renewTag(name, tag, fresh) end
  return key
end

-- Every other write under way touches what this one touches, and the other way round. A process that has not been heard
-- of for minutes (beats) takes its writes with it.
local function meetOthers(key, mine)
  local all = redis.call('HGETALL', key)
  for index = 1, #all, 2 do
    local other = cjson.decode(all[index + 1])
    if redis.call('HEXISTS', BEATS, other.process) == 0 then
      redis.call('HDEL', key, all[index])
    else
      overlap(other, mine)
      overlap(mine, other)
      redis.call('HSET', key, all[index], cjson.encode(other))
    end
  end
end
`

function script(lua: string): Script {
  return { lua, sha: createHash('sha1').update(lua).digest('hex') }
}
const common = (lua: string): Script => script(`${COMMON}${lua}`)

/**
 * A Redis that was restarted (its run id is another) may have come back older than it was; one that was flushed has no
 * era. ARGV: run id, era to begin, whether to begin it anyway.
 */
export const GREET = script(`
local key = KEYS[1] .. 'era'
local known = redis.call('HMGET', key, 'server', 'id')
if known[1] == ARGV[1] and known[2] and ARGV[3] == '' then return known[2] end
redis.call('HSET', key, 'server', ARGV[1], 'id', ARGV[2])
return ARGV[2]
`)

/** ARGV: process, nonce, whether all are wanted. */
export const BEAT = common(`
redis.call('HSET', BEATS, ARGV[1], ARGV[2])
redis.call('EXPIRE', BEATS, ${KEPT_S})
if ARGV[3] == '' then return {} end
return redis.call('HGETALL', BEATS)
`)

/** ARGV: pairs of a process and the nonce it has had for too long. */
export const BURY = common(`
for index = 1, #ARGV, 2 do
  if redis.call('HGET', BEATS, ARGV[index]) == ARGV[index + 1] then redis.call('HDEL', BEATS, ARGV[index]) end
end
`)

/** ARGV: fresh, name, tags. Answers: generation, heard, order, epoch, then generation and announcement of each tag. */
export const OBSERVE = common(`
local fresh, name = ARGV[1], ARGV[2]
local key = repository(name, fresh)
local epoch = epochUnderWay()
local seen = redis.call('HMGET', key, 'generation', 'heard')
local answer = { seen[1], seen[2], redis.call('HINCRBY', key, 'asked', 1), epoch or '' }
local tags = {}
for index = 3, #ARGV do tags[index - 2] = ARGV[index] end
local said = announced(epoch, name, tags)
for index, tag in ipairs(tags) do
  local key = tagKey(name, tag)
  redis.call('HSETNX', key, 'generation', fresh)
  redis.call('EXPIRE', key, ${KEPT_S})
  answer[#answer + 1] = redis.call('HGET', key, 'generation')
  answer[#answer + 1] = said[index]
end
return answer
`)

const GENERATIONS_STAND = `
local name, tag, generation, tagGeneration, order = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local key = tagKey(name, tag)
if redis.call('HGET', key, 'generation') ~= tagGeneration then return 0 end
if redis.call('HGET', base .. 'repository:' .. name, 'generation') ~= generation then return 0 end
local latest = answerOf(key, generation)
`

/** ARGV: name, tag, repository's generation, tag's generation, order. */
export const STANDS = common(`${GENERATIONS_STAND}
return latest and latest.order > order and 0 or 1
`)

/**
 * ARGV: as `STANDS`, then heard, epoch or -, digest. Answers 2: recorded; 1: a later answer says the same; 0: no. What is
 * recorded beside a write confirms nothing: who writes may never be able to say here that it has written.
 */
export const CONFIRM = common(`${GENERATIONS_STAND}
local heard, epoch, digest = ARGV[6], ARGV[7], ARGV[8]
if latest and latest.order > order then return latest.digest == digest and 1 or 0 end
for _, text in ipairs(redis.call('HVALS', base .. 'writes:' .. name)) do
  local write = cjson.decode(text)
  local touches = #write.tags == 0
  for _, other in ipairs(write.tags) do touches = touches or other == tag end
  if touches and redis.call('HEXISTS', BEATS, write.process) == 1 then epoch = '${BESIDE_WRITE}' end
end
redis.call('HSET', key, 'answer', table.concat({ generation, heard, epoch, ARGV[5], digest }, ' '))
return 2
`)

const MOMENT = `
local function moment(epoch, process)
  local told = redis.call('HMGET', base .. 'watermark:' .. epoch, 'asOf', 'at:' .. process)
  return redis.call('HGET', epochKey(epoch), 'holder'), told[1] or '', told[2] or ''
end
`

/**
 * ARGV: name, tag, process. Answers: digest, repository's generation, tag's generation, order, and, if the epoch under
 * way covers it, that epoch, its holder, the watermark on the holder's clock, and on the process's.
 */
export const CONFIRMED = common(`${MOMENT}
local name, tag = ARGV[1], ARGV[2]
local state = redis.call('HMGET', base .. 'repository:' .. name, 'generation', 'heard')
local key = tagKey(name, tag)
local latest = state[1] and answerOf(key, state[1])
if not latest or latest.epoch == '${BESIDE_WRITE}' then return {} end
local answer = { latest.digest, state[1], redis.call('HGET', key, 'generation'), latest.order }
local epoch = epochUnderWay()
if epoch and latest.epoch == epoch and latest.heard == state[2] then
  local holder, asOf, at = moment(epoch, ARGV[3])
  for _, each in ipairs({ epoch, holder, asOf, at }) do answer[#answer + 1] = each end
end
return answer
`)

/** ARGV: process. Answers as the end of `CONFIRMED`, or nothing. */
export const WATERMARK = common(`${MOMENT}
local epoch = epochUnderWay()
if not epoch then return {} end
local holder, asOf, at = moment(epoch, ARGV[1])
return { epoch, holder, asOf, at }
`)

/** ARGV: fresh, name, epoch or '', changes as JSON: `{ all, tags, said: [[key, number, said]] }`. */
export const HEAR = common(`
local fresh, name, epoch = ARGV[1], ARGV[2], ARGV[3]
local changes = cjson.decode(ARGV[4])
local key = repository(name, fresh)
redis.call('HSET', key, 'heard', fresh)
if changes.all then redis.call('HSET', key, 'generation', fresh) end
for _, tag in ipairs(changes.tags) do renewTag(name, tag, fresh) end
if epoch ~= '' and isHeld(epoch) then
  for _, each in ipairs(changes.said) do announce(epoch, each[1], each[2], each[3]) end
end
`)

/** ARGV: fresh, name, write, process, nonce, tags as JSON. Answers: order, epoch, then what is announced of each tag. */
export const BEGIN_WRITE = common(`${WRITES}
local fresh, name, process = ARGV[1], ARGV[2], ARGV[4]
local mine = { process = process, tags = cjson.decode(ARGV[6]), overlapped = {} }
-- Before its first beat, too, a process that writes is there.
redis.call('HSETNX', BEATS, process, ARGV[5])
local key = base .. 'writes:' .. name
meetOthers(key, mine)
redis.call('HSET', key, ARGV[3], cjson.encode(mine))
redis.call('EXPIRE', key, ${KEPT_S})
local epoch = epochUnderWay()
local answer = { redis.call('HINCRBY', renew(name, mine.tags, fresh), 'asked', 1), epoch or '' }
for _, what in ipairs(announced(epoch, name, mine.tags)) do answer[#answer + 1] = what end
return answer
`)

/**
 * ARGV: fresh, name, write, tags as JSON. Answers: generation, heard, then name, generation and announcement of each tag
 * that no other write touched meanwhile; nothing when the write is not known, for then nobody knows what it overlapped:
 * those under way have overlapped it.
 */
export const END_WRITE = common(`${WRITES}
local fresh, name, tags = ARGV[1], ARGV[2], cjson.decode(ARGV[4])
local repositoryKey = renew(name, tags, fresh)
local key = base .. 'writes:' .. name
local text = redis.call('HGET', key, ARGV[3])
redis.call('HDEL', key, ARGV[3])
if not text then
  meetOthers(key, { tags = tags, overlapped = {} })
  return {}
end
local mine = cjson.decode(text)
local answer = redis.call('HMGET', repositoryKey, 'generation', 'heard')
local said = announced(epochUnderWay(), name, tags)
for index, tag in ipairs(tags) do
  if not mine.overlapped[tag] then
    for _, each in ipairs({ tag, fresh, said[index] }) do answer[#answer + 1] = each end
  end
end
return answer
`)

/** ARGV: epoch, holder. What is announced is put into it before it begins. */
export const PREPARE_EPOCH = common(`
redis.call('HSET', epochKey(ARGV[1]), 'holder', ARGV[2])
redis.call('EXPIRE', epochKey(ARGV[1]), ${KEPT_S})
`)

/** ARGV: epoch, then key, number and what is said, of each announcement. */
export const ANNOUNCE = common(`
if not isHeld(ARGV[1]) then return redis.error_reply('${STATE_IS_GONE} this epoch is gone') end
for index = 2, #ARGV, 3 do announce(ARGV[1], ARGV[index], ARGV[index + 1], ARGV[index + 2]) end
`)

/** ARGV: epoch. */
export const BEGIN_EPOCH = common(`
if not isHeld(ARGV[1]) then return redis.error_reply('${STATE_IS_GONE} this epoch is gone') end
local before = redis.call('GET', base .. 'epoch')
redis.call('SET', base .. 'epoch', ARGV[1], 'EX', ${KEPT_S})
if before and before ~= ARGV[1] then redis.call('UNLINK', epochKey(before), base .. 'watermark:' .. before) end
`)

/**
 * ARGV: epoch, asOf, then a process and the watermark for it, of each process. Answers how the epoch is (`under way`,
 * `replaced` by that of a process that is alive, `gone`), all beats, and who replaced it.
 */
export const ADVANCE = common(`
local epoch = epochUnderWay()
local beats = redis.call('HGETALL', BEATS)
if epoch ~= ARGV[1] then
  local holder = epoch and redis.call('HGET', epochKey(epoch), 'holder')
  if holder and redis.call('HEXISTS', BEATS, holder) == 1 then return { 'replaced', beats, holder } end
  return { 'gone', beats }
end
local key = base .. 'watermark:' .. epoch
local known = redis.call('HGET', key, 'asOf')
if not known or tonumber(known) <= tonumber(ARGV[2]) then
  redis.call('DEL', key)
  redis.call('HSET', key, 'asOf', ARGV[2])
  for index = 3, #ARGV, 2 do redis.call('HSET', key, 'at:' .. ARGV[index], ARGV[index + 1]) end
end
for _, each in ipairs({ key, epochKey(epoch), base .. 'epoch' }) do redis.call('EXPIRE', each, ${KEPT_S}) end
return { 'under way', beats }
`)

/** ARGV: epoch, then key and number of each announcement that is settled. */
export const SETTLE = common(`
for index = 2, #ARGV, 2 do
  local field = 'said:' .. ARGV[index]
  local known = redis.call('HGET', epochKey(ARGV[1]), field)
  if known and string.match(known, '^%d+') == ARGV[index + 1] then redis.call('HDEL', epochKey(ARGV[1]), field) end
end
`)
