/**
 * The one place that turns an error into a decision to try again: inside a job for what passes by itself within
 * seconds, and from one attempt at a repository to the next for all else.
 */
import { setTimeout as delay } from 'node:timers/promises'
import pRetry from 'p-retry'
import { FillLimitError } from '../src/fill/fill.ts'
import { UpstreamError, type UpstreamErrorKind } from '../src/upstream/errors.ts'
import { CopyError } from './copying.ts'

export interface NextAttempt {
  readonly delayMs: number
  /** It has failed so often that a hand should look; it is tried on at the longest delay. */
  readonly needsAttention: boolean
}

const LONGEST_DELAY_SECONDS = 3600
const LAST_SPREAD_SECONDS = 300
const FAILURES_FOR_ATTENTION = 10

/**
 * When to try again what has failed `failures` times in a row (1 after the first): GitLab's `Delay` (ee/lib/delay.rb),
 * n⁴ + 15 + rand(30)·(n + 1) seconds, at most 1 h. What has reached that is spread over the last 5 minutes of it, for
 * what failed together is not to be retried together for ever. `random` is in [0, 1).
 */
export function nextAttempt(failures: number, random: () => number = Math.random): NextAttempt {
  const grown = failures ** 4 + 15 + 30 * random() * (failures + 1)
  const seconds = Math.min(grown, LONGEST_DELAY_SECONDS - LAST_SPREAD_SECONDS * random())
  return { delayMs: Math.round(seconds * 1000), needsAttention: failures >= FAILURES_FOR_ATTENTION }
}

/** How often more a request is worth sending within one job. The primary's word (401, 403, 404) is not argued with. */
const RETRIES: Record<UpstreamErrorKind, number> = {
  unavailable: 3,
  limited: 3,
  // A middlebox's page may be gone the next moment; wrong content stays wrong.
  faulty: 1,
  unauthorized: 0,
  denied: 0,
  absent: 0,
  aborted: 0,
}

/** A primary that wants to be left alone for longer than this is, until the next attempt. */
const LONGEST_RETRY_AFTER_MS = 30_000

/** Whether the same work may succeed within seconds. */
export function isWorthRetrying(error: unknown): boolean {
  return retriesFor(error) > 0
}

function retriesFor(error: unknown): number {
  const cause = error instanceof CopyError ? error.cause : error
  if (cause instanceof FillLimitError) return RETRIES.limited
  if (!(cause instanceof UpstreamError)) return 0
  return retryAfterMs(cause) > LONGEST_RETRY_AFTER_MS ? 0 : RETRIES[cause.kind]
}

/** 0 where the primary does not say. */
function retryAfterMs(error: unknown): number {
  const cause = error instanceof CopyError ? error.cause : error
  if (!(cause instanceof UpstreamError) || cause.retryAfter === undefined) return 0
  // RFC 9110, section 10.2.3: seconds or a date.
  const seconds = /^\d+$/.test(cause.retryAfter)
    ? Number(cause.retryAfter)
    : (Date.parse(cause.retryAfter) - Date.now()) / 1000
  return seconds > 0 ? seconds * 1000 : 0
}

export interface RetryOptions {
  readonly signal: AbortSignal
  /** Before the first retry; default 300. It grows threefold, and each is up to doubled at random. */
  readonly firstDelayMs?: number | undefined
}

/**
 * Runs `work`, and again while its error may pass: at most three times after no answer or 429, waiting as long as
 * `Retry-After` asks up to 30 s, and once after a faulty answer. Throws what the last run threw, or the `signal`'s
 * reason.
 */
export async function retryInside<T>(work: () => Promise<T>, options: RetryOptions): Promise<T> {
  const { signal, firstDelayMs = 300 } = options
  return await pRetry(work, {
    signal,
    retries: Math.max(...Object.values(RETRIES)),
    minTimeout: firstDelayMs,
    factor: 3,
    randomize: true,
    unref: true,
    async shouldRetry({ error, attemptNumber, retryDelay }) {
      if (attemptNumber > retriesFor(error)) return false
      const furtherMs = retryAfterMs(error) - retryDelay // p-retry itself waits for the rest after this.
      // It looks at the signal next, and throws its reason.
      if (furtherMs > 0) await delay(furtherMs, undefined, { signal, ref: false }).catch(() => {})
      return true
    },
  })
}
