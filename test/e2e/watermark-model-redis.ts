/**
 * The freshness of a site of three processes, one that follows the relay and two that clients ask, in a real Redis that
 * loses its connections and its memory. Their clocks are of the simulated time, and have nothing in common but their rate.
 */
import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import type { Epochs, Freshness } from '../../src/freshness/freshness.ts'
import { createRedisFreshness } from '../../src/freshness/redis-freshness.ts'
import { createLogger } from '../../src/log.ts'
import type { RedisServer } from '../support/redis.ts'
import type { SiteFreshness } from './watermark-model-site.ts'
import type { VirtualTime } from './watermark-model-time.ts'

type Process = ReturnType<typeof createRedisFreshness>

/** So much real time passes with each half second of the simulated one: connections come back, beats are sent. */
const PACE_MS = 8
const BEAT_EVERY_MS = 4
const log = createLogger({ destination: { write: () => undefined } })

export function inRedis(
  redis: RedisServer,
  time: VirtualTime,
  { maxStalenessMs, isDisturbed }: { readonly maxStalenessMs: number; readonly isDisturbed: boolean },
): SiteFreshness {
  const site = randomUUID()
  const closing: PromiseLike<void>[] = []
  let following: Process | undefined
  let isClosed = false

  const open = (now: () => number): Process =>
    createRedisFreshness({ log }, { url: redis.url, site, maxStalenessMs, beatEveryMs: BEAT_EVERY_MS, now })
  const proxies = [0, 1].map(() => {
    const offsetMs = time.between(-1e6, 1e6)
    return open(() => time.nowMs + offsetMs)
  })
  const readers = proxies.map((proxy) => timed(proxy, time))

  const calm = isDisturbed ? disturb(redis, time) : async () => undefined
  time.go(async () => {
    while (!isClosed) {
      await time.sleep(500)
      await time.real(delay(PACE_MS))
    }
  })
  return {
    follow(now) {
      following = open(now)
      return timed(following, time)
    },
    readers: () => readers,
    kill() {
      if (following) closing.push(following[Symbol.asyncDispose]())
      following = undefined
    },
    async close() {
      isClosed = true
      for (const each of proxies) closing.push(each[Symbol.asyncDispose]())
      await calm()
      await Promise.all(closing)
    },
  }
}

/** What befalls Redis, for all sites at once; the answer ends it. */
function disturb(redis: RedisServer, time: VirtualTime): () => Promise<void> {
  let isDown = false
  let isOver = false

  async function once(): Promise<void> {
    switch (time.pick(['connections', 'connections', 'silence', 'restart', 'state'])) {
      case 'connections':
        await time.real(redis.command('CLIENT', 'KILL', 'TYPE', 'normal'))
        return
      case 'silence':
        redis.freeze()
        await time.real(delay(time.between(10, 300)))
        redis.thaw()
        return
      case 'restart':
        isDown = true
        await time.real(redis.stop())
        await time.sleep(time.between(0, 2_000))
        await time.real(redis.start())
        isDown = false
        return
      case 'state':
        await time.real(redis.command('FLUSHALL'))
    }
  }

  time.go(async () => {
    while (!isOver) {
      await time.sleep(time.between(5_000, 60_000))
      if (!isOver) await once()
    }
  })
  return async () => {
    isOver = true
    if (isDown) await redis.start()
  }
}

/** No simulated time passes while Redis is asked. */
function timed(real: Freshness & Epochs, time: VirtualTime): Freshness & Epochs {
  return {
    confirmed: (name, tag) => time.real(real.confirmed(name, tag)),
    observe: (name, tag) => time.real(real.observe(name, tag)),
    observeAll: (name, tags) => time.real(real.observeAll(name, tags)),
    stands: (observation) => time.real(real.stands(observation)),
    confirm: (observation, digest) => time.real(real.confirm(observation, digest)),
    hear: (name, changes) => time.real(real.hear(name, changes)),
    beginWrite: (name, tags) => time.real(real.beginWrite(name, tags)),
    endWrite: (write) => time.real(real.endWrite(write)),
    watermark: () => time.real(real.watermark()),
    beginEpoch: () => time.real(real.beginEpoch()),
    advance: (epoch, asOfMs) => time.real(real.advance(epoch, asOfMs)),
  }
}
