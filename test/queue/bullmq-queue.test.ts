/** The queue on Redis keeps the contract, between processes too, whatever becomes of them. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createLogger } from '../../src/log.ts'
import { createBullmqQueue } from '../../src/queue/bullmq-queue.ts'
import { PRIORITIES, type Queue } from '../../src/queue/queue.ts'
import { createRecorder, eventually, queueContract } from '../contracts/queue.contract.ts'
import { type RedisServer, startRedis } from '../support/redis.ts'
import { nameOfQueue, startWorkerProcess } from './worker-process-start.ts'

const log = createLogger({ level: 'silent' })
const { asked, event, reconcile } = PRIORITIES
let redis: RedisServer
beforeAll(async () => {
  redis = await startRedis()
})
afterAll(() => redis[Symbol.asyncDispose]())

function open(name: string, lockDurationMs?: number): Queue {
  return createBullmqQueue({ log }, { url: redis.url, name, lockDurationMs })
}

describe('the queue on Redis', () => {
  queueContract(async () => ({
    queue: open(nameOfQueue()),
    [Symbol.asyncDispose]: async () => {},
  }))

  describe('of several processes', () => {
    it('shares the keys out and lets one of them run a key at a time', async () => {
      const name = nameOfQueue()
      await using one = open(name)
      await using other = open(name)
      const under = new Set<string>()
      const begunBy = new Map<Queue, number>()
      const lastWoken = new Map<string, number>()
      const seen = new Map<string, number>()
      for (const queue of [one, other]) {
        queue.work(
          async (key) => {
            expect(under.has(key)).toBe(false)
            under.add(key)
            begunBy.set(queue, (begunBy.get(queue) ?? 0) + 1)
            seen.set(key, lastWoken.get(key) ?? 0)
            await new Promise((resolve) => setTimeout(resolve, Math.random() * 5))
            under.delete(key)
          },
          { concurrency: 4 },
        )
      }

      for (let round = 0; round < 200; round++) {
        const key = `key ${round % 5}`
        lastWoken.set(key, round)
        await Promise.all([one, other].map((queue) => queue.wake({ key, priority: event })))
      }

      await eventually(() => expect(seen).toEqual(lastWoken))
      expect(begunBy.get(one)).toBeGreaterThan(0)
      expect(begunBy.get(other)).toBeGreaterThan(0)
    })

    it('keeps the soonest and most urgent of what they wish for at the same moment', async () => {
      const name = nameOfQueue()
      await using one = open(name)
      await using other = open(name)
      const keys = Array.from({ length: 100 }, (_, count) => `key ${count}`)
      using recorder = createRecorder()
      recorder.letAllEnd()
      await Promise.all([one, other].map((queue) => queue.wake({ key: 'first', priority: asked })))

      await Promise.all(
        keys.flatMap((key, index) => {
          const [odd, even] = index % 2 === 0 ? [one, other] : [other, one]
          return [
            odd.wake({ key, priority: reconcile, delayMs: 500_000 }),
            even.wake({ key, priority: asked, delayMs: 400_000 }),
            odd.wake({ key, priority: event, delayMs: 1500 }),
          ]
        }),
      )
      one.work(recorder.run, { concurrency: 1 })

      await eventually(() => expect(new Set(recorder.begun)).toEqual(new Set(['first', ...keys])))
      expect(await one.depth()).toEqual({ waiting: 0, running: 0 })
    })

    it('pauses in all of them', async () => {
      const name = nameOfQueue()
      await using one = open(name)
      await using other = open(name)
      using recorder = createRecorder()
      recorder.letAllEnd()
      other.work(recorder.run, { concurrency: 1 })

      await one.pause()
      await one.wake({ key: 'a', priority: event })
      expect(await other.isPaused()).toBe(true)
      expect(await other.depth()).toEqual({ waiting: 1, running: 0 })
      expect(recorder.begun).toEqual([])
      await one.resume()

      await eventually(() => expect(recorder.begun).toEqual(['a']))
    })

    it('runs a key anew whose process was killed, and what was wished for meanwhile with it', async () => {
      const name = nameOfQueue()
      await using queue = open(name, 1000)
      await using victim = await startWorkerProcess(redis.url, name, 1000)
      await queue.wake({ key: 'a', priority: reconcile })
      await eventually(() => expect(victim.lines).toEqual(['begun a']))
      using recorder = createRecorder()
      recorder.letAllEnd()
      queue.work(recorder.run, { concurrency: 1 })

      await queue.wake({ key: 'a', priority: event })
      await victim.kill()

      await eventually(() => expect(recorder.begun).toEqual(['a']))
      await eventually(async () => expect(await queue.depth()).toEqual({ waiting: 0, running: 0 }))
      await queue.wake({ key: 'a', priority: event })
      await eventually(() => expect(recorder.begun).toEqual(['a', 'a']))
    })

    it('takes over as often as processes die with a key', async () => {
      const name = nameOfQueue()
      await using queue = open(name, 300)
      await queue.wake({ key: 'deadly', priority: event })
      for (let count = 0; count < 3; count++) {
        await using victim = await startWorkerProcess(redis.url, name, 300)
        await eventually(() => expect(victim.lines).toEqual(['begun deadly']))
        await victim.kill()
      }
      using recorder = createRecorder()
      recorder.letAllEnd()

      queue.work(recorder.run, { concurrency: 1 })

      await eventually(() => expect(recorder.begun).toEqual(['deadly']))
    })

    it('tells a process that was frozen that its run is lost', async () => {
      const name = nameOfQueue()
      await using queue = open(name, 600)
      await using frozen = await startWorkerProcess(redis.url, name, 600)
      await queue.wake({ key: 'a', priority: event })
      await eventually(() => expect(frozen.lines).toEqual(['begun a']))
      using recorder = createRecorder()

      frozen.signal('SIGSTOP')
      queue.work(recorder.run, { concurrency: 1 })
      await eventually(() => expect(recorder.begun).toEqual(['a']))
      frozen.signal('SIGCONT')

      await eventually(() => expect(frozen.lines).toContain('aborted a: this run was lost to another worker'))
      recorder.letAllEnd()
      await eventually(async () => expect(await queue.depth()).toEqual({ waiting: 0, running: 0 }))
    })

    it('hands what a closing one had begun to another', async () => {
      const name = nameOfQueue()
      await using other = open(name)
      using recorder = createRecorder()
      {
        await using one = open(name)
        one.work(
          (_key, signal) => new Promise((resolve) => signal.addEventListener('abort', () => resolve())),
          { concurrency: 1 },
        )
        await one.wake({ key: 'cut short', priority: event })
        await eventually(async () => expect(await one.depth()).toEqual({ waiting: 0, running: 1 }))
      }
      recorder.letAllEnd()

      other.work(recorder.run, { concurrency: 1 })

      await eventually(() => expect(recorder.begun).toEqual(['cut short']))
    })
  })

  describe('with less in Redis than there was', () => {
    it('goes on when Redis has been flushed while keys wait and while one runs', async () => {
      const name = nameOfQueue()
      await using queue = open(name, 1000)
      using recorder = createRecorder()
      queue.work(recorder.run, { concurrency: 3 })
      await queue.wake({ key: 'a', priority: event })
      await eventually(() => expect(recorder.open).toHaveLength(1))
      await queue.wake({ key: 'forgotten', priority: event, delayMs: 600_000 })

      await redis.command('FLUSHALL')
      await queue.wake({ key: 'a', priority: event })
      await queue.wake({ key: 'b', priority: event })

      await eventually(() => expect(recorder.begun).toContain('b'))
      await eventually(() => expect(recorder.open[0]?.signal.aborted).toBe(true))
      recorder.letAllEnd()
      await eventually(() =>
        expect(recorder.begun.toSpliced(recorder.begun.indexOf('b'), 1)).toEqual(['a', 'a']),
      )
      expect(recorder.most.ofOneKey).toBe(1)
      await eventually(async () => expect(await queue.depth()).toEqual({ waiting: 0, running: 0 }))
      await queue.wake({ key: 'a', priority: event })
      await eventually(() => expect(recorder.begun).toHaveLength(4))
    })

    it.each(['prioritized', 'delayed'])(
      'runs a key whose entry vanished from the list of the %s',
      async (list) => {
        const name = nameOfQueue()
        await using queue = open(name)
        await queue.wake({ key: 'a', priority: event, delayMs: list === 'delayed' ? 600_000 : 0 })
        expect(await redis.command('ZREM', `geo-registry:${name}:${list}`, 'key-a')).toBe('1')
        using recorder = createRecorder()
        recorder.letAllEnd()
        queue.work(recorder.run, { concurrency: 1 })

        await queue.wake({ key: 'a', priority: event })

        await eventually(() => expect(recorder.begun).toEqual(['a']))
      },
    )
  })
})
