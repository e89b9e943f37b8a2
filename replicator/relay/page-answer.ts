/** One page of the log, made of what is known at one moment. */
import type { RelayLog } from './log.ts'
import type { PageLimits } from './log-segment.ts'
import type { LogGone, LogPage, PageWatermark } from './page.ts'
import type { PageRequest } from './page-request.ts'

/** Every write that the primary acknowledged before `sentAtMs` is in the log up to `through`. */
export interface RelayWatermark {
  readonly epoch: string
  readonly round: number
  readonly through: number
  /** Monotonic milliseconds of the relay. */
  readonly sentAtMs: number
}

export interface PageSources {
  readonly relayLog: Pick<RelayLog, 'id' | 'first' | 'last' | 'settledThrough' | 'read'>
  readonly watermark: () => RelayWatermark | undefined
  readonly note: () => string | undefined
  readonly limits: PageLimits
  readonly now: () => number
}

/** The page, or a `LogGone`, as JSON. */
export type ComposedPage =
  | { readonly text: string; readonly note: string | undefined }
  | { readonly gone: string }

/** `arrivedAtMs`: when the question did. Rejects when the log cannot be read. */
export async function composePage(
  { relayLog, watermark, note, limits, now }: PageSources,
  { after, log, settled }: PageRequest,
  arrivedAtMs: number,
): Promise<ComposedPage> {
  const gone = () => ({
    gone: JSON.stringify({ log: relayLog.id, first: relayLog.first, last: relayLog.last } satisfies LogGone),
  })
  if (log !== undefined && log !== relayLog.id && after !== undefined) return gone()
  // Taken before the records are read: the page that has all of them then reaches it.
  const mark = watermark()
  const asked = after ?? relayLog.last
  if (asked > relayLog.last || asked < relayLog.first - 1) return gone()
  const start = settled ? Math.min(asked, relayLog.settledThrough) : asked
  const entries = await relayLog.read(start, limits)
  if (entries === undefined) return gone()
  const through = entries.at(-1)?.number ?? start
  // A site that begins has not heard what was announced before: no watermark is of use to it yet.
  const isBeginning = after === undefined && !settled
  const said = note()
  // One reading of the clock for both: what is done to the page afterwards only makes it look older than it is.
  const nowMs = now()
  const rest: Omit<LogPage, 'records'> = {
    log: relayLog.id,
    through,
    last: Math.max(relayLog.last, through),
    settledThrough: relayLog.settledThrough,
    heldMs: Math.max(0, Math.floor(nowMs - arrivedAtMs)),
    watermark: mark && !isBeginning && through >= mark.through ? aged(mark, nowMs) : undefined,
    note: said,
  }
  const records = entries.map(({ text }) => text).join(',')
  return { text: `{"records":[${records}],${JSON.stringify(rest).slice(1)}`, note: said }
}

function aged({ epoch, round, through, sentAtMs }: RelayWatermark, nowMs: number): PageWatermark {
  return { epoch, round, through, ageMs: Math.max(0, Math.ceil(nowMs - sentAtMs)) }
}
