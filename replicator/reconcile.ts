/**
 * What makes everything else only hints: work that is due is woken again every few seconds, so that no lost wake-up
 * matters, and every repository is compared with the primary once a period, whatever was heard or not heard of it.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { Logger } from '../src/log.ts'
import type { Metrics } from '../src/metrics.ts'
import type { RepositoryName } from '../src/oci/reference.ts'
import { PRIORITIES, type Priority } from '../src/queue/queue.ts'
import type { Tracking } from '../src/tracking/tracking.ts'
import { UpstreamError } from '../src/upstream/errors.ts'
import type { Brake } from './brake.ts'
import { type CompareDeps, type Comparison, compareRepositories } from './compare-repositories.ts'
import { missedMark, noteMissed } from './missed.ts'

export interface ReconcilerDeps extends CompareDeps {
  readonly tracking: CompareDeps['tracking'] &
    Pick<Tracking, 'due' | 'reconcilable' | 'counts' | 'cursor' | 'setCursor'>
  readonly brake: Pick<Brake, 'allows' | 'beginPass' | 'status'>
  readonly log: Pick<Logger, 'info' | 'warn'>
  readonly metrics: Pick<Metrics, 'reconcilePeriodSeconds'>
  /** Wall-clock milliseconds; default `Date.now`. */
  readonly now?: (() => number) | undefined
}

export interface ReconcilerOptions {
  /** Within which every repository is compared with the primary: `replication.reconcile`, default 24 h. */
  readonly reconcileMs: number
  /** Between two looks at what is due; default 5000. */
  readonly pollMs?: number | undefined
  /** The most that one look wakes; default 500. */
  readonly batch?: number | undefined
}

export interface PassReport extends Comparison {
  readonly startedAtMs: number
  readonly endedAtMs: number
}

export interface ReconcilerStatus {
  /** The last pass that was completed, by this process or the one before it. */
  readonly lastPass: PassReport | undefined
  readonly passRunning: boolean
  /**
   * Why the primary's repositories could not be listed, since when; undefined once they could. `refused`: the primary does
   * not let this site's own credential list them, and no repetition changes that.
   */
  readonly failure:
    | { readonly message: string; readonly sinceMs: number; readonly refused: boolean }
    | undefined
  /** Age of the oldest inventory, the period achieved; undefined while a repository has none. */
  readonly periodMs: number | undefined
}

export interface Reconciler {
  /** Begins to look and to pass, at once and then every period. */
  start(): void
  /** Resolves when nothing of it runs any more. */
  close(): Promise<void>
  /** A pass now, after the one that may be running. Rejects with what kept it from being complete. */
  passNow(): Promise<PassReport>
  /**
   * Events may have been missed: every repository is due, and so is a pass. Durable when it resolves; the work itself goes
   * on by and by. Rejects with the tracking database's error.
   */
  compareEverything(): Promise<void>
  status(): ReconcilerStatus
}

const CURSOR = 'reconcile'
/** Since when removals are counted by passes of which none was completed yet, in wall-clock milliseconds. */
const COUNTING = 'reconcile counting'
/** What the cursor holds: the last pass, the release of the brake and the `missedMark` that it served, and its `COUNTING`. */
type Saved = PassReport & {
  readonly releasedAtMs?: number | undefined
  readonly asked?: string | undefined
  readonly countingSinceMs?: number | undefined
}

/** `sinceMs`: the first of `count` in a row. `atMs`: the last, after which the next try waits `backoffMs`. */
interface Failure {
  readonly message: string
  readonly refused: boolean
  readonly sinceMs: number
  readonly count: number
  readonly atMs: number
  readonly backoffMs: number
}

/** Rows read at a time where all of them are gone through. */
const PAGE = 1000
const MEASURE_EVERY_MS = 60_000
const LONGEST_BACKOFF_MS = 10 * 60_000
/**
 * Shares of the period. Repositories copied in one night would come due in one night again: from half of the period on
 * they are compared at the pace that takes `PACE` of it for all, and what is not by `OVERDUE` as fast as may be.
 */
const EARLIEST = 0.5
const OVERDUE = 0.75
const PACE = 0.8

export function createReconciler(deps: ReconcilerDeps, options: ReconcilerOptions): Reconciler {
  const { tracking, queue, brake, log, metrics, now = Date.now } = deps
  const { reconcileMs, pollMs = 5000, batch = 500 } = options
  const closing = new AbortController()
  let looking: Promise<void> | undefined
  let lookFailed = false
  let lookedAtMs: number | undefined
  let measured: { atMs: number; synced: number; oldestInventoryAtMs: number | undefined } | undefined
  let allowance = 0
  let passes: Promise<unknown> = Promise.resolve()
  let running = 0
  let failure: Failure | undefined
  let lastPass: PassReport | undefined

  async function saved(): Promise<Saved | undefined> {
    const text = await tracking.cursor(CURSOR)
    return text === undefined ? undefined : (JSON.parse(text) as Saved)
  }

  async function wakeDue(): Promise<void> {
    const due = await tracking.due(now(), batch)
    await Promise.all(
      due.map(({ path, priority }) => queue.wake({ key: path, priority: priorityOf(priority) })),
    )
  }

  /** They count as in step, as of their last inventory, until their jobs begin. */
  async function wakeReconcilable(): Promise<void> {
    const sinceMs = lookedAtMs === undefined ? 0 : Math.max(0, now() - lookedAtMs)
    lookedAtMs = now()
    allowance = Math.min(batch, allowance + ((measured?.synced ?? 0) * sinceMs) / (reconcileMs * PACE))
    const few = Math.floor(allowance)
    const early = few > 0 ? await tracking.reconcilable(now() - reconcileMs * EARLIEST, few) : []
    allowance -= early.length
    const overdue = await tracking.reconcilable(now() - reconcileMs * OVERDUE, batch)
    const names = new Set([...overdue, ...early])
    await Promise.all([...names].map((key) => queue.wake({ key, priority: PRIORITIES.reconcile })))
  }

  async function measure(): Promise<void> {
    const ageMs = now() - (measured?.atMs ?? Number.NEGATIVE_INFINITY)
    if (ageMs >= 0 && ageMs < MEASURE_EVERY_MS) return
    const { byState, oldestInventoryAtMs } = await tracking.counts()
    measured = { atMs: now(), synced: byState.synced, oldestInventoryAtMs }
    metrics.reconcilePeriodSeconds.set((periodMs() ?? Number.NaN) / 1000)
  }

  function periodMs(): number | undefined {
    const oldestAtMs = measured?.oldestInventoryAtMs
    return oldestAtMs === undefined ? undefined : Math.max(0, now() - oldestAtMs)
  }

  async function look(): Promise<void> {
    try {
      await measure()
      await wakeDue()
      await wakeReconcilable()
      if (await isPassDue()) void pass().catch(() => {}) // It has been logged, and is tried again.
      if (lookFailed) log.info('the tracking database and the queue answer again')
      lookFailed = false
    } catch (error) {
      if (!lookFailed) log.warn({ error }, 'what is due could not be looked up or woken: tried again')
      lookFailed = true
    }
  }

  async function isPassDue(): Promise<boolean> {
    const waitedMs = now() - (failure?.atMs ?? 0)
    if (running > 0 || (failure && waitedMs >= 0 && waitedMs < failure.backoffMs)) return false
    const before = await saved()
    lastPass ??= before
    if (!before) return true
    const ageMs = now() - before.startedAtMs
    if (ageMs >= reconcileMs || ageMs < 0 || (await unservedRelease(before)) !== undefined) return true
    return (await missedMark(tracking)) !== before.asked
  }

  /** A release lets through what waited, so what waited is named again without beginning anew what it lets through. */
  async function unservedRelease(before: Saved | undefined): Promise<number | undefined> {
    const { releasedAtMs } = await brake.status()
    return releasedAtMs === before?.releasedAtMs ? undefined : releasedAtMs
  }

  function pass(): Promise<PassReport> {
    running++
    const result = passes.then(onePass).finally(() => running--)
    passes = result.catch(() => {}) // The next one begins whatever came of this one.
    return result
  }

  /**
   * A pass that failed and is tried again goes on with the same count, as does one that comes early because everything was
   * to be compared, and a release that no pass could serve ends after a period: else a catalog that cannot be had, or a
   * relay that loses its log over and over, would disarm the brake. Since when it counts.
   */
  async function beginCounting(
    atMs: number,
    releasedAtMs: number | undefined,
    earlierMs: number,
  ): Promise<number> {
    const sinceMs = Number((await tracking.cursor(COUNTING)) ?? earlierMs)
    const ageMs = atMs - Math.max(sinceMs, releasedAtMs ?? 0)
    if (ageMs >= 0 && ageMs < reconcileMs) return sinceMs
    await brake.beginPass()
    await tracking.setCursor(COUNTING, String(atMs))
    return atMs
  }

  async function onePass(): Promise<PassReport> {
    const startedAtMs = now()
    try {
      const before = await saved()
      const releasedAtMs = await unservedRelease(before)
      const asked = await missedMark(tracking)
      const earlierMs = asked === before?.asked ? 0 : (before?.countingSinceMs ?? 0)
      const countingSinceMs = await beginCounting(startedAtMs, releasedAtMs, earlierMs)
      closing.signal.throwIfAborted()
      const comparison = await compareRepositories(deps, startedAtMs, closing.signal)
      const report = { ...comparison, startedAtMs, endedAtMs: now() }
      const served = { ...report, releasedAtMs, asked, countingSinceMs } satisfies Saved
      await tracking.setCursor(CURSOR, JSON.stringify(served))
      await tracking.setCursor(COUNTING, undefined)
      lastPass = report
      failure = undefined
      const calm = comparison.gone + comparison.disallowed === 0
      log[calm ? 'info' : 'warn'](report, "the primary's repositories were compared with this site's")
      return report
    } catch (error) {
      if (!closing.signal.aborted) tell(error)
      throw error
    }
  }

  function tell(error: unknown): void {
    const message = error instanceof Error ? error.message : String(error)
    if (!failure) {
      log.warn(
        { error },
        "the primary's repositories could not be compared: nothing is removed, and it is tried again",
      )
    }
    const count = (failure?.count ?? 0) + 1
    const backoffMs = Math.min(LONGEST_BACKOFF_MS, pollMs * 2 ** count) * (0.75 + Math.random() / 4)
    const refused = error instanceof UpstreamError && ['unauthorized', 'denied'].includes(error.kind)
    failure = { message, refused, sinceMs: failure?.sinceMs ?? now(), count, atMs: now(), backoffMs }
  }

  async function compareEverything(): Promise<void> {
    await noteMissed(tracking, now())
    for (let after: RepositoryName | undefined; ; ) {
      const rows = await tracking.list({ after, limit: PAGE })
      await tracking.touch(
        rows.map(({ path }) => path),
        { priority: PRIORITIES.reconcile },
      )
      after = rows.at(-1)?.path
      if (after === undefined) return
    }
  }

  async function lookAgainAndAgain(): Promise<void> {
    while (!closing.signal.aborted) {
      await look()
      await delay(pollMs, undefined, { signal: closing.signal, ref: false }).catch(() => {}) // Closed: it ends.
    }
  }

  return {
    start() {
      looking ??= lookAgainAndAgain()
    },
    async close() {
      closing.abort()
      await looking
      await passes
    },
    passNow: pass,
    compareEverything,
    status: () => ({
      lastPass,
      passRunning: running > 0,
      failure: failure && { message: failure.message, sinceMs: failure.sinceMs, refused: failure.refused },
      periodMs: periodMs(),
    }),
  }
}

function priorityOf(priority: number): Priority {
  if (priority <= PRIORITIES.asked) return PRIORITIES.asked
  return priority <= PRIORITIES.event ? PRIORITIES.event : PRIORITIES.reconcile
}
