/**
 * Geo's gauges under Geo's names, and our lag, from one snapshot of the tracking database for each scrape. While it
 * cannot be had there are no samples: an old number, or a zero, would keep an alert quiet.
 */
import { Gauge, type Registry } from 'prom-client'
import { singleFlight } from '../single-flight.ts'
import type { Counts } from '../tracking/tracking.ts'
import { type AnswerOf, answerOf } from './answer-of.ts'
import { lagSeconds } from './report.ts'

export interface StatusMetricsDeps {
  /** Where the gauges are registered. */
  readonly registry: Registry
  counts(): Promise<Counts>
  /** Undefined where no relay is followed: there is no such gauge then. Never rejects. */
  readonly watermark?: (() => Promise<{ readonly ageMs: number } | undefined>) | undefined
}

export interface StatusMetricsOptions {
  readonly siteName: string
  /** After so long a scrape goes on without these samples; default 5000. */
  readonly deadlineMs?: number | undefined
  /** Wall clock in milliseconds; default `Date.now`. */
  readonly now?: (() => number) | undefined
}

type Measure = (counts: Counts, nowMs: number) => number

/** Those of Geo's that a secondary fills; `_checksum*` are the primary's. */
const GEO_GAUGES: readonly [name: string, help: string, Measure][] = [
  ['geo_container_repositories', 'Repositories to be replicated', ({ total }) => total],
  ['geo_container_repositories_registry', 'Repositories tracked', ({ total }) => total],
  [
    'geo_container_repositories_synced',
    'Repositories every tag of which is here',
    ({ byState }) => byState.synced,
  ],
  [
    'geo_container_repositories_failed',
    'Repositories that failed to be copied',
    ({ byState }) => byState.failed,
  ],
  [
    'geo_container_repositories_verification_total',
    'Repositories to be compared with the primary',
    ({ total, byVerificationState }) => total - byVerificationState.disabled,
  ],
  [
    'geo_container_repositories_verified',
    'Repositories equal to the primary when compared',
    ({ byVerificationState }) => byVerificationState.succeeded,
  ],
  [
    'geo_container_repositories_verification_failed',
    'Repositories that differed from the primary when compared',
    ({ byVerificationState }) => byVerificationState.failed,
  ],
  ['geo_last_event_id', 'The last event that arrived', ({ lastEventSequence }) => lastEventSequence],
  [
    'geo_cursor_last_event_id',
    'The last event that was applied',
    ({ lastAppliedSequence }) => lastAppliedSequence,
  ],
]

const OWN_GAUGES: readonly [name: string, help: string, Measure][] = [
  ['geo_registry_replication_lag_seconds', 'Age of the oldest event not applied; 0 for none', lagSeconds],
  ['geo_registry_events_pending', 'Events not applied yet', ({ eventsPending }) => eventsPending],
]

/** Registers the gauges; they are filled whenever the registry is scraped. */
export function registerStatusMetrics(deps: StatusMetricsDeps, options: StatusMetricsOptions): void {
  const { now = Date.now, deadlineMs = 5_000 } = options
  const shared = singleFlight<'counts', AnswerOf<Counts>>()
  // A scrape collects every gauge at once, so that they share one question.
  const snapshot = () => shared('counts', () => answerOf(() => deps.counts(), deadlineMs))
  const registers = [deps.registry]
  // Geo gives both labels the name of its node.
  const labels = { name: options.siteName, url: options.siteName }

  for (const [name, help, measure] of GEO_GAUGES) {
    new Gauge({
      name,
      help,
      registers,
      labelNames: ['name', 'url'],
      async collect() {
        const { value } = await snapshot()
        if (value) this.set(labels, measure(value, now()))
        else this.remove(labels)
      },
    })
  }
  for (const [name, help, measure] of OWN_GAUGES) {
    new Gauge({
      name,
      help,
      registers,
      async collect() {
        const { value } = await snapshot()
        if (value) this.set(measure(value, now()))
        else this.remove()
      },
    })
  }
  const { watermark } = deps
  if (!watermark) return
  new Gauge({
    name: 'geo_registry_watermark_age_seconds',
    help: 'Age of what is known of all writes at the primary; no sample while that is not known',
    registers,
    async collect() {
      const { value } = await answerOf(watermark, deadlineMs)
      if (value) this.set(value.ageMs / 1000)
      else this.remove()
    },
  })
}
