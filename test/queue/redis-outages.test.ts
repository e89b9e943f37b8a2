/** What callers and workers of the queue get while Redis is away, slow to say so, or back. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createLogger } from '../../src/log.ts'
import { createBullmqQueue } from '../../src/queue/bullmq-queue.ts'
import { PRIORITIES, type Queue } from '../../src/queue/queue.ts'
import { createRecorder, eventually, type Recorder } from '../contracts/queue.contract.ts'
import { freePort } from '../support/port.ts'
import { type RedisServer, startRedis } from '../support/redis.ts'
import { nameOfQueue } from './worker-process-start.ts'

const priority = PRIORITIES.event
const ONE = { concurrency: 1 }
/** A few seconds: what an event's sender is left to wait for its answer. */
const BOUND_MS = 5000

let owned: AsyncDisposableStack
let recorder: Recorder
/** What was logged at `error`. */
let errors: string[]
beforeEach(() => {
  owned = new AsyncDisposableStack()
  recorder = createRecorder()
  errors = []
})
afterEach(async () => {
  recorder.letAllEnd()
  await owned.disposeAsync()
})

async function redisServer(...options: Parameters<typeof startRedis>): Promise<RedisServer> {
  return owned.use(await startRedis(...options))
}

function open(url: string | (() => string), name: string = nameOfQueue()): Queue {
  const log = createLogger({ level: 'error', destination: { write: (line) => void errors.push(line) } })
  return owned.use(createBullmqQueue({ log }, { url, name }))
}

/** The error that something rejects with, which must come in time. */
async function refusal(asking: () => Promise<unknown>): Promise<unknown> {
  const startedAt = performance.now()
  const error = await asking().then(
    () => expect.unreachable('it was to be refused'),
    (reason: unknown) => reason,
  )
  expect(performance.now() - startedAt).toBeLessThan(BOUND_MS)
  return error
}

describe('the queue while Redis is away', () => {
  it('refuses wake-ups in time, and goes on with what was there when Redis is back', async () => {
    const redis = await redisServer({ persistent: true })
    const queue = open(redis.url)
    queue.work(recorder.run, ONE)
    await queue.wake({ key: 'under way', priority })
    await eventually(() => expect(recorder.open).toHaveLength(1))
    await queue.wake({ key: 'waits', priority })

    await redis.stop()
    for (let count = 0; count < 3; count++) {
      expect(await refusal(() => queue.wake({ key: 'refused', priority }))).toBeInstanceOf(Error)
    }
    expect(await refusal(() => queue.isPaused())).toBeInstanceOf(Error)
    expect(await refusal(() => queue.depth())).toBeInstanceOf(Error)
    recorder.letAllEnd() // It ends while nobody can be told.
    await eventually(() => expect(recorder.open).toHaveLength(0))
    await redis.start()

    await eventually(() => expect(recorder.begun).toContain('waits'))
    await eventually(() => queue.wake({ key: 'woken later', priority }))
    await eventually(() => expect(recorder.begun).toContain('woken later'))
    await eventually(async () => expect(await queue.depth()).toEqual({ waiting: 0, running: 0 }))
    expect(errors.filter((line) => line.includes('cannot be reached'))).toHaveLength(1)
  })

  it('goes on where Redis came back empty', async () => {
    const redis = await redisServer()
    const queue = open(redis.url)
    queue.work(recorder.run, ONE)
    recorder.letAllEnd()
    await queue.wake({ key: 'a', priority })
    await eventually(() => expect(recorder.begun).toEqual(['a']))
    await queue.wake({ key: 'a', priority, delayMs: 600_000 })

    await redis.stop()
    await redis.start()
    await eventually(() => queue.wake({ key: 'a', priority }))

    await eventually(() => expect(recorder.begun).toEqual(['a', 'a']))
  })

  it('refuses wake-ups in time when Redis accepts connections and never answers', async () => {
    const redis = await redisServer()
    const queue = open(redis.url)
    queue.work(recorder.run, ONE)
    await queue.wake({ key: 'delayed', priority, delayMs: 600_000 })

    redis.freeze()
    expect(await refusal(() => queue.wake({ key: 'refused', priority }))).toBeInstanceOf(Error)
    redis.thaw()

    await eventually(() => queue.wake({ key: 'a', priority }))
    await eventually(() => expect(recorder.begun).toContain('a'))
  })

  it('may be started before Redis is', async () => {
    const redis = await redisServer()
    await redis.stop()
    const queue = open(redis.url)
    recorder.letAllEnd()

    queue.work(recorder.run, ONE)
    expect(await refusal(() => queue.wake({ key: 'refused', priority }))).toBeInstanceOf(Error)
    expect(await refusal(() => queue.isPaused())).toBeInstanceOf(Error)
    await redis.start()

    await eventually(() => queue.wake({ key: 'a', priority }))
    await eventually(() => expect(recorder.begun).toContain('a'))
  })

  it('is closed in time when Redis never came', async () => {
    const queue = open(`redis://127.0.0.1:${await freePort()}`)
    queue.work(recorder.run, ONE)
    const startedAt = performance.now()

    await queue[Symbol.asyncDispose]()

    expect(performance.now() - startedAt).toBeLessThan(8000)
  })

  it('is closed in time when Redis went away under a run', async () => {
    const redis = await redisServer()
    const queue = open(redis.url)
    queue.work(recorder.run, ONE)
    await queue.wake({ key: 'a', priority })
    await eventually(() => expect(recorder.open).toHaveLength(1))
    await redis.stop()
    recorder.letAllEnd()
    const startedAt = performance.now()

    await queue[Symbol.asyncDispose]()

    expect(performance.now() - startedAt).toBeLessThan(10_000)
  })

  it('stays paused, and keeps its entries, over a restart of itself and of Redis', async () => {
    const redis = await redisServer({ persistent: true })
    const name = nameOfQueue()
    recorder.letAllEnd()
    {
      await using before = open(redis.url, name)
      await before.pause()
      await before.wake({ key: 'a', priority })
    }
    await redis.stop()
    await redis.start()

    const queue = open(redis.url, name)
    queue.work(recorder.run, ONE)

    expect(await queue.isPaused()).toBe(true)
    expect(await queue.depth()).toEqual({ waiting: 1, running: 0 })
    await queue.resume()
    await eventually(() => expect(recorder.begun).toEqual(['a']))
  })

  it('takes a rotated password when its connections are cut', async () => {
    const redis = await redisServer({ password: 'first/: one' })
    let url = redis.url
    const queue = open(() => url)
    queue.work(recorder.run, ONE)
    recorder.letAllEnd()
    await queue.wake({ key: 'a', priority })
    await eventually(() => expect(recorder.begun).toEqual(['a']))

    await redis.command('CONFIG', 'SET', 'requirepass', 'second')
    url = `redis://:second@127.0.0.1:${redis.port}`
    await redis.command(
      '-a',
      'second',
      '--no-auth-warning',
      'CLIENT',
      'KILL',
      'TYPE',
      'normal',
      'SKIPME',
      'yes',
    )

    await eventually(() => queue.wake({ key: 'b', priority }))
    await eventually(() => expect(recorder.begun).toEqual(['a', 'b']))
  })

  it('reaches Redis by a socket and in another database', async () => {
    const redis = await redisServer()
    const queue = open(`${redis.socketUrl}?db=3`)
    queue.work(recorder.run, ONE)
    recorder.letAllEnd()

    await queue.wake({ key: 'a', priority })
    await eventually(() => expect(recorder.begun).toEqual(['a']))
    await open(`${redis.url}/5`).wake({ key: 'a', priority })

    expect(await redis.command('INFO', 'keyspace')).toMatch(/^db3:.*\r?\ndb5:/m)
    expect(await redis.command('DBSIZE')).toBe('0')
  })

  it.each(['http://127.0.0.1:6379', 'redis-password'])('refuses %s without repeating it', (url) => {
    expect(() => open(url)).toThrow(/expected a URL of Redis/)
    expect(() => open(url)).not.toThrow(url)
  })
})
