/**
 * Who may write a repository's results: a numbered lease. What a job does while its lease is another's by then cannot be
 * undone at the primary or in the store (it need not be), but here it leaves no trace.
 */
import { type RawBuilder, sql } from 'kysely'
import type { RepositoryName } from '../oci/reference.ts'
import type { Queries } from './database.ts'
import { failureText } from './failure-text.ts'
import { SYNC_TRANSITIONS, type SyncEvent, type SyncState } from './replication-state.ts'
import type { Flag } from './schema.ts'
import type { FailedOutcome, Lease, SyncedOutcome, SyncOutcome } from './tracking.ts'
import { BACKLOG_PRIORITY, stateAfter } from './transitions.ts'

/** GitLab's words, of `Geo::VerifiableReplicator`. */
const MISMATCH = 'Checksum does not match the primary checksum'

export interface TakenRow {
  readonly id: number
  readonly change: number
  readonly retry_count: number
}

/** Undefined where nothing is due: synced, not to be retried yet, in need of a hand, or under a live lease. */
export function startRepository(
  queries: Queries,
  path: RepositoryName,
  clock: RawBuilder<number>,
  nowMs: number,
  ttlMs: number,
): Promise<TakenRow | undefined> {
  return queries
    .updateTable('tracked_repositories')
    .set({
      state: stateAfter('start'),
      retry_at: null,
      lease_number: null,
      lease_expires_at: sql`${clock} + ${sql.lit(Math.round(ttlMs))}`,
    })
    .where('path', '=', path)
    .where((row) =>
      row.or([
        row.and([row('state', '<>', 'started'), row('due_at', '<=', nowMs)]),
        row.and([row('state', '=', 'started'), row('lease_expires_at', '<=', clock)]),
      ]),
    )
    .returning(['id', 'change', 'retry_count'])
    .executeTakeFirst()
}

export async function numberLease(queries: Queries, repositoryId: number, number: number): Promise<void> {
  await queries
    .updateTable('tracked_repositories')
    .set({ lease_number: number })
    .where('id', '=', repositoryId)
    .execute()
}

/** False when it is another's now, or was settled. */
export async function extendLease(
  queries: Queries,
  lease: Lease,
  clock: RawBuilder<number>,
  ttlMs: number,
): Promise<boolean> {
  const { numUpdatedRows } = await queries
    .updateTable('tracked_repositories')
    .set({ lease_expires_at: sql`${clock} + ${sql.lit(Math.round(ttlMs))}` })
    .where('id', '=', lease.repositoryId)
    .where('lease_number', '=', lease.number)
    .executeTakeFirstOrThrow()
  return numUpdatedRows === 1n
}

/** Undefined when the lease is not the row's any more: nothing was written. */
export async function settleRepository(
  queries: Queries,
  lease: Lease,
  outcome: SyncOutcome,
  nowMs: number,
): Promise<{ readonly runAgain: boolean } | undefined> {
  const { meanwhile, state, stateIfDirtied } = statesAfter(lease, outcome)
  const row = await queries
    .updateTable('tracked_repositories')
    .set({
      ...resultsOf(lease, outcome, nowMs),
      state: sql<SyncState>`case when ${meanwhile} then ${sql.lit(stateIfDirtied)} else ${sql.lit(state)} end`,
      lease_number: null,
      lease_expires_at: null,
    })
    .where('id', '=', lease.repositoryId)
    .where('lease_number', '=', lease.number)
    .returning('change')
    .executeTakeFirst()
  return row && { runAgain: row.change > lease.change && stateIfDirtied === 'pending' }
}

const EVENTS = { synced: 'succeed', failed: 'fail', released: 'release' } as const satisfies Record<
  SyncOutcome['kind'],
  SyncEvent
>

function statesAfter(lease: Lease, outcome: SyncOutcome) {
  const state = SYNC_TRANSITIONS.started[EVENTS[outcome.kind]]
  return {
    meanwhile: sql<boolean>`tracked_repositories.change > ${sql.lit(lease.change)}`,
    state,
    stateIfDirtied: SYNC_TRANSITIONS[state].dirty,
  }
}

function resultsOf(lease: Lease, outcome: SyncOutcome, nowMs: number) {
  if (outcome.kind === 'released') return {}
  // What was more urgent than the backlog has been seen to, unless it came in meanwhile.
  const priority = sql<number>`case when tracked_repositories.change > ${sql.lit(lease.change)}
    then tracked_repositories.priority else ${sql.lit(BACKLOG_PRIORITY)} end`
  return outcome.kind === 'synced'
    ? { priority, ...syncedColumns(outcome, nowMs) }
    : { priority, ...failedColumns(lease, outcome) }
}

function syncedColumns(outcome: SyncedOutcome, nowMs: number) {
  const matches = outcome.checksum === outcome.primaryChecksum
  return {
    retry_count: 0,
    retry_at: null,
    needs_attention: flag(false),
    last_sync_failure: null,
    last_synced_at: nowMs,
    missing_on_primary: flag(outcome.missingOnPrimary),
    tags_count: outcome.tagsCount,
    failing_tags_count: 0,
    blobs_outstanding: 0,
    bytes_outstanding: 0,
    inventory_at: outcome.inventoryAtMs,
    verification_state: matches ? ('succeeded' as const) : ('failed' as const),
    verified_at: nowMs,
    verification_failure: matches ? null : MISMATCH,
    verification_checksum: outcome.checksum,
    verification_checksum_mismatched: matches ? null : outcome.primaryChecksum,
    checksum_mismatch: flag(!matches),
  }
}

/**
 * What manifests claim to lack is whatever their makers wrote. 1 PiB of one repository is more than there is anywhere, and
 * thousands of them add up to what a column still holds.
 */
const MAX_BYTES_OUTSTANDING = 2 ** 50

function failedColumns(lease: Lease, outcome: FailedOutcome) {
  const { tagsCount, inventoryAtMs } = outcome
  const retryAt = sql<number | null>`case when tracked_repositories.change > ${sql.lit(lease.change)}
    then null else ${sql.lit(Math.round(outcome.retryAtMs))} end`
  return {
    retry_count: sql<number>`tracked_repositories.retry_count + 1`,
    retry_at: retryAt,
    needs_attention: flag(outcome.needsAttention),
    last_sync_failure: failureText(outcome.message),
    failing_tags_count: outcome.failingTags.length,
    blobs_outstanding: outcome.blobsOutstanding,
    bytes_outstanding: Math.min(outcome.bytesOutstanding, MAX_BYTES_OUTSTANDING),
    ...(tagsCount === undefined ? {} : { tags_count: tagsCount }),
    // Held against this inventory it is not the same, whatever an earlier comparison said.
    ...(inventoryAtMs === undefined
      ? {}
      : { inventory_at: inventoryAtMs, verification_state: 'pending' as const }),
  }
}

function flag(is: boolean): Flag {
  return is ? 1 : 0
}
