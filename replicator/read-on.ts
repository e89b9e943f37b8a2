/** What a page of the relay's log adds to what was read before it, or that something between the two is missing. */
import type { Notice } from './notification.ts'
import type { LogGone, LogPage } from './relay/page.ts'
import { RelayAnswerError } from './relay-answer.ts'
import type { LogPosition } from './relay-client.ts'

export type Reading =
  | {
      readonly kind: 'read'
      readonly notices: readonly Notice[]
      /** What is not among them was received more than a minute ago. */
      readonly isSettled: boolean
    }
  /** `why`: one sentence, for a person. */
  | { readonly kind: 'missed'; readonly why: string }

export interface Asked {
  readonly after: LogPosition
  /** The page was to begin further back. */
  readonly settled: boolean
}

/** Throws `RelayAnswerError` when the page is no answer to what was asked. */
export function readOn(page: LogPage, { after, settled }: Asked): Reading {
  const { records, through, settledThrough, watermark } = page
  if (page.log !== after.log) return { kind: 'missed', why: newLog() }
  const first = records[0]?.number ?? through + 1
  const isWhole = records.every(({ number }, at) => number === first + at)
  if (!isWhole || first + records.length - 1 !== through || first > after.number + 1) {
    return { kind: 'missed', why: `The relay left numbers of its log out after ${after.number}.` }
  }
  if (!settled && through < after.number) {
    throw new RelayAnswerError(
      `the relay sent its log up to ${through}, asked for what comes after ${after.number}`,
    )
  }
  if (watermark && watermark.through > through) {
    throw new RelayAnswerError('the relay sent a watermark before the events that it covers')
  }
  const news = settled ? records : records.filter(({ number }) => number > after.number)
  return { kind: 'read', notices: news.map(({ notice }) => notice), isSettled: first - 1 <= settledThrough }
}

/** Why the relay has nothing to read on from. Throws `RelayAnswerError` when it has. */
export function whyGone({ log, first, last }: LogGone, after: LogPosition): string {
  if (log !== after.log) return newLog()
  if (after.number > last) {
    return `The relay's log ends at ${last}, and ${after.number} was read here before: an older copy of its folder was put back.`
  }
  if (after.number < first - 1) {
    return `The relay keeps its log from ${first} on, and this site has read it up to ${after.number} only: it was away for longer than relay.retention allows.`
  }
  // Only the last minute, which was asked for again, is not whole.
  throw new RelayAnswerError(
    'the relay keeps less than a minute of its log: raise relay.retention.size there',
  )
}

function newLog(): string {
  return 'The relay has begun a new log: its folder was lost, or relay.url names another relay now.'
}
