/**
 * Turns among processes: a lock per key in Redis, renewed while it is held, that ends by itself when its holder does. A
 * holder that was paused, or a Redis that restarted, may let two have a turn at once: what they do stands that as well
 * (`Coordination`), for nothing may be decided by how long something should have taken.
 */
import { randomBytes } from 'node:crypto'
import { createKeyedMutex, type KeyedMutex } from '../store/keyed-mutex.ts'
import type { RedisLine } from './redis-line.ts'
import { redisScript } from './redis-script.ts'

export interface RedisTurns extends KeyedMutex {
  /** What another process said on the channel: the key whose turn has ended. */
  heard(key: string): void
}

export interface RedisTurnsOptions {
  /** Of all keys in Redis. */
  readonly prefix: string
  /** Told of the end of a turn that others wait for: `freed <key>`. */
  readonly channel: string
  /** How long a holder that died keeps others waiting, in milliseconds; default 5000. */
  readonly ttlMs?: number | undefined
}

/** Who waits asks again after this at the latest, and is told sooner as a rule. */
const POLL_MS = { least: 10, spread: 30 }
/** How long a place in front of the queue is kept for a process that does not ask again. */
const PLACE_MS = 250

/**
 * A token is `<process> <count>`. One process has one contender for a key, so an older token of its own is that of a
 * question whose answer was lost. The second key keeps the next turn for one who waits: without it, a process with much
 * to do would take each turn again before the others ask.
 */
const take = redisScript(`
local process, count = string.match(ARGV[1], '^(%x+) (%d+)$')
local holder, place = redis.call('get', KEYS[1]), redis.call('get', KEYS[2])
local of, before = string.match(holder or '', '^(%x+) (%d+)$')
local lost = of == process and tonumber(before) < tonumber(count)
if lost or not holder and (not place or place == process) then
  redis.call('set', KEYS[1], ARGV[1], 'px', ARGV[2])
  if place == process then redis.call('del', KEYS[2]) end
  return 1
end
if not place or place == process then redis.call('set', KEYS[2], process, 'px', ARGV[3]) end
return 0`)

const renew = redisScript(`
if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('pexpire', KEYS[1], ARGV[2])`)

const give = redisScript(`
if redis.call('get', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('del', KEYS[1])
if redis.call('exists', KEYS[2]) == 1 then redis.call('publish', ARGV[2], 'freed ' .. ARGV[3]) end
return 1`)

export function createRedisTurns(line: RedisLine, options: RedisTurnsOptions): RedisTurns {
  const { prefix, channel, ttlMs = 5000 } = options
  const process = randomBytes(8).toString('hex')
  const queues = createKeyedMutex()
  /** Of the keys whose turn this process waits for. */
  const wakes = new Map<string, () => void>()
  let count = 0

  async function untilFreed(key: string): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(resolve, POLL_MS.least + Math.random() * POLL_MS.spread)
    wakes.set(key, resolve)
    await promise
    clearTimeout(timer)
    wakes.delete(key)
  }

  return {
    run: (key, work) =>
      queues.run(key, async () => {
        const keys = [`${prefix}turn:${key}`, `${prefix}next:${key}`]
        count += 1
        const token = `${process} ${count}`
        const ask = (script: ReturnType<typeof redisScript>, ...args: (string | number)[]) =>
          line.ask((redis) => script(redis, keys, [token, ...args]))
        while ((await ask(take, ttlMs, PLACE_MS)) !== 1) await untilFreed(key)

        // One that fails is no news: the next is tried, and a turn that was lost harms nothing.
        const renewal = setInterval(() => void ask(renew, ttlMs).catch(() => undefined), ttlMs / 3)
        renewal.unref()
        try {
          return await work()
        } finally {
          clearInterval(renewal)
          // It ends by itself where this cannot be told.
          await ask(give, channel, key).catch(() => undefined)
        }
      }),
    heard: (key) => wakes.get(key)?.(),
    idle: queues.idle,
  }
}
