/** Puts the one report together. Whatever cannot be asked leaves nulls and a sentence, never a wrong number. */
import type { Counts } from '../tracking/tracking.ts'
import { type AnswerOf, answerOf } from './answer-of.ts'
import { type FollowState, followStatus } from './follow-status.ts'
import { type QueueState, type ReconcileState, type StoreState, unhealthyBecause } from './health.ts'
import type { BrakeState } from './replication-control.ts'
import type { GeoStatus, OwnStatus, StatusReport } from './status-report.ts'
import type { Traffic } from './traffic.ts'

export interface ReportDeps {
  counts(): Promise<Counts>
  brake(): Promise<BrakeState>
  queue(): Promise<QueueState>
  reconcile(): ReconcileState | Promise<ReconcileState>
  store(): Promise<StoreState>
  /** Undefined where no relay is followed. */
  readonly relay?: (() => Promise<FollowState>) | undefined
  traffic(): Promise<Traffic>
  breakerIsOpen(): boolean
}

export interface ReportOptions {
  readonly site: {
    readonly name: string
    /** The origin clients use, where it is known. */
    readonly url: string | undefined
    /** The primary's origin. */
    readonly primary: string
  }
  readonly version: string
  /** Whether some repositories are not replicated, by `replication.modes`. */
  readonly selective: boolean
  /** How long a part may take to answer before it counts as away; default 5000. */
  readonly deadlineMs?: number | undefined
  /** Wall clock in milliseconds; default `Date.now`. */
  readonly now?: (() => number) | undefined
}

const DEADLINE_MS = 5_000

/** The function behind `GET /status`; it never rejects for a part that does not answer. */
export function createReport(deps: ReportDeps, options: ReportOptions): () => Promise<StatusReport> {
  const { now = Date.now, deadlineMs = DEADLINE_MS } = options
  const startedAt = new Date(now()).toISOString()

  return async function report() {
    const [counts, brake, queue, reconcile, store, relay, traffic] = await Promise.all([
      answerOf(() => deps.counts(), deadlineMs),
      answerOf(() => deps.brake(), deadlineMs),
      answerOf(() => deps.queue(), deadlineMs),
      answerOf(() => deps.reconcile(), deadlineMs),
      answerOf(() => deps.store(), deadlineMs),
      answerOf(() => deps.relay?.(), deadlineMs),
      deps.traffic(),
    ])
    const messages = unhealthyBecause({ counts, brake, queue, reconcile, store, relay })
    const nowMs = now()
    return {
      ...geoStatus(counts.value, messages, nowMs, options),
      site: { name: options.site.name, url: options.site.url ?? null, primary: options.site.primary },
      health_messages: messages,
      in_step: isInStep(counts.value, reconcile.value),
      ...replicationStatus(counts.value, nowMs),
      paused: queue.value?.paused ?? null,
      queue: queue.value ? { waiting: queue.value.waiting, running: queue.value.running } : null,
      reconcile: reconcileStatus(reconcile),
      brake: brakeStatus(brake),
      relay: followStatus(relay),
      breaker_open: deps.breakerIsOpen(),
      reads: traffic.reads,
      bytes_saved: traffic.bytesFromHere,
      started_at: startedAt,
      store: storeStatus(store),
    }
  }
}

function geoStatus(
  counts: Counts | undefined,
  messages: readonly string[],
  nowMs: number,
  options: ReportOptions,
): GeoStatus {
  const total = counts?.total ?? null
  const healthy = messages.length === 0
  return {
    geo_node_id: null,
    healthy,
    health: healthy ? 'Healthy' : messages.join(' '),
    health_status: healthy ? 'Healthy' : 'Unhealthy',
    missing_oauth_application: false,
    db_replication_lag_seconds: null,
    container_repositories_replication_enabled: true,
    container_repositories_count: total,
    container_repositories_checksum_total_count: null,
    container_repositories_checksummed_count: null,
    container_repositories_checksum_failed_count: null,
    container_repositories_synced_count: counts?.byState.synced ?? null,
    container_repositories_failed_count: counts?.byState.failed ?? null,
    container_repositories_registry_count: total,
    container_repositories_verification_total_count: counts ? toVerify(counts) : null,
    container_repositories_verified_count: counts?.byVerificationState.succeeded ?? null,
    container_repositories_verification_failed_count: counts?.byVerificationState.failed ?? null,
    container_repositories_synced_in_percentage: percentage(counts?.byState.synced, total),
    container_repositories_verified_in_percentage: percentage(counts?.byVerificationState.succeeded, total),
    last_event_id: counts?.lastEventSequence ?? null,
    last_event_timestamp: unixSeconds(counts?.lastEventAtMs),
    cursor_last_event_id: counts?.lastAppliedSequence ?? null,
    cursor_last_event_timestamp: unixSeconds(counts?.lastAppliedEventAtMs),
    last_successful_status_check_timestamp: Math.floor(nowMs / 1000),
    version: options.version,
    revision: null,
    selective_sync_type: options.selective ? 'patterns' : null,
    namespaces: [],
    updated_at: new Date(nowMs).toISOString(),
    storage_shards_match: true,
    _links: { self: '/status' },
  }
}

function replicationStatus(counts: Counts | undefined, nowMs: number) {
  return {
    inventory_timestamp: unixSeconds(counts?.oldestInventoryAtMs),
    lag_seconds: counts ? lagSeconds(counts, nowMs) : null,
    events_pending: counts?.eventsPending ?? null,
    failing_tags: counts?.failingTags ?? null,
    needs_attention: counts?.needsAttention ?? null,
    checksum_mismatches: counts?.checksumMismatch ?? null,
    tags: counts?.tags ?? null,
    blobs_outstanding: counts?.blobsOutstanding ?? null,
    bytes_outstanding: counts?.bytesOutstanding ?? null,
  }
}

/** Age of the oldest event not applied. A clock that was set back does not make it negative. */
export function lagSeconds({ oldestEventAtMs }: Counts, nowMs: number): number {
  return oldestEventAtMs === undefined ? 0 : Math.max(0, nowMs - oldestEventAtMs) / 1000
}

/** A site that was never compared with the primary knows of no repository, and is not in step for that. */
function isInStep(counts: Counts | undefined, reconcile: ReconcileState | undefined): boolean {
  return (
    counts !== undefined &&
    reconcile?.lastPassAtMs !== undefined &&
    counts.byState.synced === counts.total &&
    counts.byVerificationState.succeeded === toVerify(counts) &&
    counts.checksumMismatch === 0 &&
    counts.failingTags === 0 &&
    counts.eventsPending === 0
  )
}

function toVerify({ total, byVerificationState }: Counts): number {
  return total - byVerificationState.disabled
}

/** GitLab rounds to the nearest; rounded down, 100 % is said of nothing that is not whole. */
function percentage(part: number | undefined, whole: number | null): string {
  if (!part || !whole) return '0.00%'
  return `${(Math.floor((part / whole) * 10_000) / 100).toFixed(2)}%`
}

function unixSeconds(timeMs: number | undefined): number | null {
  return timeMs === undefined ? null : Math.floor(timeMs / 1000)
}

function reconcileStatus({ value }: AnswerOf<ReconcileState>): OwnStatus['reconcile'] {
  if (!value) return null
  const { achievedPeriodMs } = value
  return {
    last_pass_timestamp: unixSeconds(value.lastPassAtMs),
    achieved_period_seconds: achievedPeriodMs === undefined ? null : achievedPeriodMs / 1000,
    setting_seconds: value.settingMs / 1000,
    error: value.error ?? null,
  }
}

function brakeStatus({ value }: AnswerOf<BrakeState>): OwnStatus['brake'] {
  if (!value) return null
  const { trippedAtMs, repositories, tags, examples } = value
  const tripped_timestamp = unixSeconds(trippedAtMs)
  return { tripped: trippedAtMs !== undefined, tripped_timestamp, repositories, tags, examples }
}

function storeStatus({ value }: AnswerOf<StoreState>): OwnStatus['store'] {
  if (!value) return null
  return {
    bytes: value.bytes ?? null,
    free_bytes: value.freeBytes,
    total_bytes: value.totalBytes,
    min_free_bytes: Math.ceil(value.totalBytes * value.minFreeFraction),
  }
}
