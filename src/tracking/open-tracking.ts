/** The tracking database behind its port: SQLite in a file for a site of one process, Postgres for several. */
import type { Logger } from '../log.ts'
import type { RepositoryName } from '../oci/reference.ts'
import { acceptEvents } from './accept.ts'
import { chunksOf } from './chunks.ts'
import { nextLeaseNumber, raise } from './counters.ts'
import { countEverything } from './counts.ts'
import { deleteCursor, selectCursor, upsertCursor } from './cursors.ts'
import type { Database, Queries } from './database.ts'
import { deleteAllEvents, deleteThrough, lastArrival, lastSequence, selectEvents } from './events.ts'
import { deleteFailingTags, insertFailingTags, selectFailingTags } from './failing-tags.ts'
import { extendLease, numberLease, settleRepository, startRepository } from './leases.ts'
import { countMatching, deleteSome, resyncSome, reverifySome, type Turn } from './many-repositories.ts'
import { migrate } from './migrations.ts'
import { countOverdue, selectDue, selectOverdue, selectOverdueByActivity } from './next-work.ts'
import { openPostgres, type PostgresOptions } from './postgres-database.ts'
import { openSqlite } from './sqlite-database.ts'
import {
  deleteRepository,
  findRepository,
  insertMissing,
  insertOrDirty,
  listRepositories,
} from './tracked-repositories.ts'
import type { FailingTag, Lease, Settled, SyncOutcome, Tracking } from './tracking.ts'

export type TrackingOptions =
  | { readonly kind: 'sqlite'; readonly file: string }
  | ({ readonly kind: 'postgres' } & PostgresOptions)

export interface TrackingDeps {
  readonly log: Logger
  /** Wall-clock milliseconds; default `Date.now`. On Postgres leases go by the server's clock. */
  readonly now?: (() => number) | undefined
}

/** More overdue rows than this are not sorted, but looked for in the order wanted. */
const SORTED_AT_MOST = 10_000
/** Changed by a hand before others have a turn. */
const ROWS_AT_A_TIME = 250

/**
 * Opened, and migrated where needed. Throws `TrackingSchemaError` when a newer release has made it unusable for this one,
 * or the database's error; trying again is the caller's. Once open it mends itself: every call tries anew.
 */
export async function openTracking(options: TrackingOptions, deps: TrackingDeps): Promise<Tracking> {
  const now = deps.now ?? Date.now
  const database =
    options.kind === 'sqlite' ? await openSqlite(options.file, now) : openPostgres(options, deps.log, now)
  try {
    await migrate(database, deps.log, now)
  } catch (error) {
    await database[Symbol.asyncDispose]()
    throw error
  }
  return trackingOver(database, now)
}

function trackingOver(database: Database, now: () => number): Tracking {
  const { queries, transaction } = database

  return {
    accept: (events) => transaction((tx) => acceptEvents(tx, events, now())),
    pendingEvents: (path) => selectEvents(queries, path),

    touch: (paths, touch) =>
      transaction(async (tx) => {
        for (const chunk of chunksOf(eachOnce(paths))) await insertOrDirty(tx, chunk, touch, now())
      }),
    discover: (paths) =>
      transaction(async (tx) => {
        let found = 0
        for (const chunk of chunksOf(eachOnce(paths))) found += await insertMissing(tx, chunk, now())
        return found
      }),
    find: (path) => findRepository(queries, path),
    failingTags: (path) => selectFailingTags(queries, path),
    list: (filter) => listRepositories(queries, filter),
    counts: () => database.snapshot(countEverything),
    due: (nowMs, limit) => selectDue(queries, nowMs, limit),
    async reconcilable(inventoryBeforeMs, limit) {
      const overdue = await countOverdue(queries, inventoryBeforeMs, SORTED_AT_MOST + 1)
      return overdue > SORTED_AT_MOST
        ? await selectOverdueByActivity(queries, inventoryBeforeMs, limit)
        : await selectOverdue(queries, inventoryBeforeMs, SORTED_AT_MOST, limit)
    },

    lease: (path, ttlMs) =>
      transaction(async (tx) => {
        const nowMs = now()
        const row = await startRepository(tx, path, database.leaseClock(), nowMs, ttlMs)
        if (!row) return undefined
        const number = await nextLeaseNumber(tx)
        await numberLease(tx, row.id, number)
        return {
          repositoryId: row.id,
          path,
          number,
          // By this process's clock, whichever the database goes by: the holder compares it with its own.
          expiresAtMs: nowMs + ttlMs,
          change: row.change,
          retryCount: row.retry_count,
        }
      }),
    async renew(lease, ttlMs) {
      const expiresAtMs = now() + ttlMs
      const isOurs = await transaction((tx) => extendLease(tx, lease, database.leaseClock(), ttlMs))
      return isOurs ? { ...lease, expiresAtMs } : undefined
    },
    settle: (lease, outcome, appliedThrough) =>
      transaction((tx) => settle(tx, lease, outcome, appliedThrough, now())),

    resync: (filter, { dryRun }) =>
      dryRun
        ? countMatching(queries, filter)
        : inTurns((turn) => transaction((tx) => resyncSome(tx, filter, turn))),
    reverify: (filter, { dryRun }) =>
      dryRun
        ? countMatching(queries, filter)
        : inTurns((turn) => transaction((tx) => reverifySome(tx, filter, turn))),
    forget: (path, change) =>
      transaction(async (tx) => {
        if (!(await deleteRepository(tx, path, change)) && change !== undefined) return
        const last = await lastSequence(tx, path)
        if (last !== undefined) await applyThrough(tx, path, last)
      }),
    async clear() {
      await inTurns((turn) => transaction((tx) => deleteSome(tx, turn)))
      await transaction(async (tx) => {
        const last = await lastSequence(tx)
        if (last !== undefined) await raise(tx, 'applied_event', last)
        await deleteAllEvents(tx)
      })
    },

    cursor: (name) => selectCursor(queries, name),
    setCursor: (name, value) =>
      transaction((tx) => (value === undefined ? deleteCursor(tx, name) : upsertCursor(tx, name, value))),

    [Symbol.asyncDispose]: () => database[Symbol.asyncDispose](),
  }
}

async function settle(
  tx: Queries,
  lease: Lease,
  outcome: SyncOutcome,
  appliedThrough: number | undefined,
  nowMs: number,
): Promise<Settled> {
  const failingTags = outcome.kind === 'failed' ? lastOfEachTag(outcome.failingTags) : []
  const result = outcome.kind === 'failed' ? { ...outcome, failingTags } : outcome
  const settled = await settleRepository(tx, lease, result, nowMs)
  if (!settled) return 'stale'
  if (outcome.kind !== 'released') {
    await deleteFailingTags(tx, lease.repositoryId)
    for (const chunk of chunksOf(failingTags)) await insertFailingTags(tx, lease.repositoryId, chunk)
  }
  if (appliedThrough !== undefined) await applyThrough(tx, lease.path, appliedThrough)
  return settled.runAgain ? 'again' : 'done'
}

async function applyThrough(tx: Queries, path: RepositoryName, sequence: number): Promise<void> {
  const arrivedAtMs = await lastArrival(tx, path, sequence)
  await deleteThrough(tx, path, sequence)
  await raise(tx, 'applied_event', sequence)
  if (arrivedAtMs !== undefined) await raise(tx, 'applied_event_at', arrivedAtMs)
}

/**
 * A transaction each, for a million rows in one would keep jobs and events waiting for a minute (and with SQLite, which
 * works in this process, clients too). When the database goes away half-way the rest is as it was: asked again, it goes on.
 */
async function inTurns(change: (turn: Turn) => Promise<RepositoryName[]>): Promise<number> {
  let changed = 0
  let after: RepositoryName | undefined
  for (;;) {
    const paths = await change({ after, limit: ROWS_AT_A_TIME })
    changed += paths.length
    if (paths.length < ROWS_AT_A_TIME) return changed
    after = paths.reduce((last, path) => (path > last ? path : last))
  }
}

/** Sorted, so that two who change the same rows take them in the same order. */
function eachOnce(paths: readonly RepositoryName[]): RepositoryName[] {
  return [...new Set(paths)].sort()
}

function lastOfEachTag(tags: readonly FailingTag[]): FailingTag[] {
  return [...new Map(tags.map((tag) => [tag.tag, tag])).values()]
}
