/** When a read that was cut is tried again, and when it is given up. */
import { setTimeout as delay } from 'node:timers/promises'
import { UpstreamError } from '../upstream/errors.ts'

/** Failures in a row, each without progress, after which a read is given up: about three seconds of them. */
const MAX_FAILURES = 5
const FIRST_DELAY_MS = 100
const MAX_DELAY_MS = 5000
/** A primary that says when to come back is believed up to here; longer, its followers are better told. */
const MAX_RETRY_AFTER_MS = 30_000
/** Less than this between two cuts counts as none: a primary that sends a byte at a time would be asked for ever. */
const PROGRESS_BYTES = 64 * 1024

/** An answer that can never become right: the content is not what its digest says. */
export class WrongContentError extends UpstreamError {
  constructor(message: string) {
    super('faulty', message)
  }
}

export interface Retry {
  /**
   * Waits until the read may be tried again: at once after progress, else after 100 ms … 5 s. Rethrows `error` when it
   * cannot help or was the fifth in a row. Throws the `signal`'s reason.
   */
  after(error: unknown, progressBytes: number): Promise<void>
}

export function createRetry(signal: AbortSignal): Retry {
  let failures = 0
  return {
    async after(error, progressBytes) {
      if (signal.aborted || !isTransient(error)) throw error
      if (progressBytes >= PROGRESS_BYTES) {
        failures = 0
        return
      }
      failures += 1
      if (failures > MAX_FAILURES) throw error
      const backoffMs = Math.min(FIRST_DELAY_MS * 2 ** (failures - 1), MAX_DELAY_MS)
      const jitteredMs = backoffMs * (0.75 + Math.random() / 2)
      await delay(Math.max(jitteredMs, askedDelayMs(error)), undefined, { signal, ref: false })
    },
  }
}

function isTransient(error: unknown): error is UpstreamError {
  if (!(error instanceof UpstreamError) || error instanceof WrongContentError) return false
  return error.kind === 'unavailable' || error.kind === 'faulty' || error.kind === 'limited'
}

function askedDelayMs(error: UpstreamError): number {
  const seconds = Number(error.retryAfter) // A date is NaN, and the backoff stands.
  return seconds > 0 ? Math.min(seconds * 1000, MAX_RETRY_AFTER_MS) : 0
}
