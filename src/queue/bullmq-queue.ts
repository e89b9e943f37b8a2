/**
 * The queue of several processes: BullMQ on Redis. One job per key, whose id is the key, so that BullMQ's lock lets one
 * worker at a time run it; what is wanted of a key stands beside it (wanted-runs.ts), for an id that is taken says
 * nothing of a later wake-up. What a flushed Redis forgets are wake-ups; nothing here is the only record of work.
 */
import { Queue as BullQueue, type Job, Worker } from 'bullmq'
import { Redis } from 'ioredis'
import type { Logger } from '../log.ts'
import { askingOptions, type RedisUrl, workingOptions } from '../redis-connection.ts'
import type { Queue, Run, Wake } from './queue.ts'
import { createWantedRuns, type Wanted } from './wanted-runs.ts'

export interface BullmqQueueOptions {
  readonly url: RedisUrl
  /** Names the queue among all of this Redis; no colon. */
  readonly name: string
  /**
   * A run whose process did not answer for so long goes to another; default 30 000. It is looked for at half of that, so
   * it is begun anew after twice that at the latest.
   */
  readonly lockDurationMs?: number | undefined
}

interface JobData {
  readonly key: string
  /** What the job was added for; it may have been moved to sooner since. */
  readonly atMs: number
}

interface Running {
  readonly jobId: string
  readonly controller: AbortController
  readonly ended: Promise<void>
}

/** All keys of a queue begin with `geo-registry:<name>:`. */
const PREFIX = 'geo-registry'
/** BullMQ writes a stream of what happens, which nobody reads here. */
const EVENTS = { events: { maxLen: 100 } }
/** How long closing waits for Redis to take note of runs that have ended. */
const FAREWELL_MS = 3000

/** `wake`, `pause`, `resume`, `isPaused` and `depth` reject within seconds while Redis cannot be reached. */
export function createBullmqQueue({ log }: { readonly log: Logger }, options: BullmqQueueOptions): Queue {
  const { url, name, lockDurationMs = 30_000 } = options
  const redis = new Redis(askingOptions(url))
  const wanted = createWantedRuns(redis, `${PREFIX}:${name}:`)
  const running = new Map<string, Running>()
  /** What follows runs that have ended. */
  const following = new Set<Promise<void>>()
  let opening: Promise<BullQueue> | undefined
  let worker: LettingGo | undefined
  let stopping = false
  let closing: Promise<void> | undefined
  let saidAway = false

  redis.on('error', report)
  redis.on('ready', () => {
    if (saidAway) log.info({ queue: name }, 'Redis answers again')
    saidAway = false
  })

  /** Every attempt of every connection fails while Redis is away: said once. */
  function report(error: unknown): void {
    const away = redis.status !== 'ready'
    if (away && (saidAway || stopping)) return
    saidAway = away
    log.error(
      { error, queue: name },
      away ? 'Redis cannot be reached: nothing is begun until it can' : 'a step of the queue failed',
    )
  }

  /** BullMQ never recovers a queue whose first words with Redis failed, so each attempt before the first success is new. */
  function opened(): Promise<BullQueue> {
    opening ??= open().catch((error: unknown) => {
      opening = undefined
      throw error
    })
    return opening
  }

  async function open(): Promise<BullQueue> {
    await redis.ping()
    const queue = new BullQueue(name, { connection: redis, prefix: PREFIX, streams: EVENTS })
    queue.on('error', report)
    try {
      await queue.waitUntilReady()
      return queue
    } catch (error) {
      await queue.close()
      throw error
    }
  }

  async function wake({ key, priority, delayMs = 0 }: Wake): Promise<void> {
    await place(key, await wanted.add(key, { atMs: Date.now() + delayMs, priority }))
  }

  /** Repeats what another process may have undone at the same moment, until a look afterwards finds nothing sooner. */
  async function place(key: string, first: Wanted): Promise<void> {
    const queue = await opened()
    for (let latest = first; ; ) {
      await placeOnce(queue, key, latest)
      const now = await wanted.read(key)
      if (!now || (now.atMs === latest.atMs && now.priority === latest.priority)) return
      latest = now
    }
  }

  async function placeOnce(queue: BullQueue, key: string, { atMs, priority }: Wanted): Promise<void> {
    const jobId = jobIdOf(key)
    const delay = Math.max(0, Math.ceil(atMs - Date.now()))
    const data: JobData = { key, atMs }
    const add = () =>
      queue.add('run', data, { jobId, priority, delay, removeOnComplete: true, removeOnFail: true })
    await add() // Does nothing when the id is taken, and does not say so.
    const [state, job] = await Promise.all([queue.getJobState(jobId), queue.getJob(jobId)])
    // It has run, runs (when it ends, what is still wanted is looked at), or is next, taken over from a dead worker.
    if (!job || state === 'active' || state === 'waiting') return
    if (state === 'delayed' || state === 'prioritized') {
      if (state === 'delayed' && job.data.atMs > atMs) await unlessMoved(job.changeDelay(delay))
      if (job.priority > priority) await unlessMoved(job.changePriority({ priority }))
      return
    }
    // In no list (a Redis that evicts may lose one), or finished by an older version that keeps jobs: it blocks its key.
    await queue.remove(jobId)
    await add()
  }

  async function perform(run: Run, job: Job<JobData>): Promise<void> {
    const { key } = job.data
    const earlier = running.get(key)
    if (earlier || stopping) {
      // A flushed Redis has forgotten who runs this key. BullMQ knows runs by their job's id, the same for both, so this
      // one ends at once and its key comes again when the earlier one has ended.
      earlier?.controller.abort(new Error('Redis lost this run'))
      await earlier?.ended
      await wanted.add(key, { atMs: Date.now(), priority: job.priority })
      return
    }
    const controller = new AbortController()
    const ended = Promise.withResolvers<void>()
    running.set(key, { jobId: jobIdOf(key), controller, ended: ended.promise })
    try {
      await wanted.take(key).catch(report) // What is left there costs one more run.
      await run(key, controller.signal)
    } catch (error) {
      log.error({ error, key }, 'a run failed without settling what went wrong')
    } finally {
      running.delete(key)
      ended.resolve()
    }
    // Cut short here, it is for another process, or for this one when it is back.
    if (stopping) await wanted.add(key, { atMs: Date.now(), priority: job.priority }).catch(report)
  }

  /** A job has been removed; what came during its run becomes a job now. */
  function follow(key: string): void {
    const step = wanted
      .read(key)
      .then((left) => left && place(key, left))
      .catch(report)
      .finally(() => following.delete(step))
    following.add(step)
  }

  function startWorker(run: Run, concurrency: number): LettingGo {
    const started = new LettingGo(name, (job) => perform(run, job), {
      connection: workingOptions(url),
      prefix: PREFIX,
      concurrency,
      lockDuration: lockDurationMs,
      stalledInterval: lockDurationMs / 2,
      // Whoever was killed with a run says nothing about the run: the tracking database counts what fails.
      maxStalledCount: Number.MAX_SAFE_INTEGER,
      runRetryDelay: 1000,
    })
    started.on('error', report)
    started.on('completed', (job) => follow(job.data.key))
    started.on('failed', (job) => job && follow(job.data.key))
    started.on('lockRenewalFailed', (jobIds) => {
      for (const { jobId, controller } of running.values()) {
        if (jobIds.includes(jobId)) controller.abort(new Error('this run was lost to another worker'))
      }
    })
    return started
  }

  async function close(): Promise<void> {
    stopping = true
    // Forced while Redis is away: the other way waits for it, and its timer for locks would keep the process alive.
    const leaving = worker?.close(redis.status !== 'ready')
    for (const { controller } of running.values()) controller.abort(new Error('the queue is closed'))
    await Promise.all(running.values().map(({ ended }) => ended))
    if (worker && leaving && !(await settlesWithin(FAREWELL_MS, leaving))) {
      // BullMQ waits for a Redis that is away; its jobs are taken over once their locks have run out.
      await settlesWithin(FAREWELL_MS, worker.letGo()).catch(report)
    }
    await Promise.all(following)
    redis.disconnect()
  }

  return {
    wake,
    work(run, { concurrency }) {
      if (worker) throw new Error('this queue is being worked on already')
      worker = startWorker(run, concurrency)
    },
    pause: async () => await (await opened()).pause(),
    resume: async () => await (await opened()).resume(),
    isPaused: async () => await (await opened()).isPaused(),
    async depth() {
      const counts = await (await opened()).getJobCounts('waiting', 'prioritized', 'delayed', 'active')
      const { active = 0, ...waiting } = counts
      return { waiting: Object.values(waiting).reduce((sum, count) => sum + count, 0), running: active }
    },
    async [Symbol.asyncDispose]() {
      closing ??= close()
      await closing
    },
  }
}

class LettingGo extends Worker<JobData> {
  /** For when `close` waits for a Redis that is away: ends the connections, and the timer that would renew locks. */
  async letGo(): Promise<void> {
    await this.lockManager.close()
    await this.getBackend().close(true)
  }
}

/** BullMQ takes neither a colon nor a bare number. */
function jobIdOf(key: string): string {
  return `key-${encodeURIComponent(key)}`
}

/** BullMQ's codes of a job that is not there (-1) or not in that state (-3): a worker was quicker, which is all right. */
async function unlessMoved(change: Promise<void>): Promise<void> {
  try {
    await change
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && (error.code === -1 || error.code === -3))) throw error
  }
}

async function settlesWithin(limitMs: number, promise: Promise<unknown>): Promise<boolean> {
  const late = Promise.withResolvers<false>()
  const timer = setTimeout(late.resolve, limitMs, false)
  try {
    return await Promise.race([promise.then(() => true), late.promise])
  } finally {
    clearTimeout(timer)
  }
}
