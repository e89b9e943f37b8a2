/** What every queue owes its callers. */
import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { PRIORITIES, type Queue, type WorkOptions } from '../../src/queue/queue.ts'

const { asked, event, reconcile } = PRIORITIES
const ONE: WorkOptions = { concurrency: 1 }
/** Far beyond what any of these tests waits for. */
const LATER_MS = 600_000

/** Runs that last until they are told to end. */
export interface Recorder extends Disposable {
  /** In the order they began. */
  readonly begun: string[]
  /** Under way, in the order they began, each with the signal it was given. */
  readonly open: { readonly key: string; readonly signal: AbortSignal; end(): void }[]
  /** The most that were under way at a time, of all keys and of any one. */
  readonly most: { all: number; ofOneKey: number }
  readonly run: (key: string, signal: AbortSignal) => Promise<void>
  /** From now on runs end by themselves, those under way too. */
  letAllEnd(): void
}

export function createRecorder(): Recorder {
  const begun: string[] = []
  const open: Recorder['open'] = []
  const most = { all: 0, ofOneKey: 0 }
  let ending = false
  function letAllEnd(): void {
    ending = true
    for (const { end } of open) end()
  }
  return {
    begun,
    open,
    most,
    async run(key, signal) {
      begun.push(key)
      const { promise, resolve } = Promise.withResolvers<void>()
      const entry = { key, signal, end: resolve }
      open.push(entry)
      most.all = Math.max(most.all, open.length)
      most.ofOneKey = Math.max(most.ofOneKey, open.filter((other) => other.key === key).length)
      if (ending) setImmediate(resolve)
      await promise
      open.splice(open.indexOf(entry), 1)
    },
    letAllEnd,
    [Symbol.dispose]: letAllEnd,
  }
}

/** Its deadline is the only limit: a queue that is busy may take its time, one that forgot never gets there. */
export async function eventually(expectation: () => void | Promise<void>): Promise<void> {
  await vi.waitFor(expectation, { timeout: 20_000, interval: 10 })
}

export function queueContract(make: () => Promise<{ readonly queue: Queue } & AsyncDisposable>): void {
  let subject: { readonly queue: Queue } & AsyncDisposable
  let queue: Queue
  let recorder: Recorder
  beforeEach(async () => {
    subject = await make()
    queue = subject.queue
    recorder = createRecorder()
  })
  afterEach(async () => {
    recorder.letAllEnd()
    await queue[Symbol.asyncDispose]()
    await subject[Symbol.asyncDispose]()
  })
  const wake = (
    key: string,
    priority = event as Parameters<Queue['wake']>[0]['priority'],
    delayMs?: number,
  ) => queue.wake({ key, priority, delayMs })
  /** Shows that what was expected to stay away did: whatever is woken last has run. */
  async function afterLastRun(): Promise<void> {
    recorder.letAllEnd()
    await wake('last', reconcile)
    await eventually(() => expect(recorder.begun.at(-1)).toBe('last'))
    await eventually(() => expect(recorder.open).toEqual([]))
  }

  describe('wake-ups', () => {
    it('of one key that come before it runs are one run', async () => {
      for (let count = 0; count < 20; count++) await wake('a/b')
      await Promise.all(Array.from({ length: 20 }, () => wake('a/b', asked)))

      queue.work(recorder.run, ONE)

      await eventually(() => expect(recorder.begun).toEqual(['a/b']))
      await afterLastRun()
      expect(recorder.begun).toEqual(['a/b', 'last'])
    })

    it('that come while it runs are one more run, begun when it has ended', async () => {
      queue.work(recorder.run, { concurrency: 3 })
      await wake('a')
      await eventually(() => expect(recorder.open).toHaveLength(1))

      for (let count = 0; count < 5; count++) await wake('a')
      await wake('b')
      await eventually(() => expect(recorder.begun).toEqual(['a', 'b']))
      recorder.open[0]?.end()

      await eventually(() => expect(recorder.begun).toEqual(['a', 'b', 'a']))
      await afterLastRun()
      expect(recorder.begun).toEqual(['a', 'b', 'a', 'last'])
      expect(recorder.most.ofOneKey).toBe(1)
    })

    it('are never lost, and no key runs twice at a time, however they fall', async () => {
      const keys = ['a', 'b', 'c']
      const seen = new Map<string, number>()
      let stamp = 0
      const under = new Set<string>()
      queue.work(
        async (key) => {
          expect(under.has(key)).toBe(false)
          under.add(key)
          seen.set(key, stamp)
          await delay(Math.random() * 4)
          under.delete(key)
        },
        { concurrency: 8 },
      )
      const lastWoken = new Map<string, number>()
      for (let round = 0; round < 150; round++) {
        const key = keys[round % keys.length] ?? ''
        stamp += 1
        lastWoken.set(key, stamp)
        await wake(key, [asked, event, reconcile][round % 2])
        if (round % 7 === 0) await delay(Math.random() * 5)
      }

      // The last wake-up of each key was followed by a run that began after it.
      await eventually(() => {
        for (const [key, at] of lastWoken) expect(seen.get(key)).toBeGreaterThanOrEqual(at)
      })
    })

    it('may be of any key', async () => {
      const keys = ['123', 'scrub:daily:1', 'ä %2F/', 'group/sub-group/a.b__c', 'x'.repeat(500), '__proto__']
      queue.work(recorder.run, { concurrency: keys.length })

      for (const key of keys) await wake(key)

      await eventually(() => expect(new Set(recorder.begun)).toEqual(new Set(keys)))
    })
  })

  describe('delays', () => {
    it('are waited for', async () => {
      queue.work(recorder.run, ONE)
      const wokenAt = Date.now()

      await wake('a', event, 300)
      await eventually(() => expect(recorder.begun).toEqual(['a']))

      expect(Date.now() - wokenAt).toBeGreaterThanOrEqual(298)
    })

    it.each([
      [LATER_MS, 0],
      [0, LATER_MS],
      [LATER_MS, 200],
      [200, LATER_MS],
    ])('of %d ms and then %d ms: the sooner one is kept', async (first, second) => {
      queue.work(recorder.run, ONE)

      await wake('a', event, first)
      await wake('a', event, second)

      await eventually(() => expect(recorder.begun).toEqual(['a']))
    })

    it.each([
      [LATER_MS, 0],
      [0, LATER_MS],
    ])('of %d ms and then %d ms while it runs: the sooner one is kept', async (first, second) => {
      queue.work(recorder.run, ONE)
      await wake('a')
      await eventually(() => expect(recorder.open).toHaveLength(1))

      await wake('a', event, first)
      await wake('a', event, second)
      recorder.open[0]?.end()

      await eventually(() => expect(recorder.begun).toEqual(['a', 'a']))
    })

    it('of a wake-up while it runs are waited for when it has ended', async () => {
      queue.work(recorder.run, ONE)
      await wake('a')
      await eventually(() => expect(recorder.open).toHaveLength(1))

      await wake('a', event, LATER_MS)
      await afterLastRun()

      expect(recorder.begun).toEqual(['a', 'last'])
      await eventually(async () => expect(await queue.depth()).toEqual({ waiting: 1, running: 0 }))
    })
  })

  describe('priorities', () => {
    /** A run that holds the only place, so that the others have to queue. */
    async function holdTheOnlyPlace(): Promise<void> {
      queue.work(recorder.run, ONE)
      await wake('first', asked)
      await eventually(() => expect(recorder.open).toHaveLength(1))
    }

    it('decide who is next, and among equals who came first', async () => {
      await holdTheOnlyPlace()

      await wake('r1', reconcile)
      await wake('e1', event)
      await wake('a1', asked)
      await wake('r2', reconcile)
      await wake('e2', event)
      await wake('a2', asked)
      recorder.letAllEnd()

      await eventually(() => expect(recorder.begun).toEqual(['first', 'a1', 'a2', 'e1', 'e2', 'r1', 'r2']))
    })

    it('of a waiting key rise with a more urgent wake-up and never fall', async () => {
      await holdTheOnlyPlace()

      await wake('other', event)
      await wake('risen', reconcile)
      await wake('stays', asked)
      await wake('risen', asked)
      await wake('stays', reconcile)
      recorder.letAllEnd()

      await eventually(() => expect(recorder.begun).toEqual(['first', 'stays', 'risen', 'other']))
    })

    it('of wake-ups that come while the key runs: the most urgent is kept', async () => {
      await holdTheOnlyPlace()

      await wake('first', asked)
      await wake('first', reconcile)
      for (const key of ['e1', 'e2', 'e3']) await wake(key, event)
      recorder.letAllEnd()
      await eventually(() => expect(recorder.begun).toHaveLength(5))

      // The worker may have chosen one other before the key was known to wait again.
      expect(recorder.begun.indexOf('first', 1)).toBeLessThanOrEqual(2)
    })

    it('hold for an entry whose time has come', async () => {
      await holdTheOnlyPlace()

      await wake('event', event)
      await wake('asked', asked, 20)
      await wake('raised', reconcile, 20)
      await wake('raised', asked, 40)
      await delay(100) // They come due while the only place is taken; nothing tells of that moment.
      recorder.letAllEnd()

      await eventually(() => expect(recorder.begun).toHaveLength(4))
      expect(recorder.begun.at(-1)).toBe('event')
    })
  })

  describe('runs', () => {
    it('go on together up to the concurrency', async () => {
      queue.work(recorder.run, { concurrency: 3 })
      for (let count = 0; count < 10; count++) await wake(`key ${count}`)

      await eventually(() => expect(recorder.open).toHaveLength(3))
      expect(await queue.depth()).toEqual({ waiting: 7, running: 3 })
      recorder.letAllEnd()
      await eventually(() => expect(recorder.begun).toHaveLength(10))

      expect(recorder.most.all).toBe(3)
      await eventually(async () => expect(await queue.depth()).toEqual({ waiting: 0, running: 0 }))
    })

    it('that fail hold up nobody and can be woken again', async () => {
      const begun: string[] = []
      queue.work(async (key) => {
        begun.push(key)
        if (key === 'bad') throw new Error('what the work should have settled')
      }, ONE)

      await wake('bad')
      await wake('good')
      await eventually(() => expect(begun).toEqual(['bad', 'good']))
      await wake('bad')

      await eventually(() => expect(begun).toEqual(['bad', 'good', 'bad']))
    })

    it('are begun by one worker a queue', async () => {
      queue.work(recorder.run, ONE)

      expect(() => queue.work(recorder.run, ONE)).toThrow(/already/)
    })
  })

  describe('a pause', () => {
    it('lets runs end and begins none until it is over', async () => {
      queue.work(recorder.run, ONE)
      await wake('under way')
      await eventually(() => expect(recorder.open).toHaveLength(1))

      await queue.pause()
      await wake('waits')
      await wake('delayed', event, 20)
      recorder.letAllEnd()
      await eventually(async () => expect(await queue.depth()).toEqual({ waiting: 2, running: 0 }))
      await delay(200) // Nothing tells of a run that does not begin.
      expect(await queue.isPaused()).toBe(true)
      expect(recorder.begun).toEqual(['under way'])
      await queue.resume()

      await eventually(() =>
        expect(new Set(recorder.begun)).toEqual(new Set(['under way', 'waits', 'delayed'])),
      )
      expect(await queue.isPaused()).toBe(false)
    })

    it('before the work begins holds too', async () => {
      await queue.pause()
      await wake('a')
      queue.work(recorder.run, ONE)
      await delay(200) // Nothing tells of a run that does not begin.
      expect(recorder.begun).toEqual([])

      await queue.resume()

      await eventually(() => expect(recorder.begun).toEqual(['a']))
    })
  })

  describe('closing', () => {
    it('aborts the runs under way, waits for them, and begins no other', async () => {
      queue.work(recorder.run, { concurrency: 2 })
      for (const key of ['a', 'b', 'c']) await wake(key)
      await eventually(() => expect(recorder.open).toHaveLength(2))
      const order: string[] = []

      const closing = queue[Symbol.asyncDispose]().then(() => order.push('closed'))
      await eventually(() => expect(recorder.open.map(({ signal }) => signal.aborted)).toEqual([true, true]))
      recorder.open[0]?.end()
      await eventually(() => expect(recorder.open).toHaveLength(1))
      order.push('the last run is told to end')
      recorder.letAllEnd()
      await closing

      expect(order).toEqual(['the last run is told to end', 'closed'])
      expect(recorder.begun).toHaveLength(2)
    })

    it('is quick when nothing runs, and may be asked for twice', async () => {
      queue.work(recorder.run, ONE)
      await wake('a', event, LATER_MS)
      const startedAt = performance.now()

      await Promise.all([queue[Symbol.asyncDispose](), queue[Symbol.asyncDispose]()])

      expect(performance.now() - startedAt).toBeLessThan(8000)
    })
  })
}
