/** What coordination does while Redis is away, and when it comes back as another than it was. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { CoordinationUnavailableError } from '../../src/store/coordination.ts'
import { type RedisServer, startRedis } from '../support/redis.ts'
import { until } from '../support/wait.ts'
import { coordinationOn, type RedisCoordination, reached, siteName } from './coordination-fixture.ts'

let redis: RedisServer
let one: RedisCoordination
let other: RedisCoordination
beforeEach(async () => {
  redis = await startRedis()
  const site = siteName()
  one = await coordinationOn(redis, site, { turnTtlMs: 1000 })
  other = await coordinationOn(redis, site, { turnTtlMs: 1000 })
})
afterEach(async () => {
  await one[Symbol.asyncDispose]()
  await other[Symbol.asyncDispose]()
  await redis[Symbol.asyncDispose]()
})

const questions = [
  ['run', () => one.run('key', async () => undefined)],
  ['bury', () => one.bury(['key'])],
  ['overrules', () => one.overrules(one.mark(), 'key')],
  ['reach', () => one.reach()],
] as const

describe.each([
  ['is killed', () => redis.stop(), () => redis.start()],
  ['is frozen', async () => redis.freeze(), async () => redis.thaw()],
])('when Redis %s', (_how, goAway, comeBack) => {
  it.each(questions)(
    '%s says within a second that it cannot, and works again afterwards',
    async (_what, ask) => {
      await goAway()
      const beganAt = performance.now()

      await expect(ask()).rejects.toBeInstanceOf(CoordinationUnavailableError)
      expect(performance.now() - beganAt).toBeLessThan(4000)

      await comeBack()
      await reached(one)
      await ask()
    },
  )

  it('a hundred questions wait hardly longer than one', async () => {
    await goAway()
    const beganAt = performance.now()
    for (let round = 0; round < 100; round++) await one.reach().catch(() => undefined)

    expect(performance.now() - beganAt).toBeLessThan(6000)
    await comeBack()
  })

  it('marks are given all the same', async () => {
    const before = one.mark()
    await goAway()

    expect(one.mark()).toMatchObject({ era: before.era, sequence: before.sequence })
    await comeBack()
  })

  it('a turn that was begun is ended, and the next comes when Redis is there', async () => {
    const gate = Promise.withResolvers<string>()
    // Begun again where a busy machine was later with an answer than is waited for.
    const begin = async () => {
      const begun = Promise.withResolvers<void>()
      const working = one.run('key', async () => {
        begun.resolve()
        return await gate.promise
      })
      await Promise.race([begun.promise, working])
      return { working }
    }
    const { working } = await until(begin, { what: 'the turn to have begun' })
    await goAway()
    gate.resolve('done')

    expect(await working).toBe('done')
    await comeBack()
    // Asked again where a busy machine was later with an answer than is waited for.
    for (const coordination of [one, other]) {
      const turn = () => coordination.run('key', async () => 'next')
      expect(await until(turn, { what: 'the next turn' })).toBe('next')
    }
  })
})

describe('a Redis that lost something', () => {
  it.each([
    ['was flushed', () => redis.command('flushall')],
    ['lost only the removals', () => redis.command('eval', DELETE_REMOVALS, '0')],
    ['was restarted, empty', restart],
  ])('and %s overrules every older mark, however many removals come', async (_how, lose) => {
    for (let number = 0; number < 5; number++) await one.bury([`removed ${number}`])
    await other.reach()
    const marks = [one.mark(), other.mark()]

    await lose()
    await reached(one)
    await reached(other)

    for (let number = 0; number < 10; number++) {
      for (const mark of marks) expect(await one.overrules(mark, 'x')).toBe(true)
      await other.bury([`removed again ${number}`])
    }
    await one.reach()
    expect(await one.overrules(one.mark(), 'x')).toBe(false)
  })

  it('is not believed when it comes back with an older snapshot', async () => {
    await one.bury(['removed 0'])
    await redis.command('save')
    for (let number = 1; number < 5; number++) await one.bury([`removed ${number}`])
    const mark = one.mark()

    await restart()
    await reached(one)
    await reached(other)

    expect(await one.overrules(mark, 'x')).toBe(true)
    for (let number = 0; number < 10; number++) await other.bury([`removed again ${number}`])
    expect(await one.overrules(mark, 'x')).toBe(true)
  })

  it('lets nobody wait long for a turn that it remembers and nobody has', async () => {
    await one.run('key', async () => {
      await redis.command('save')
    })
    await restart()
    await reached(other)

    expect(await other.run('key', async () => 'mine')).toBe('mine')
  })

  async function restart(): Promise<void> {
    await redis.stop()
    await redis.start()
  }
})

const DELETE_REMOVALS = "for _, key in ipairs(redis.call('keys', '*removals')) do redis.call('del', key) end"
