/** Every counter and histogram, by DESIGN's names. Repository names go to logs, never to labels. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'

/** Where an answer came from, as `Geo-Registry-Source` says it. */
export type Source = 'local' | 'fill' | 'primary' | 'stale'

export interface Metrics {
  readonly registry: Registry
  readonly reads: Counter<'source'>
  readonly servedBytes: Counter<'source'>
  readonly upstreamRequests: Counter<'operation' | 'code'>
  readonly upstreamBytes: Counter
  readonly fillsInFlight: Gauge
  readonly fillsWaiting: Gauge
  readonly fillFailures: Counter<'reason'>
  readonly captures: Counter<'outcome'>
  readonly storeErrors: Counter<'kind'>
  readonly breakerOpen: Gauge
  readonly limited: Counter<'limit'>
  readonly reconcilePeriodSeconds: Gauge
  readonly replicationRuns: Counter<'outcome'>
  readonly tagsRemoved: Counter
  readonly scrubbedBytes: Counter
  readonly scrubDamaged: Counter
  readonly logLinesDropped: Counter
  readonly busMessages: Counter<'result'>
  readonly notifications: Counter<'result'>
  readonly events: Counter<'action'>
  readonly eventsIgnored: Counter<'reason'>
  readonly httpRequests: Counter<'route' | 'method' | 'code'>
  readonly httpInFlight: Gauge<'route' | 'method'>
  readonly httpDurationSeconds: Histogram<'route' | 'method' | 'code'>
}

/** GitLab's registry (LabKit) has these buckets, so that its dashboards fit. */
const HTTP_BUCKETS_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60]

/** Each call makes its own registry: two sites in one process (tests) never share a counter. */
export function createMetrics(options: { process?: boolean } = {}): Metrics {
  const registry = new Registry()
  if (options.process) collectDefaultMetrics({ register: registry })
  const registers = [registry]
  const counter = <T extends string>(name: string, help: string, labelNames: readonly T[] = []) =>
    new Counter<T>({ name, help, labelNames: [...labelNames], registers })
  const gauge = <T extends string>(name: string, help: string, labelNames: readonly T[] = []) =>
    new Gauge<T>({ name, help, labelNames: [...labelNames], registers })
  return {
    registry,
    reads: counter('geo_registry_reads_total', 'Manifest and blob reads by where they were answered from', [
      'source',
    ]),
    servedBytes: counter('geo_registry_served_bytes_total', 'Body bytes sent to clients', ['source']),
    upstreamRequests: counter('geo_registry_upstream_requests_total', 'Requests sent to the primary', [
      'operation',
      'code',
    ]),
    upstreamBytes: counter('geo_registry_upstream_bytes_total', 'Body bytes received from the primary'),
    fillsInFlight: gauge('geo_registry_fills_in_flight', 'Blobs being fetched from the primary'),
    fillsWaiting: gauge(
      'geo_registry_fills_waiting',
      'Clients waiting for the disk to take what was fetched before',
    ),
    fillFailures: counter('geo_registry_fill_failures_total', 'Fills that ended without a published blob', [
      'reason',
    ]),
    captures: counter('geo_registry_captures_total', 'Pushed blobs kept or dropped as they passed', [
      'outcome',
    ]),
    storeErrors: counter('geo_registry_store_errors_total', 'Content that could not be kept', ['kind']),
    breakerOpen: gauge(
      'geo_registry_breaker_open',
      '1 while held tags are served without asking the primary',
    ),
    limited: counter('geo_registry_limited_total', 'Requests refused with 429 by a limit of this site', [
      'limit',
    ]),
    reconcilePeriodSeconds: gauge(
      'geo_registry_reconcile_period_seconds',
      'Age of the oldest comparison of a repository with the primary; NaN while one has had none',
    ),
    replicationRuns: counter(
      'geo_registry_replication_runs_total',
      'Jobs of one repository by how they ended',
      ['outcome'],
    ),
    tagsRemoved: counter(
      'geo_registry_tags_removed_total',
      'Tags hidden here because the primary has them no longer',
    ),
    scrubbedBytes: counter('geo_registry_scrubbed_bytes_total', 'Bytes of stored blobs read again'),
    scrubDamaged: counter('geo_registry_scrub_damaged_total', 'Stored blobs found damaged and quarantined'),
    busMessages: counter(
      'geo_registry_bus_messages_total',
      'Messages between the processes of this site by what became of them',
      ['result'],
    ),
    logLinesDropped: counter('geo_registry_log_lines_dropped_total', 'Log lines nobody took in time'),
    notifications: counter('geo_registry_notifications_total', 'Requests to the events listener', ['result']),
    events: counter('geo_registry_events_total', 'Events of the primary accepted and stored', ['action']),
    eventsIgnored: counter('geo_registry_events_ignored_total', 'Events answered 2xx and not kept', [
      'reason',
    ]),
    httpRequests: counter('registry_http_requests_total', 'Requests answered', ['route', 'method', 'code']),
    httpInFlight: gauge('registry_http_in_flight_requests', 'Requests being answered', ['route', 'method']),
    httpDurationSeconds: new Histogram({
      name: 'registry_http_request_duration_seconds',
      help: 'Time from the request head to the end of the answer',
      labelNames: ['route', 'method', 'code'],
      buckets: HTTP_BUCKETS_SECONDS,
      registers,
    }),
  }
}
