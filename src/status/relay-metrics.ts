/** What a relay counts and measures, beside what every process does. No sample where there is nothing to tell. */
import { Counter, Gauge, type Registry } from 'prom-client'
import type { RelayState } from './relay-report.ts'

export interface RelayCounters {
  readonly events: Counter
}

/** Made before the relay is, since its parts count; the gauges come with `registerRelayGauges`. */
export function createRelayCounters(registry: Registry): RelayCounters {
  return {
    events: new Counter({
      name: 'geo_registry_relay_events_total',
      help: 'Events written to the log',
      registers: [registry],
    }),
  }
}

/** Registers what is asked of the relay whenever the registry is scraped. */
export function registerRelayMetrics(registry: Registry, state: RelayState): void {
  const registers = [registry]
  const gauge = (name: string, help: string, measure: () => number | undefined) =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        const value = measure()
        if (value === undefined) this.remove()
        else this.set(value)
      },
    })

  gauge('geo_registry_relay_log_last_number', 'The number of the newest event in the log', () => {
    return state.log().last
  })
  gauge('geo_registry_relay_log_bytes', 'What the log takes on disk', () => state.log().bytes)
  gauge(
    'geo_registry_relay_epoch_age_seconds',
    'For how long completeness has been proved without a gap; no sample while it is not',
    () => inSeconds(state.epochs()?.ageMs),
  )
  gauge(
    'geo_registry_relay_watermark_age_seconds',
    'Age of the moment up to which every write is known to be in the log; no sample without one',
    () => inSeconds(state.epochs()?.watermarkAgeMs),
  )
  new Gauge({
    name: 'geo_registry_relay_site_lag_seconds',
    help: 'Age of the oldest event that a site has not read; 0 for none, no sample while it is not known',
    labelNames: ['site'],
    registers,
    collect() {
      for (const { name, lagMs } of state.sites()) {
        if (lagMs === undefined) this.remove({ site: name })
        else this.set({ site: name }, lagMs / 1000)
      }
    },
  })
  new Gauge({
    name: 'geo_registry_relay_site_last_seen_seconds',
    help: 'How long ago a site last asked for the log; no sample before it first did',
    labelNames: ['site'],
    registers,
    collect() {
      for (const { name, lastSeenMs } of state.sites()) {
        if (lastSeenMs === undefined) this.remove({ site: name })
        else this.set({ site: name }, lastSeenMs / 1000)
      }
    },
  })
  // They count where they happen; here they are only shown.
  new Counter({
    name: 'geo_registry_relay_epochs_ended_total',
    help: 'Ends of the proof of completeness',
    labelNames: ['reason'],
    registers,
    collect() {
      this.reset()
      for (const [reason, count] of Object.entries(state.epochs()?.ends ?? {})) this.inc({ reason }, count)
    },
  })
  new Counter({
    name: 'geo_registry_relay_canaries_total',
    help: 'Canaries by what became of them',
    labelNames: ['result'],
    registers,
    collect() {
      this.reset()
      const epochs = state.epochs()
      if (!epochs) return
      const { returned, lost, refused } = epochs.canaries
      for (const [result, count] of Object.entries({ returned, lost, refused })) this.inc({ result }, count)
    },
  })
}

function inSeconds(durationMs: number | undefined): number | undefined {
  return durationMs === undefined ? undefined : durationMs / 1000
}
