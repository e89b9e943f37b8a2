import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { keyedMutexContract } from '../contracts/keyed-mutex.contract.ts'
import { tombstonesContract } from '../contracts/tombstones.contract.ts'
import { type Program, startProgram } from '../support/process.ts'
import { type RedisServer, startRedis } from '../support/redis.ts'
import { until } from '../support/wait.ts'
import { coordinationOn, type RedisCoordination, siteName } from './coordination-fixture.ts'

let redis: RedisServer
beforeAll(async () => {
  redis = await startRedis()
})
afterAll(() => redis[Symbol.asyncDispose]())

async function pair(maxRemovals?: number) {
  const site = siteName()
  const owned = new AsyncDisposableStack()
  const one = owned.use(await coordinationOn(redis, site, { maxRemovals }))
  const other = owned.use(await coordinationOn(redis, site, { maxRemovals }))
  return { one, other, [Symbol.asyncDispose]: () => owned.disposeAsync() }
}

describe('between processes, by Redis', () => {
  keyedMutexContract(() => pair())
  tombstonesContract(async () => {
    const maxKept = 50
    return { ...(await pair(maxKept)), maxKept }
  })
})

describe('a holder', () => {
  it.each(['SIGKILL', 'SIGSTOP'] as const)(
    'that gets a %s keeps the others waiting no longer than its turn is renewed for',
    async (signal) => {
      const site = siteName()
      await using one = await coordinationOn(redis, site)
      await using holder = await startHolder(site, 600, 'team/app')
      holder.signal(signal)
      const beganAt = performance.now()

      expect(await one.run('team/app', async () => 'mine')).toBe('mine')

      expect(performance.now() - beganAt).toBeLessThan(2000)
    },
  )

  it('keeps its turn for as long as it works, however often that is renewed', async () => {
    const site = siteName()
    await using one = await coordinationOn(redis, site)
    await using holder = await startHolder(site, 150, 'team/app')
    const beganAt = performance.now()
    let had = false
    const asked = one
      .run('team/app', async () => {
        had = true
      })
      .catch(() => undefined)

    // As many renewals as it takes to see that none is missed.
    await until(() => performance.now() - beganAt > 900, { what: 'six terms to pass' })

    expect(had).toBe(false)
    await holder.kill()
    await asked
  })

  it('whose answer was lost has its own turn again, without waiting for it to end', async () => {
    await using both = await pair()
    const { one, other } = both
    await one.run('key', async () => undefined)
    // Frozen, Redis takes the question and answers too late.
    redis.freeze()
    await expect(one.run('key', async () => undefined)).rejects.toThrow(/Redis/)
    redis.thaw()
    await until(() => one.reach().then(() => true), { what: 'Redis to answer' })
    const beganAt = performance.now()

    expect(await one.run('key', async () => 'again')).toBe('again')

    expect(performance.now() - beganAt).toBeLessThan(2500)
    expect(await other.run('key', async () => 'other')).toBe('other')
  })

  async function startHolder(site: string, ttlMs: number, key: string): Promise<Program> {
    const lines: string[] = []
    const script = join(import.meta.dirname, 'holding-process.ts')
    const program = await startProgram(process.execPath, [script, redis.url, site, String(ttlMs), key], {
      onLine: (line) => lines.push(line),
    })
    await until(() => lines.includes('held'), { what: 'the holder to have its turn' })
    return program
  }
})

describe('marks', () => {
  it('given before Redis was ever asked are overruled', async () => {
    await using both = await pair()
    const { one } = both

    expect(await one.overrules({ era: '', sequence: 0, atMs: 0 }, 'x')).toBe(true)
    expect(await one.overrules({ era: '', sequence: 1e9, atMs: 0 }, 'x')).toBe(true)
  })

  it('are all overruled when a removal could not be recorded, those of other processes too', async () => {
    await using both = await pair()
    const { one, other } = both
    const marks = [one.mark(), other.mark()]

    one.overruleAll()
    await one.reach()

    for (const mark of marks) {
      expect(await one.overrules(mark, 'x')).toBe(true)
      expect(await other.overrules(mark, 'x')).toBe(true)
    }
    expect(await one.overrules(one.mark(), 'x')).toBe(false)
    await becomesYoung(other)
  })

  it('of one site are nothing to another', async () => {
    await using one = await coordinationOn(redis, siteName())
    await using stranger = await coordinationOn(redis, siteName())
    const mark = stranger.mark()
    await one.bury(['a'])

    expect(await stranger.overrules(mark, 'a')).toBe(false)
    expect(await stranger.overrules(one.mark(), 'a')).toBe(true)
  })
})

/** Its next mark counts: it has learned of the era without anything being removed. */
async function becomesYoung(coordination: RedisCoordination): Promise<void> {
  await until(async () => !(await coordination.overrules(coordination.mark(), 'x')), {
    what: 'a mark of the new era',
  })
}
