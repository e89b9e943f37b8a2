/** How a site stands with the relay that it follows: for the report, and for its health. */
import type { AnswerOf } from './answer-of.ts'

export interface FollowState {
  readonly url: string
  readonly connected: boolean
  /** Since it answered last; undefined while it does, or when it never did. */
  readonly awayMs: number | undefined
  /** The number of its log up to which everything was taken, and how many are left. */
  readonly cursor: number | undefined
  readonly behind: number | undefined
  /** Since when tags that were asked for can be covered by a watermark; undefined: they cannot. */
  readonly epochAgeMs: number | undefined
  readonly watermarkAgeMs: number | undefined
  /** What the relay says of its watermark. */
  readonly note: string | undefined
  /** What was missed last, since the process started. */
  readonly lastGap: string | undefined
  /** Sentences; undefined: nothing keeps it from following. */
  readonly lastError: string | undefined
}

/** Null: nobody knows. */
export interface FollowStatus {
  readonly url: string
  readonly connected: boolean
  readonly cursor: number | null
  readonly behind: number | null
  /** Null while no epoch is under way here. */
  readonly epoch_age_seconds: number | null
  /** Null while there is none: every pull by tag asks the primary. */
  readonly watermark_age_seconds: number | null
  /** Why the relay has no watermark, or why its last epoch ended. */
  readonly note: string | null
  /** Why everything was last compared with the primary, since the process started. */
  readonly last_gap: string | null
  readonly last_error: string | null
}

/** A short break of the line is no matter for a person. */
const AWAY_MS = 60_000

export function followStatus({ value }: AnswerOf<FollowState | undefined>): FollowStatus | null {
  if (!value) return null
  return {
    url: value.url,
    connected: value.connected,
    cursor: value.cursor ?? null,
    behind: value.behind ?? null,
    epoch_age_seconds: secondsOf(value.epochAgeMs),
    watermark_age_seconds: secondsOf(value.watermarkAgeMs),
    note: value.note ?? null,
    last_gap: value.lastGap ?? null,
    last_error: value.lastError ?? null,
  }
}

/** What is wrong with it, in sentences. */
export function unfollowedBecause(state: FollowState | undefined): string[] {
  if (state?.lastError === undefined) return []
  const { connected, awayMs = Number.POSITIVE_INFINITY, lastError } = state
  if (!connected && awayMs < AWAY_MS) return []
  return [`The relay's log is not followed; pulls go on, and ask the primary for tags: ${lastError}`]
}

function secondsOf(ageMs: number | undefined): number | null {
  return ageMs === undefined ? null : ageMs / 1000
}
