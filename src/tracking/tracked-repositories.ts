/** The rows of tracked repositories: one function for each statement. */
import type { Selectable } from 'kysely'
import type { RepositoryName } from '../oci/reference.ts'
import type { Queries } from './database.ts'
import { matching, under } from './path-filter.ts'
import type { TrackedRepositoriesTable } from './schema.ts'
import type { ListOptions, TouchOptions, TrackedRepository } from './tracking.ts'
import { BACKLOG_PRIORITY, touched } from './transitions.ts'

const COLUMNS = [
  'id',
  'path',
  'state',
  'retry_count',
  'retry_at',
  'last_sync_failure',
  'last_synced_at',
  'created_at',
  'needs_attention',
  'missing_on_primary',
  'verification_state',
  'verified_at',
  'verification_failure',
  'verification_checksum',
  'verification_checksum_mismatched',
  'checksum_mismatch',
  'tags_count',
  'failing_tags_count',
  'blobs_outstanding',
  'bytes_outstanding',
  'inventory_at',
  'active_at',
  'priority',
] as const satisfies (keyof TrackedRepositoriesTable)[]

const PAGE_DEFAULT = 100
const PAGE_MAX = 1000

export async function findRepository(
  queries: Queries,
  path: RepositoryName,
): Promise<TrackedRepository | undefined> {
  const row = await queries
    .selectFrom('tracked_repositories')
    .select(COLUMNS)
    .where('path', '=', path)
    .executeTakeFirst()
  return row && trackedRepository(row)
}

export async function listRepositories(queries: Queries, options: ListOptions): Promise<TrackedRepository[]> {
  const { after, limit = PAGE_DEFAULT } = options
  const rows = await queries
    .selectFrom('tracked_repositories')
    .select(COLUMNS)
    .where(matching(options))
    .$if(after !== undefined, (query) => query.where('path', '>', withoutNul(after)))
    .orderBy('path')
    .limit(Math.min(Math.max(limit, 0), PAGE_MAX))
    .execute()
  return rows.map(trackedRepository)
}

/** Postgres refuses NUL with an error. It sorts below everything: where the text has one, nothing lies in between. */
function withoutNul(text = ''): RepositoryName {
  return text.replace(/\0.*/s, '') as RepositoryName
}

/** How many of them were new. */
export async function insertMissing(
  queries: Queries,
  paths: readonly RepositoryName[],
  nowMs: number,
): Promise<number> {
  const { numInsertedOrUpdatedRows } = await queries
    .insertInto('tracked_repositories')
    .values(paths.map((path) => ({ path, priority: BACKLOG_PRIORITY, created_at: nowMs })))
    .onConflict((conflict) => conflict.column('path').doNothing())
    .executeTakeFirstOrThrow()
  return Number(numInsertedOrUpdatedRows)
}

/** The rows there are, and new ones. Each path once, sorted: who comes next then waits instead of dead-locking. */
export async function insertOrDirty(
  queries: Queries,
  paths: readonly RepositoryName[],
  options: TouchOptions,
  nowMs: number,
): Promise<void> {
  const { priority, active = false } = options
  await queries
    .insertInto('tracked_repositories')
    .values(paths.map((path) => ({ path, priority, created_at: nowMs, active_at: active ? nowMs : null })))
    .onConflict((conflict) => conflict.column('path').doUpdateSet(touched(options, nowMs)))
    .execute()
}

export async function pathsUnder(queries: Queries, path: RepositoryName): Promise<RepositoryName[]> {
  const rows = await queries.selectFrom('tracked_repositories').select('path').where(under(path)).execute()
  return rows.map((row) => row.path)
}

/** Whether there was such a row; with `change`, one that was not dirtied since. */
export async function deleteRepository(
  queries: Queries,
  path: RepositoryName,
  change: number | undefined,
): Promise<boolean> {
  const { numDeletedRows } = await queries
    .deleteFrom('tracked_repositories')
    .where('path', '=', path)
    .$if(change !== undefined, (query) => query.where('change', '=', change as number))
    .executeTakeFirstOrThrow()
  return numDeletedRows > 0n
}

type Row = Pick<Selectable<TrackedRepositoriesTable>, (typeof COLUMNS)[number]>

function trackedRepository(row: Row): TrackedRepository {
  return {
    id: row.id,
    path: row.path,
    state: row.state,
    retryCount: row.retry_count,
    retryAtMs: row.retry_at ?? undefined,
    lastSyncFailure: row.last_sync_failure ?? undefined,
    lastSyncedAtMs: row.last_synced_at ?? undefined,
    createdAtMs: row.created_at,
    needsAttention: row.needs_attention === 1,
    missingOnPrimary: row.missing_on_primary === 1,
    verificationState: row.verification_state,
    verifiedAtMs: row.verified_at ?? undefined,
    verificationFailure: row.verification_failure ?? undefined,
    verificationChecksum: row.verification_checksum ?? undefined,
    verificationChecksumMismatched: row.verification_checksum_mismatched ?? undefined,
    checksumMismatch: row.checksum_mismatch === 1,
    tagsCount: row.tags_count,
    failingTagsCount: row.failing_tags_count,
    blobsOutstanding: row.blobs_outstanding,
    bytesOutstanding: row.bytes_outstanding,
    inventoryAtMs: row.inventory_at ?? undefined,
    activeAtMs: row.active_at ?? undefined,
    priority: row.priority,
  }
}
