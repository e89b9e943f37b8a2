/**
 * Log time: milliseconds that never run faster than the real ones. Within a run it is the monotonic clock; a restart goes
 * on from what was saved last, so that the time between counts nothing and what looks old is old.
 */
import { SETTLED_MS } from '../../src/freshness/freshness.ts'

/** Numbers by the time they were taken, to know which were taken longer ago than `SETTLED_MS`. */
export interface Settling {
  /** In rising order of both. */
  add(number: number, atMs: number): void
  /** The last number of which it is known that it was taken longer ago than `SETTLED_MS`. */
  through(nowMs: number): number
}

/** Numbers taken within this are settled together, when the last of them may be. */
const GRAIN_MS = 100

export function createSettling(): Settling {
  const unsettled: { number: number; readonly untilMs: number }[] = []
  let settled = 0

  function settle(nowMs: number): void {
    while (unsettled[0] !== undefined && nowMs - unsettled[0].untilMs > SETTLED_MS) {
      settled = unsettled.shift()?.number ?? settled
    }
  }

  return {
    add(number, atMs) {
      settle(atMs)
      const latest = unsettled.at(-1)
      if (latest !== undefined && atMs <= latest.untilMs) latest.number = number
      else unsettled.push({ number, untilMs: (Math.floor(atMs / GRAIN_MS) + 1) * GRAIN_MS })
    },
    through(nowMs) {
      settle(nowMs)
      return settled
    },
  }
}

/** `now`: monotonic milliseconds. */
export function createLogTime(startMs: number, now: () => number): () => number {
  const openedAtMs = now()
  return () => startMs + Math.max(0, Math.floor(now() - openedAtMs))
}
