/**
 * What a relay answers a site that asks for its log. One request is one page: the site knows when it asked, the relay
 * says how long it held the question, so the age of a watermark is known on the site's own clock, whatever the line did.
 */
import type { Notice } from '../notification.ts'

export interface LogRecord {
  /** From 1, without gaps, for the life of the log. */
  readonly number: number
  readonly notice: Notice
}

/** Every write that the primary acknowledged `ageMs` before the page was sent, or earlier, is in the log up to `through`. */
export interface PageWatermark {
  /** Of the relay; a new one when completeness could not be proved any longer. */
  readonly epoch: string
  /** Grows with every watermark of an epoch. */
  readonly round: number
  /** The last number of the log that it covers; at most the page's own. */
  readonly through: number
  readonly ageMs: number
}

export interface LogPage {
  /** Which log the numbers are of: a relay that lost its folder begins another. */
  readonly log: string
  readonly records: readonly LogRecord[]
  /** The number this page goes up to; the next one is asked for after it. */
  readonly through: number
  /** The newest number of the log. */
  readonly last: number
  /** Up to here all events were received longer than a minute ago (`SETTLED_MS`). */
  readonly settledThrough: number
  /** Between the arrival of the request and the sending of the page. */
  readonly heldMs: number
  readonly watermark?: PageWatermark | undefined
  /** Why no watermark is to be had, or why the last epoch ended: one sentence, for a person. */
  readonly note?: string | undefined
}

/** The answer with status 410: what was asked after is no longer (or not) in this log; everything must be compared. */
export interface LogGone {
  readonly log: string
  readonly first: number
  readonly last: number
}
