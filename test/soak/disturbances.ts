/**
 * What troubled whom, and when: the faults of the schedule, and the machine itself where it stood still. An error is
 * forgiven only by a disturbance that can have caused it, within a grace after its end.
 */
import type { Span } from '../e2e/model-history.ts'

export type Place = 'tokyo' | 'lima' | 'primary'
/**
 * `down`: a process that answers there may have gone. `away`: the primary may not have been reached from there.
 * `shared state`: its processes may have been without Redis. `nothing`: answers must go on as if it were not.
 */
export type Effect = 'down' | 'away' | 'shared state' | 'nothing'

export interface Disturbance {
  readonly what: string
  readonly places: readonly Place[]
  readonly effect: Effect
}

export interface Disturbances {
  /** It goes on until what this returns is called. */
  begin(disturbance: Disturbance): () => void
  /** One that was noticed afterwards. */
  record(disturbance: Disturbance, span: Span): void
  /** The first that can explain trouble in the span; undefined: none can. */
  explain(place: Place, effects: readonly Effect[], span: Span): string | undefined
  /** What goes on now. */
  current(): string[]
}

export interface DisturbancesOptions {
  /** A monotonic clock in milliseconds. */
  readonly now: () => number
  /** How long after its end a disturbance still explains. */
  readonly graceMs: number
}

interface Period extends Disturbance {
  readonly start: number
  end: number
}

/** Older ones explain nothing that is still under way. */
const KEPT_MS = 120_000

export function createDisturbances({ now, graceMs }: DisturbancesOptions): Disturbances {
  const periods: Period[] = []

  function add(period: Period): Period {
    const isOld = ({ end }: Period) => end + graceMs < now() - KEPT_MS
    periods.splice(0, periods.length, ...periods.filter((each) => !isOld(each)), period)
    return period
  }
  return {
    begin(disturbance) {
      const period = add({ ...disturbance, start: now(), end: Number.POSITIVE_INFINITY })
      return () => {
        period.end = Math.min(period.end, now())
      }
    },
    record: (disturbance, span) => void add({ ...disturbance, ...span }),
    explain: (place, effects, span) =>
      periods.find(
        ({ places, effect, start, end }) =>
          places.includes(place) &&
          effects.includes(effect) &&
          start < span.end &&
          span.start < end + graceMs,
      )?.what,
    current: () => periods.filter(({ end }) => end === Number.POSITIVE_INFINITY).map(({ what }) => what),
  }
}
