/** What the processes of a site get while Redis is away, silent or refusing, and when it is back. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { FreshnessUnavailableError } from '../../src/freshness/freshness.ts'
import { confirmNow, NAME, NEW, OLD, OTHER_TAG, TAG, tagNamed } from '../contracts/freshness-world.ts'
import { startLink } from '../support/link.ts'
import { type RedisServer, startRedis } from '../support/redis.ts'
import { until } from '../support/wait.ts'
import { createRedisSite, type RedisSite, type SiteProcess, watermarkFor } from './redis-site.ts'

const OPTIONS = { maxStalenessMs: 10_000, trustMs: 10_000, askMs: 200 }
/** What a pull waits for Redis at the most, and a busy machine besides. */
const PULL_MS = 500

let owned: AsyncDisposableStack
let redis: RedisServer
let site: RedisSite
beforeEach(async () => {
  owned = new AsyncDisposableStack()
  redis = owned.use(await startRedis())
  site = owned.use(createRedisSite(redis))
})
afterEach(() => owned.disposeAsync())

async function within<T>(limitMs: number, asking: Promise<T>): Promise<T> {
  const startedAtMs = performance.now()
  const answer = await asking
  expect(performance.now() - startedAtMs).toBeLessThan(limitMs)
  return answer
}

/** Nothing that a pull or a job asks is answered with a yes, and each in time. */
async function knowsNothing(freshness: SiteProcess): Promise<void> {
  expect(await within(PULL_MS, freshness.confirmed(NAME, TAG))).toBe(undefined)
  expect(await within(PULL_MS, freshness.watermark())).toBe(undefined)
  const observation = await within(PULL_MS, freshness.observe(NAME, TAG))
  expect(await within(PULL_MS, freshness.stands(observation))).toBe(false)
  expect(await within(PULL_MS, freshness.confirm(observation, OLD))).toBe(false)
}

async function back(freshness: SiteProcess): Promise<void> {
  await until(async () => await freshness.stands(await freshness.observe(NAME, TAG)), {
    what: 'Redis to be used again',
  })
}

/** An epoch under way that covers `OLD` for a replicator and a proxy. */
async function covered(): Promise<{ replicator: SiteProcess; proxy: SiteProcess; epoch: string }> {
  const [replicator, proxy] = [site.open(OPTIONS), site.open(OPTIONS)]
  const epoch = await watermarkFor(replicator, site.now(), [proxy])
  await confirmNow(proxy, OLD)
  expect(await replicator.confirmed(NAME, TAG)).toBe(OLD)
  return { replicator, proxy, epoch }
}

async function refused(...attempts: readonly (() => Promise<unknown>)[]): Promise<void> {
  for (const attempt of attempts) await expect(attempt()).rejects.toThrow(FreshnessUnavailableError)
}

/** The epoch is over for whoever hears, and nothing of it is confirmed in the next one. */
async function epochIsOver(replicator: SiteProcess, proxy: SiteProcess, epoch: string): Promise<void> {
  await until(() => replicator.beginWrite(NAME, [tagNamed('other')]), { what: 'Redis to be used again' })
  await refused(
    () => replicator.advance(epoch, site.now()),
    () => replicator.advance(epoch, site.now()),
  )
  await watermarkFor(replicator, site.now(), [proxy])
  expect(await replicator.confirmed(NAME, TAG)).toBe(undefined)
  await confirmNow(proxy, OLD)
  expect(await replicator.confirmed(NAME, TAG)).toBe(OLD)
}

describe('while Redis is away', () => {
  it('nothing is confirmed or recorded, and nothing is heard or written', async () => {
    const { replicator, proxy, epoch } = await covered()
    const asked = await proxy.observe(NAME, TAG)
    await redis.stop()

    await knowsNothing(proxy)
    expect(await proxy.stands(asked)).toBe(false)
    const all = await within(PULL_MS, proxy.observeAll(NAME, [TAG]))
    expect(await proxy.stands(all.get(TAG) ?? expect.unreachable())).toBe(false)
    await within(
      PULL_MS,
      refused(
        () => proxy.beginWrite(NAME, [TAG]),
        () => replicator.hear(NAME, [{ tag: TAG, digest: NEW }]),
        () => replicator.advance(epoch, site.now()),
        () => replicator.beginEpoch(),
      ),
    )
    expect(site.logged.filter((line) => line.includes('cannot be reached'))).toHaveLength(2)
  })

  it('a write goes on where nothing is served unasked, and has no outcome', async () => {
    const proxy = site.open()
    await back(proxy)
    await redis.stop()

    const write = await proxy.beginWrite(NAME, [TAG])

    expect((await proxy.endWrite(write)).size).toBe(0)
    const other = await proxy.beginWrite(NAME, [TAG])
    await redis.start()
    await back(proxy)
    expect((await proxy.endWrite(other)).size).toBe(0)
    expect((await proxy.endWrite(await proxy.beginWrite(NAME, [TAG]))).size).toBe(1)
  })

  it('a process may be started, and is closed in time', async () => {
    await redis.stop()
    const proxy = site.open(OPTIONS)
    await knowsNothing(proxy)
    const unused = site.open(OPTIONS)
    await within(PULL_MS, (async () => await unused[Symbol.asyncDispose]())())

    await redis.start()

    await back(proxy)
    await confirmNow(proxy, OLD)
    expect(await proxy.confirmed(NAME, TAG)).toBe(OLD)
  })

  it('an answer that was asked for during a write never stands afterwards, whose end nobody could be told', async () => {
    const [one, other] = [site.open(OPTIONS), site.open(OPTIONS)]
    const write = await one.beginWrite(NAME, [TAG])
    const during = await other.observe(NAME, TAG)
    await redis.command('CLIENT', 'PAUSE', '4000', 'ALL')

    expect((await within(4000, one.endWrite(write))).size).toBe(0)

    await until(async () => !(await other.stands(during)) && (await other.observe(NAME, TAG)).order > 0, {
      what: 'Redis to answer again',
    })
    await until(async () => (await one.observe(NAME, TAG)).order > 0, { what: 'the writer to be back' })
    expect(await other.confirm(during, OLD)).toBe(false)
  })
})

describe('when Redis is silent', () => {
  it('a pull waits for it once and shortly, and the epoch is over when it was for long', async () => {
    const { replicator, proxy, epoch } = await covered()
    redis.freeze()

    await within(PULL_MS, knowsNothing(proxy))
    await within(50, knowsNothing(proxy))
    await within(
      3000,
      refused(() => replicator.hear(NAME, [{ tag: OTHER_TAG, digest: NEW }])),
    )
    await refused(() => replicator.advance(epoch, site.now()))
    redis.thaw()

    await epochIsOver(replicator, proxy, epoch)
  })

  it('for a moment only, all goes on as it was', async () => {
    const { replicator, proxy, epoch } = await covered()
    redis.freeze()
    expect(await proxy.confirmed(NAME, TAG)).toBe(undefined)
    redis.thaw()

    await until(async () => (await proxy.confirmed(NAME, TAG)) === OLD, { what: 'Redis to answer' })
    await replicator.advance(epoch, site.now())
  })
})

describe('when Redis is back', () => {
  it.each([
    [
      'restarted empty',
      async () => {
        await redis.stop()
        await redis.start()
      },
    ],
    ['flushed', () => redis.command('FLUSHALL')],
    [
      'without the connections it had',
      () => redis.command('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes'),
    ],
    ['without the era', async () => await deleteKeys('*:era')],
  ])(
    '%s, what was observed or confirmed counts no more than before, and the epoch is over',
    async (_how, break_) => {
      const { replicator, proxy, epoch } = await covered()

      await break_()

      await epochIsOver(replicator, proxy, epoch)
    },
  )

  it('from an old snapshot, nothing of what the snapshot says is believed', async () => {
    const { replicator, proxy, epoch } = await covered()
    const asked = await proxy.observe(NAME, TAG)
    await redis.command('SAVE')
    const own = (await proxy.endWrite(await proxy.beginWrite(NAME, [TAG]))).get(TAG) ?? expect.unreachable()
    expect(await proxy.confirm(own, NEW)).toBe(true)

    await redis.stop()
    await redis.start()

    expect(Number(await redis.command('DBSIZE'))).toBeGreaterThan(0)
    for (const each of [proxy, replicator]) {
      await back(each)
      expect(await each.confirmed(NAME, TAG)).toBe(undefined)
      expect(await each.watermark()).toBe(undefined)
    }
    expect(await proxy.stands(asked)).toBe(false)
    expect(await proxy.confirm(asked, OLD)).toBe(false)
    await epochIsOver(replicator, proxy, epoch)
  })

  it('a new epoch knows what was heard in the minute before, though Redis has forgotten it', async () => {
    const { replicator, proxy } = await covered()
    await replicator.hear(NAME, [{ tag: TAG, digest: NEW }])
    await redis.command('FLUSHALL')

    await watermarkFor(replicator, site.now(), [proxy])

    await confirmNow(proxy, OLD)
    expect(await replicator.confirmed(NAME, TAG)).toBe(undefined)
    await confirmNow(proxy, NEW)
    expect(await replicator.confirmed(NAME, TAG)).toBe(NEW)
  })

  it('a write that it has forgotten has no outcome, nor has one that was begun meanwhile', async () => {
    const [one, other] = [site.open(OPTIONS), site.open(OPTIONS)]
    const forgotten = await one.beginWrite(NAME, [TAG])
    await redis.command('FLUSHALL')
    const meanwhile = await until(() => other.beginWrite(NAME, [TAG]), { what: 'Redis to be used again' })
    await back(one)

    expect((await one.endWrite(forgotten)).size).toBe(0)
    expect((await other.endWrite(meanwhile)).size).toBe(0)
  })
})

describe('when Redis has no room', () => {
  it('what it evicted is asked of the primary, and an epoch that lost a part of it is over', async () => {
    const { replicator, proxy, epoch } = await covered()
    const asked = await proxy.observe(NAME, TAG)

    await deleteKeys('*:repository:*')
    expect(await proxy.stands(asked)).toBe(false)
    expect(await replicator.confirmed(NAME, TAG)).toBe(undefined)
    await confirmNow(proxy, OLD)
    await deleteKeys(`*:watermark:${epoch}`)
    expect(await replicator.watermark()).toBe(undefined)
    await replicator.advance(epoch, site.now())
    await deleteKeys(`*:epoch:${epoch}`)

    expect((await proxy.observe(NAME, TAG)).epoch).toBe(undefined)
    await epochIsOver(replicator, proxy, epoch)
  })

  it('no process takes the answer of another for its own when the count of questions was evicted', async () => {
    const [one, other] = [site.open(OPTIONS), site.open(OPTIONS)]
    await confirmNow(one, OLD)

    await deleteKeys('*:repository:*')
    await confirmNow(other, NEW)

    expect(await one.confirmed(NAME, TAG)).toBe(undefined)
    expect(await other.confirmed(NAME, TAG)).toBe(NEW)
  })

  it('and refuses, events and writes are refused too, and it is said once', async () => {
    const { replicator, proxy } = await covered()
    await redis.command('CONFIG', 'SET', 'maxmemory', '1')

    await refused(
      () => replicator.hear(NAME, [{ tag: TAG, digest: NEW }]),
      () => replicator.hear(NAME, [{ tag: TAG, digest: NEW }]),
      () => proxy.beginWrite(NAME, [TAG]),
    )
    const observation = await proxy.observe(NAME, TAG)
    expect(await proxy.stands(observation)).toBe(false)

    expect(site.logged.filter((line) => line.includes('refuses'))).toHaveLength(2)
  })
})

async function deleteKeys(pattern: string): Promise<void> {
  const keys = (await redis.command('KEYS', pattern)).split('\n')
  expect(Number(await redis.command('DEL', ...keys))).toBeGreaterThan(0)
}

it('what was asked while another process wrote is not confirmed when that process loses Redis before it can say that it has written', async () => {
  const line = owned.use(await startLink({ target: redis.url }))
  const writer = site.open({ ...OPTIONS, url: `redis://${line.host}` })
  const reader = site.open(OPTIONS)
  const write = await writer.beginWrite(NAME, [TAG])
  const asked = await reader.observe(NAME, TAG)
  expect(await reader.confirm(asked, OLD)).toBe(true)

  line.refuse()
  line.cut()
  expect((await writer.endWrite(write)).size).toBe(0)
  expect(await reader.confirmed(NAME, TAG)).toBe(undefined)

  await line.accept()
  await until(
    async () => {
      await reader.confirm(await reader.observe(NAME, TAG), NEW)
      return (await reader.confirmed(NAME, TAG)) === NEW
    },
    { what: 'the tag to be confirmed again' },
  )
})
