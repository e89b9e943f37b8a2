/** Several processes of a site on one Redis: what one of them writes, hears or knows, the others know. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { SETTLED_MS } from '../../src/freshness/freshness.ts'
import { history, LIMITS, runHistory } from '../contracts/freshness-model.ts'
import { confirmNow, NAME, NEW, OLD, OTHER_TAG, TAG, tagNamed } from '../contracts/freshness-world.ts'
import type { RedisServer } from '../support/redis.ts'
import { until } from '../support/wait.ts'
import { createRedisSite, type RedisSite, type SiteProcess, siteOnRedis, watermarkFor } from './redis-site.ts'

const HOUR_MS = 3_600_000
const WATCHING = { maxStalenessMs: 10_000 }

let redis: RedisServer
let site: RedisSite
siteOnRedis((freshSite, server) => {
  site = freshSite
  redis = server
})

/** A replicator, which follows the primary's events, and two proxies with clocks far from its. */
async function watched(): Promise<{ replicator: SiteProcess; one: SiteProcess; other: SiteProcess }> {
  const replicator = site.open(WATCHING)
  const one = site.open(WATCHING, 5 * HOUR_MS)
  const other = site.open(WATCHING, -7 * HOUR_MS)
  await watermarkFor(replicator, site.now(), [one, other])
  return { replicator, one, other }
}

describe('what one process confirms', () => {
  it('is confirmed for all where the watermark covers it, and only for the one that asked where it is trusted', async () => {
    const options = { ...WATCHING, trustMs: 60_000 }
    const [replicator, one, other] = [site.open(options), site.open(options, HOUR_MS), site.open(options)]
    await confirmNow(one, OLD)
    expect(await one.confirmed(NAME, TAG)).toBe(OLD)
    expect(await other.confirmed(NAME, TAG)).toBe(undefined)

    await watermarkFor(replicator, site.now(), [one, other])
    expect(await other.confirmed(NAME, TAG)).toBe(undefined)
    await confirmNow(one, OLD)

    for (const each of [replicator, one, other]) expect(await each.confirmed(NAME, TAG)).toBe(OLD)
    site.pass(WATCHING.maxStalenessMs + 1)
    expect(await one.confirmed(NAME, TAG)).toBe(OLD)
    expect(await other.confirmed(NAME, TAG)).toBe(undefined)
  })

  it('is not trusted any longer in a process once another has heard something newer', async () => {
    const [one, other] = [site.open({ trustMs: 1000 }), site.open({ trustMs: 1000 })]
    const earlier = await one.observe(NAME, TAG)
    await confirmNow(one, OLD)

    await confirmNow(other, NEW)

    expect(await one.confirmed(NAME, TAG)).toBe(undefined)
    expect(await one.stands(earlier)).toBe(false)
    expect(await one.confirm(earlier, OLD)).toBe(false)
    expect(await other.confirmed(NAME, TAG)).toBe(NEW)
  })

  it('is nothing to another site on the same Redis', async () => {
    await using elsewhere = createRedisSite(redis)
    const { one } = await watched()
    await confirmNow(one, OLD)

    expect(await elsewhere.open(WATCHING).confirmed(NAME, TAG)).toBe(undefined)
    expect(await elsewhere.open(WATCHING).watermark()).toBe(undefined)
  })
})

describe('a write through one process', () => {
  it('unconfirms the tag for the other, and what the other asked before never stands', async () => {
    const { one, other } = await watched()
    await confirmNow(other, OLD)
    const asked = await other.observe(NAME, TAG)

    const write = await one.beginWrite(NAME, [TAG])

    expect(await other.confirmed(NAME, TAG)).toBe(undefined)
    expect(await other.confirm(asked, OLD)).toBe(false)
    const during = await other.observe(NAME, TAG)
    const own = (await one.endWrite(write)).get(TAG) ?? expect.unreachable()
    expect(await other.confirm(during, OLD)).toBe(false)
    expect(await one.confirm(own, NEW)).toBe(true)
    expect(await other.confirmed(NAME, TAG)).toBe(NEW)
  })

  it('has no outcome where it overlapped a write through the other', async () => {
    const { one, other } = await watched()
    const first = await one.beginWrite(NAME, [TAG, OTHER_TAG])
    const second = await other.beginWrite(NAME, [TAG])

    expect([...(await one.endWrite(first)).keys()]).toEqual([OTHER_TAG])
    expect([...(await other.endWrite(second)).keys()]).toEqual([])
    const third = await other.beginWrite(NAME, [TAG])
    const deletion = await one.beginWrite(NAME, [])
    expect((await one.endWrite(deletion)).size).toBe(0)
    expect((await other.endWrite(third)).size).toBe(0)
    expect((await other.endWrite(await other.beginWrite(NAME, [TAG]))).size).toBe(1)
  })

  it('has an outcome when its own event was heard by another process before its answer came', async () => {
    const { replicator, one, other } = await watched()
    const write = await one.beginWrite(NAME, [TAG])
    await replicator.hear(NAME, [{ tag: TAG, digest: NEW }])

    const own = (await one.endWrite(write)).get(TAG) ?? expect.unreachable()

    expect(await one.confirm(own, NEW)).toBe(true)
    expect(await other.confirmed(NAME, TAG)).toBe(NEW)
  })

  it('that was never ended stands in the way of others until its process is known to be gone', async () => {
    const other = site.open({ trustMs: 1000, beatEveryMs: 2 })
    {
      await using crashed = site.open({ trustMs: 1000 })
      await crashed.beginWrite(NAME, [TAG])
    }
    const outcome = async () => await other.endWrite(await other.beginWrite(NAME, [TAG]))
    expect((await outcome()).size).toBe(0)

    await until(
      async () => {
        site.pass(11 * 60_000)
        return (await outcome()).size === 1
      },
      { what: 'the crashed process to be given up' },
    )
  })
})

describe('what one process hears', () => {
  it('unconfirms for all of them, by the watermark and by trust', async () => {
    const options = { ...WATCHING, trustMs: 60_000 }
    const [replicator, one] = [site.open(options), site.open(options)]
    await watermarkFor(replicator, site.now(), [one])
    await confirmNow(one, OLD)
    await confirmNow(one, OLD, NAME, OTHER_TAG)

    await replicator.hear(NAME, [{ tag: TAG, digest: NEW }])

    expect(await one.confirmed(NAME, TAG)).toBe(undefined)
    expect(await one.confirmed(NAME, OTHER_TAG)).toBe(OLD) // By trust.
    expect(await replicator.confirmed(NAME, OTHER_TAG)).toBe(undefined)
  })

  it('announces to the others, until it is settled on the clock of the one that heard', async () => {
    const { replicator, one, other } = await watched()
    await replicator.hear(NAME, [{ tag: TAG, digest: NEW }])

    await confirmNow(one, OLD)
    expect(await other.confirmed(NAME, TAG)).toBe(undefined)
    await confirmNow(one, NEW)
    expect(await other.confirmed(NAME, TAG)).toBe(NEW)

    site.pass(SETTLED_MS)
    const epoch = (await replicator.watermark())?.epoch ?? expect.unreachable()
    await replicator.advance(epoch, site.now())
    await until(
      async () => {
        await confirmNow(one, OLD)
        await replicator.advance(epoch, site.now())
        return (await other.confirmed(NAME, TAG)) === OLD
      },
      { what: 'any answer to be covered' },
    )
  })

  it('counts where it does not follow the primary: the one that follows hears it too', async () => {
    const { one, other } = await watched()
    await confirmNow(other, OLD)

    await one.hear(NAME, [{ tag: TAG, digest: NEW }])

    expect(await other.confirmed(NAME, TAG)).toBe(undefined)
  })

  it('is told in one go and in time when it is of thousands of tags', async () => {
    const { replicator, one } = await watched()
    const tags = Array.from({ length: 10_000 }, (_, index) => tagNamed(`t${index}`))
    const seen = await one.observeAll(NAME, tags)
    const [first, last] = [seen.get(tags[0] ?? TAG), seen.get(tags.at(-1) ?? TAG)]

    await replicator.hear(
      NAME,
      tags.map((tag) => ({ tag, digest: NEW })),
    )

    for (const each of [first, last]) expect(await one.stands(each ?? expect.unreachable())).toBe(false)
    const later = await one.observeAll(NAME, tags)
    expect([...later.values()].filter(({ announced }) => announced !== NEW)).toEqual([])
    await replicator.beginEpoch()
    const anew = await one.observeAll(NAME, tags)
    expect([...anew.values()].filter(({ announced }) => announced !== NEW)).toEqual([])
  })
})

describe('any history of two processes', () => {
  it('confirms nothing that the law does not confirm, and what is trusted in the one that asked', async () => {
    await fc.assert(
      fc.asyncProperty(history, async (steps) => {
        await using many = createRedisSite(redis)
        const site = [0, -HOUR_MS].map((clockMs) => ({
          freshness: many.open({ ...LIMITS, beatEveryMs: 1 }, clockMs),
          isExact: clockMs === 0,
          now: () => many.now() + clockMs,
        }))
        await runHistory(steps, site, many.pass)
      }),
      { numRuns: 60 },
    )
  })
})
