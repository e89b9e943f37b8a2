/**
 * What `GET /status` answers: the fields of GitLab's `GET /geo_sites/:id/status` with its names and types, so that what
 * watches a Geo site watches this one, and beside them what Geo does not tell. Timestamps are Unix seconds, as there.
 */
import type { RepositoryName } from '../oci/reference.ts'
import type { FollowStatus } from './follow-status.ts'

/** Numbers are null while the part that knows them does not answer; `health` then says which. */
export interface GeoStatus {
  /** Always null: Rails numbers its sites, and does not know this one. */
  readonly geo_node_id: null
  readonly healthy: boolean
  /** `Healthy`, or sentences that say what is wrong and what to do. */
  readonly health: string
  readonly health_status: 'Healthy' | 'Unhealthy'
  readonly missing_oauth_application: false
  /** Always null: no database is replicated. The lag of what is replicated is `lag_seconds`. */
  readonly db_replication_lag_seconds: null
  readonly container_repositories_replication_enabled: true
  readonly container_repositories_count: number | null
  /** The primary's to tell, as the next two. */
  readonly container_repositories_checksum_total_count: null
  readonly container_repositories_checksummed_count: null
  readonly container_repositories_checksum_failed_count: null
  readonly container_repositories_synced_count: number | null
  readonly container_repositories_failed_count: number | null
  readonly container_repositories_registry_count: number | null
  readonly container_repositories_verification_total_count: number | null
  readonly container_repositories_verified_count: number | null
  readonly container_repositories_verification_failed_count: number | null
  /** `"99.99%"` of the registry count; rounded down, so that 100 % means all. */
  readonly container_repositories_synced_in_percentage: string
  readonly container_repositories_verified_in_percentage: string
  /** The last event that arrived here, and the last one applied. */
  readonly last_event_id: number | null
  readonly last_event_timestamp: number | null
  readonly cursor_last_event_id: number | null
  readonly cursor_last_event_timestamp: number | null
  readonly last_successful_status_check_timestamp: number
  readonly version: string
  readonly revision: null
  /** `patterns`: repositories are chosen by `replication.modes`. */
  readonly selective_sync_type: 'patterns' | null
  readonly namespaces: readonly never[]
  /** ISO 8601. */
  readonly updated_at: string
  readonly storage_shards_match: true
  readonly _links: { readonly self: string }
}

export interface OwnStatus {
  readonly site: { readonly name: string; readonly url: string | null; readonly primary: string }
  /** What keeps the site from being healthy, a sentence each. */
  readonly health_messages: readonly string[]
  /** Everything the primary had is here, compared, and nothing that was heard of waits. */
  readonly in_step: boolean
  /** What `in_step` and the counts speak of: the oldest of the inventories they rest on; null when one was never had. */
  readonly inventory_timestamp: number | null
  /** Age of the oldest event not applied; 0 when there is none. */
  readonly lag_seconds: number | null
  readonly events_pending: number | null
  readonly failing_tags: number | null
  readonly needs_attention: number | null
  readonly checksum_mismatches: number | null
  readonly tags: number | null
  readonly blobs_outstanding: number | null
  readonly bytes_outstanding: number | null
  readonly paused: boolean | null
  readonly queue: { readonly waiting: number; readonly running: number } | null
  readonly reconcile: {
    readonly last_pass_timestamp: number | null
    readonly achieved_period_seconds: number | null
    readonly setting_seconds: number
    readonly error: string | null
  } | null
  readonly brake: {
    readonly tripped: boolean
    readonly tripped_timestamp: number | null
    readonly repositories: number
    readonly tags: number
    readonly examples: readonly RepositoryName[]
  } | null
  /** Null where no relay is followed. */
  readonly relay: FollowStatus | null
  readonly breaker_open: boolean
  /** Since the process started, as the next two. */
  readonly reads: Readonly<Record<'local' | 'fill' | 'primary' | 'stale', number>>
  /** Sent to clients from here without asking the primary for them. */
  readonly bytes_saved: number
  readonly started_at: string
  readonly store: {
    readonly bytes: number | null
    readonly free_bytes: number
    readonly total_bytes: number
    readonly min_free_bytes: number
  } | null
}

export type StatusReport = GeoStatus & OwnStatus
