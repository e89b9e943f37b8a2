/** How old a watermark is, told between processes whose clocks have nothing in common. */
import { describe, expect, it } from 'vitest'
import { FreshnessUnavailableError } from '../../src/freshness/freshness.ts'
import { confirmNow, NAME, OLD, TAG } from '../contracts/freshness-world.ts'
import type { RedisServer } from '../support/redis.ts'
import { until } from '../support/wait.ts'
import { type RedisSite, type SiteProcess, siteOnRedis, watermarkFor } from './redis-site.ts'

const HOUR_MS = 3_600_000
const OPTIONS = { maxStalenessMs: 24 * HOUR_MS }

let redis: RedisServer
let site: RedisSite
siteOnRedis((freshSite, server) => {
  site = freshSite
  redis = server
})

async function ageAt(reader: SiteProcess): Promise<number | undefined> {
  return (await reader.watermark())?.ageMs
}

describe('the age of the watermark', () => {
  it.each([0, 26 * HOUR_MS, -26 * HOUR_MS])(
    'is the same for a process whose clock is %i ms off',
    async (offMs) => {
      const replicator = site.open(OPTIONS)
      const reader = site.open(OPTIONS, offMs)
      const epoch = await watermarkFor(replicator, site.now() - 400, [reader])

      expect(await ageAt(reader)).toBe(400)
      site.pass(3000)
      expect([await ageAt(replicator), await ageAt(reader)]).toEqual([3400, 3400])
      await replicator.advance(epoch, site.now() - 100)
      // The nonce may have been sent, and read, at any moment of those 3 s.
      const age = (await ageAt(reader)) ?? expect.unreachable()
      expect(age).toBeGreaterThanOrEqual(100)
      expect(age).toBeLessThanOrEqual(3100)
    },
  )

  it('counts what passes while the telling of it is on its way', async () => {
    const replicator = site.open(OPTIONS)
    const reader = site.open(OPTIONS, HOUR_MS)
    const epoch = await watermarkFor(replicator, site.now(), [reader])
    site.pass(1000)
    const told = site.now()

    await redis.command('CLIENT', 'PAUSE', '600', 'WRITE')
    const advancing = replicator.advance(epoch, told)
    site.pass(5000)
    await advancing

    expect(await ageAt(replicator)).toBe(5000)
    expect(await ageAt(reader)).toBeGreaterThanOrEqual(5000)
  })

  it('is not known to a process that has begun since, until the next is told', async () => {
    const replicator = site.open(OPTIONS)
    const epoch = await watermarkFor(replicator, site.now(), [])

    const reader = site.open(OPTIONS)
    await confirmNow(reader, OLD)
    expect(await reader.watermark()).toBe(undefined)
    expect(await reader.confirmed(NAME, TAG)).toBe(undefined)

    await until(
      async () => {
        await replicator.advance(epoch, site.now())
        return (await reader.confirmed(NAME, TAG)) === OLD
      },
      { what: 'the watermark to be told to the new process' },
    )
  })

  it('is not known any longer when it refers to what was sent too long ago', async () => {
    const replicator = site.open(OPTIONS)
    const reader = site.open(OPTIONS, HOUR_MS)
    await watermarkFor(replicator, site.now(), [reader])

    site.pass(60_000)
    expect(await ageAt(reader)).toBe(60_000)
    site.pass(1)
    expect(await ageAt(reader)).toBe(undefined)
    expect(await ageAt(replicator)).toBe(60_001)
  })

  it('is not known when it refers to what was never sent', async () => {
    const replicator = site.open(OPTIONS)
    const reader = site.open(OPTIONS)
    const epoch = await watermarkFor(replicator, site.now(), [reader])
    const [key = ''] = (await redis.command('KEYS', `*:watermark:${epoch}`)).split('\n')
    const fields = (await redis.command('HKEYS', key)).split('\n').filter((field) => field.startsWith('at:'))
    expect(fields.length).toBeGreaterThan(0)

    for (const field of fields) await redis.command('HSET', key, field, '0123456789abcdef 0')

    expect(await ageAt(reader)).toBe(undefined)
  })

  it('is not known to a process whose clock stood still meanwhile', async () => {
    const replicator = site.open(OPTIONS)
    const reader = site.open({ ...OPTIONS, beatEveryMs: 600_000 })
    const epoch = await watermarkFor(replicator, site.now(), [reader])
    expect(await ageAt(reader)).toBe(0)

    // As if the reader had been asleep for half a minute: told of a moment that its clock has not come to.
    const [key = ''] = (await redis.command('KEYS', `*:watermark:${epoch}`)).split('\n')
    for (const field of (await redis.command('HKEYS', key)).split('\n')) {
      const text = await redis.command('HGET', key, field)
      const [nonce, after] = text.split(' ')
      if (after) await redis.command('HSET', key, field, `${nonce} ${Number(after) + 30_000}`)
    }

    expect(await ageAt(reader)).toBe(undefined)
  })
})

describe('an epoch', () => {
  it('belongs to the process that began one last, until that one is gone', async () => {
    const before = site.open(OPTIONS)
    const ended = await before.beginEpoch()
    await before.advance(ended, site.now())
    const after = site.open(OPTIONS)
    const epoch = await after.beginEpoch()
    await after.advance(epoch, site.now() - 5)

    await before.advance(ended, site.now())
    expect(await before.watermark()).toBe(undefined)
    expect(await after.watermark()).toEqual({ epoch, ageMs: 5 })

    await after[Symbol.asyncDispose]()
    await expect(before.advance(ended, site.now())).rejects.toThrow(FreshnessUnavailableError)
    await before.advance(await before.beginEpoch(), site.now())
    expect(await ageAt(before)).toBe(0)
  })

  it('has to begin anew when one that this process gave up began after it', async () => {
    const replicator = site.open(OPTIONS)
    const givenUp = await replicator.beginEpoch()
    const [key = ''] = (await redis.command('KEYS', `*:epoch:${givenUp}`)).split('\n')
    const holder = await redis.command('HGET', key, 'holder')
    await redis.command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
    const epoch = await until(() => replicator.beginEpoch(), { what: 'an epoch to begin' })
    await replicator.advance(epoch, site.now())

    // As if a silent Redis had carried out what the lost connection asked of it only now.
    await redis.command('HSET', key, 'holder', holder)
    await redis.command('SET', key.replace(`:${givenUp}`, ''), givenUp)

    await expect(replicator.advance(epoch, site.now())).rejects.toThrow(FreshnessUnavailableError)
    await replicator.advance(await replicator.beginEpoch(), site.now())
    expect(await ageAt(replicator)).toBe(0)
  })
})
