/** How far long work has come: one line written over and over on a terminal, a line now and then elsewhere (a log). */
import type { Progress } from '../status/replication-control.ts'
import { formatBytes, formatDuration, formatNumber } from '../status/words.ts'
import type { CommandOutput } from './command-output.ts'

export interface ProgressDisplay {
  show(progress: Progress): void
  /** Takes the line off the terminal, before anything else is written. */
  clear(): void
}

/** Elsewhere than on a terminal. */
const LINE_EVERY_MS = 10_000
/** A rate over less says little. */
const RATE_AFTER_MS = 1_000
const CLEAR_LINE = '\r\u001b[2K'

/** `now`: monotonic milliseconds, default `performance.now`. */
export function createProgressDisplay(
  output: CommandOutput,
  now: () => number = () => performance.now(),
): ProgressDisplay {
  let begun: { readonly phase: string; readonly done: number; readonly atMs: number } | undefined
  let shown = false
  let nextLineAtMs = Number.NEGATIVE_INFINITY
  return {
    show(progress) {
      const nowMs = now()
      if (begun?.phase !== progress.phase) {
        begun = { phase: progress.phase, done: progress.done, atMs: nowMs }
        nextLineAtMs = Number.NEGATIVE_INFINITY
      }
      const text = describeProgress(progress, progress.done - begun.done, nowMs - begun.atMs)
      if (output.terminal?.err) {
        output.err(CLEAR_LINE + text)
        shown = true
      } else if (nowMs >= nextLineAtMs) {
        output.err(`${text}\n`)
        nextLineAtMs = nowMs + LINE_EVERY_MS
      }
    },
    clear() {
      if (shown) output.err(CLEAR_LINE)
      shown = false
    },
  }
}

/** `fetched` of `done` were done in the `elapsedMs` that were watched: what was done before tells nothing of the rate. */
export function describeProgress(progress: Progress, fetched: number, elapsedMs: number): string {
  const { phase, done, total, unit } = progress
  const amount = (value: number) => (unit === 'bytes' ? formatBytes(value) : formatNumber(value))
  const things = unit === 'bytes' ? '' : ` ${unit}`
  const parts = [
    total === undefined
      ? `${phase}: ${amount(done)}${things}`
      : `${phase}: ${amount(done)} of ${amount(total)}${things} (${percent(done, total)} %)`,
  ]
  const perSecond = elapsedMs >= RATE_AFTER_MS ? (fetched / elapsedMs) * 1000 : 0
  if (perSecond > 0) {
    parts.push(`${amount(unit === 'bytes' ? Math.round(perSecond) : perSecond)}/s`)
    if (total !== undefined && done < total) {
      parts.push(`${formatDuration(Math.ceil((total - done) / perSecond) * 1000)} left`)
    }
  }
  return parts.join(', ')
}

/** Rounded down: 100 means all. */
function percent(done: number, total: number): number {
  return total === 0 ? 100 : Math.floor((Math.min(done, total) / total) * 100)
}
