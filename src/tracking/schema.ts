/**
 * The tables as the query builder sees them. Column names are GitLab's (`container_repository_registry`) where the thing
 * is the same; times are wall-clock milliseconds, flags 0 or 1, alike in both databases.
 */
import type { Generated, GeneratedAlways } from 'kysely'
import type { Digest } from '../oci/digest.ts'
import type { RepositoryName, Tag } from '../oci/reference.ts'
import type { SyncState, VerificationState } from './replication-state.ts'
import type { EventAction } from './tracking.ts'

export type Flag = 0 | 1

export interface TrackedRepositoriesTable {
  id: Generated<number>
  path: RepositoryName
  state: Generated<SyncState>
  retry_count: Generated<number>
  retry_at: number | null
  last_sync_failure: string | null
  last_synced_at: number | null
  created_at: number
  needs_attention: Generated<Flag>
  missing_on_primary: Generated<Flag>
  verification_state: Generated<VerificationState>
  verified_at: number | null
  verification_failure: string | null
  verification_checksum: string | null
  verification_checksum_mismatched: string | null
  checksum_mismatch: Generated<Flag>
  tags_count: Generated<number>
  failing_tags_count: Generated<number>
  blobs_outstanding: Generated<number>
  bytes_outstanding: Generated<number>
  inventory_at: number | null
  active_at: number | null
  priority: number
  /** Raised by everything that may have changed the repository; a lease remembers which it has seen. */
  change: Generated<number>
  lease_number: number | null
  lease_expires_at: number | null
  /** When the row may be tried: 0 when pending, its retry when failed, its lease's end when started, else null. */
  due_at: GeneratedAlways<number | null>
}

export interface FailingTagsTable {
  repository_id: number
  tag: Tag
  digest: Digest | null
  kind: string
  message: string
  since: number
}

export interface EventsTable {
  sequence: GeneratedAlways<number>
  id: string
  action: EventAction
  repository: RepositoryName
  tag: Tag | null
  digest: Digest | null
  renamed_to: RepositoryName | null
  received_at: number
}

export interface CursorsTable {
  name: string
  value: string
}

/** Numbers that only grow and outlive every row. */
export interface CountersTable {
  name: 'lease' | 'applied_event' | 'applied_event_at'
  value: number
}

/** Kept by triggers, so that a status never reads a million rows; the sum over shards is exact. */
export interface RepositoryTotalsTable {
  shard: number
  state: SyncState
  verification_state: VerificationState
  needs_attention: Flag
  checksum_mismatch: Flag
  repositories: number
  tags: number
  failing_tags: number
  blobs_outstanding: number
  bytes_outstanding: number
}

export interface SchemaMigrationsTable {
  version: number
  name: string
  breaking: Flag
  applied_at: number
}

export interface Schema {
  tracked_repositories: TrackedRepositoriesTable
  failing_tags: FailingTagsTable
  events: EventsTable
  cursors: CursorsTable
  counters: CountersTable
  repository_totals: RepositoryTotalsTable
  schema_migrations: SchemaMigrationsTable
}
