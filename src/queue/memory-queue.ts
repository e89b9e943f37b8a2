/** The queue of a site of one process: wake-ups in memory. A restart loses them, and the tracking database has the work. */
import type { Logger } from '../log.ts'
import type { Priority, Queue, Run, Wake } from './queue.ts'
import { PRIORITIES } from './queue.ts'

interface Entry {
  readonly atMs: number
  readonly priority: Priority
  /** Set while its time has not come. */
  timer?: NodeJS.Timeout
}

interface Running {
  readonly controller: AbortController
  readonly ended: Promise<void>
}

/** The longest that a timer of node can hold; an entry that is due later sleeps more than once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1

export function createMemoryQueue(
  { log }: { readonly log: Logger },
  { now = () => performance.now() }: { readonly now?: () => number } = {},
): Queue {
  /** One for each key that has to run, those included that are running now. */
  const entries = new Map<string, Entry>()
  /** Keys whose time has come and that are not running, by urgency, in the order they came. */
  const ready = new Map<Priority, Set<string>>(
    Object.values(PRIORITIES)
      .toSorted((one, other) => one - other)
      .map((priority) => [priority, new Set()]),
  )
  const running = new Map<string, Running>()
  let work: { readonly run: Run; readonly concurrency: number } | undefined
  let paused = false
  let stopped = false

  function wake({ key, priority, delayMs = 0 }: Wake): void {
    const before = entries.get(key)
    const entry: Entry = {
      atMs: Math.min(now() + delayMs, before?.atMs ?? Number.POSITIVE_INFINITY),
      priority: before && before.priority < priority ? before.priority : priority,
    }
    if (before && before.atMs === entry.atMs && before.priority === entry.priority) return
    if (before) withdraw(key, before)
    entries.set(key, entry)
    if (!running.has(key)) schedule(key, entry)
  }

  /** Neither waits for its time nor for its turn any more. */
  function withdraw(key: string, entry: Entry): void {
    clearTimeout(entry.timer)
    ready.get(entry.priority)?.delete(key)
    entries.delete(key)
  }

  function schedule(key: string, entry: Entry): void {
    if (stopped) return
    const waitMs = entry.atMs - now()
    if (waitMs > 0) {
      entry.timer = setTimeout(
        () => schedule(key, entry),
        Math.min(Math.ceil(waitMs), LONGEST_TIMER_MS),
      ).unref()
    } else {
      ready.get(entry.priority)?.add(key)
      begin()
    }
  }

  function begin(): void {
    while (work && !paused && !stopped && running.size < work.concurrency) {
      const key = ready
        .values()
        .find((keys) => keys.size > 0)
        ?.keys()
        .next().value
      const entry = key === undefined ? undefined : entries.get(key)
      if (key === undefined || entry === undefined) return
      withdraw(key, entry)
      const controller = new AbortController()
      const ended = Promise.withResolvers<void>()
      running.set(key, { controller, ended: ended.promise })
      void perform(work.run, key, controller.signal).then(ended.resolve)
    }
  }

  /** Never rejects. */
  async function perform(run: Run, key: string, signal: AbortSignal): Promise<void> {
    try {
      await run(key, signal)
    } catch (error) {
      log.error({ error, key }, 'a run failed without settling what went wrong')
    }
    running.delete(key)
    const again = entries.get(key)
    if (again) schedule(key, again)
    begin()
  }

  async function close(): Promise<void> {
    stopped = true
    for (const entry of entries.values()) clearTimeout(entry.timer)
    for (const { controller } of running.values()) controller.abort(new Error('the queue is closed'))
    await Promise.all(running.values().map(({ ended }) => ended))
  }

  return {
    async wake(wanted) {
      wake(wanted)
    },
    work(run, { concurrency }) {
      if (work) throw new Error('this queue is being worked on already')
      work = { run, concurrency }
      begin()
    },
    async pause() {
      paused = true
    },
    async resume() {
      paused = false
      begin()
    },
    isPaused: async () => paused,
    async depth() {
      const dirty = running.keys().reduce((count, key) => count + (entries.has(key) ? 1 : 0), 0)
      return { waiting: entries.size - dirty, running: running.size }
    },
    [Symbol.asyncDispose]: close,
  }
}
