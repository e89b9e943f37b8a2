/**
 * Tombstones in Redis: what was removed, numbered in one sequence for all processes. All of it lies in one sorted set, so
 * that it is lost whole or not at all, and numbers count within an era only: one that a flush or a restart of Redis ends
 * (it may have gone back to an older snapshot). A mark of another era is overruled. No clock decides anything.
 */
import { randomBytes } from 'node:crypto'
import { CoordinationUnavailableError } from '../store/coordination.ts'
import type { Mark } from '../store/repository-index.ts'
import type { RedisLine } from './redis-line.ts'
import { redisScript } from './redis-script.ts'

export interface RedisRemovals {
  mark(): Mark
  bury(keys: readonly string[], removal?: Mark): Promise<Mark>
  overrules(mark: Mark, keys: readonly string[]): Promise<boolean>
  overruleAll(): void
  /** Learns where the sequence is. */
  refresh(): Promise<void>
  /** What another process said on the channel: `<era> <sequence>`. */
  heard(text: string): void
}

export interface RedisRemovalsOptions {
  /** Of the sorted set. */
  readonly key: string
  /** Told of every removal: `removal <era> <sequence>`. */
  readonly channel: string
  /** Removals kept; default 100 000. What is forgotten overrules every older mark. */
  readonly maxKept?: number | undefined
  /** Wall clock in milliseconds; default `Date.now`. */
  readonly now?: (() => number) | undefined
}

/**
 * `#` begins no repository's name. The lowest member names the era and the run of Redis it belongs to; `#forgotten` has
 * the number of the latest removal that is no longer known. A removal adds at least one member with the next number.
 */
const ERA = `
local function era_now(set, fresh, anew, channel)
  local run = string.match(redis.call('info', 'server'), 'run_id:(%x+)')
  local lowest = redis.call('zrange', set, 0, 0)[1]
  local era, of = string.match(lowest or '', '^#era (%x+) (%x+)$')
  if era and of == run and anew ~= '1' then
    return era, tonumber(redis.call('zrange', set, -1, -1, 'withscores')[2])
  end
  redis.call('del', set)
  redis.call('zadd', set, '-inf', '#era ' .. fresh .. ' ' .. run, 0, '#forgotten')
  redis.call('publish', channel, 'removal ' .. fresh .. ' 0')
  return fresh, 0
end
local era, sequence = era_now(KEYS[1], ARGV[1], ARGV[2], ARGV[3])
`

const readEra = redisScript(`${ERA} return {era, sequence, 0}`)

/** After the era's: kept, the removal's era and sequence, then what was removed. */
const buryAll = redisScript(`${ERA}
local set, kept, removal = KEYS[1], tonumber(ARGV[4]), sequence + 1
if ARGV[5] == era then removal = tonumber(ARGV[6]) end
for at = 7, #ARGV do redis.call('zadd', set, 'gt', removal, ARGV[at]) end
local over = redis.call('zcard', set) - 2 - kept
if over > 0 then
  local oldest = redis.call('zrange', set, 1, over + 1, 'withscores')
  local forgotten = tonumber(redis.call('zscore', set, '#forgotten'))
  for at = 1, #oldest, 2 do
    if oldest[at] ~= '#forgotten' and over > 0 then
      redis.call('zrem', set, oldest[at])
      forgotten = math.max(forgotten, tonumber(oldest[at + 1]))
      over = over - 1
    end
  end
  redis.call('zadd', set, forgotten, '#forgotten')
end
sequence = math.max(sequence, removal)
redis.call('publish', ARGV[3], 'removal ' .. era .. ' ' .. sequence)
return {era, sequence, removal}`)

/** After the era's: the mark's era and sequence, then the keys. */
const isOverruled = redisScript(`${ERA}
local marked = tonumber(ARGV[5])
if ARGV[4] ~= era or marked > sequence then return {era, sequence, 1} end
if tonumber(redis.call('zscore', KEYS[1], '#forgotten')) > marked then return {era, sequence, 1} end
for at = 6, #ARGV do
  if tonumber(redis.call('zscore', KEYS[1], ARGV[at]) or 0) > marked then return {era, sequence, 1} end
end
return {era, sequence, 0}`)

export function createRedisRemovals(line: RedisLine, options: RedisRemovalsOptions): RedisRemovals {
  const { key, channel, maxKept = 100_000, now = Date.now } = options
  /** No era has this name: a mark of it is overruled. */
  let seen = { era: '', sequence: 0 }
  let begunAnew = 0
  let wantedAnew = 0

  /** What is asked for after `overruleAll` begins a new era first, in this process or in another that was quicker. */
  async function ask(script: ReturnType<typeof redisScript>, args: readonly (string | number)[]) {
    const wanted = wantedAnew
    const anew = wanted > begunAnew ? '1' : '0'
    const fresh = randomBytes(16).toString('hex')
    const answer = await line.ask((redis) => script(redis, [key], [fresh, anew, channel, ...args]))
    begunAnew = Math.max(begunAnew, wanted)
    const [era, sequence, last] = Array.isArray(answer) ? answer : []
    if (typeof era !== 'string' || typeof sequence !== 'number' || typeof last !== 'number') {
      throw new CoordinationUnavailableError('Redis answered what no script of ours answers')
    }
    seen = { era, sequence: seen.era === era ? Math.max(seen.sequence, sequence) : sequence }
    return { era, last }
  }

  async function refresh(): Promise<void> {
    await ask(readEra, [])
  }

  return {
    mark: () => ({ ...seen, atMs: now() }),
    bury: async (keys, removal) => {
      const atMs = removal?.atMs ?? now()
      const { era, last } = await ask(buryAll, [maxKept, removal?.era ?? '', removal?.sequence ?? 0, ...keys])
      return { era, sequence: last, atMs }
    },
    overrules: async (mark, keys) => (await ask(isOverruled, [mark.era, mark.sequence, ...keys])).last === 1,
    overruleAll: () => {
      wantedAnew += 1
    },
    refresh,
    heard: (text) => {
      const [, era, sequence] = /^([0-9a-f]{32}) (\d+)$/.exec(text) ?? []
      if (era === seen.era) seen = { era, sequence: Math.max(seen.sequence, Number(sequence)) }
      // Which of two eras is the newer only Redis knows; while it cannot be asked, nothing is lost by not knowing.
      else refresh().catch(() => undefined)
    },
  }
}
