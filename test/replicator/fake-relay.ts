/** A relay in memory, by the protocol's types: its log, its watermark, and what it answers a question. */
import { randomUUID } from 'node:crypto'
import type { Notice } from '../../replicator/notification.ts'
import type { LogGone, LogPage, LogRecord } from '../../replicator/relay/page.ts'
import type { LogQuestion } from '../../replicator/relay-client.ts'

export interface FakeRelay {
  log: string
  /** Undefined: none is to be had. */
  watermark:
    | { readonly epoch: string; readonly round: number; readonly through: number; readonly sentAtMs: number }
    | undefined
  note: string | undefined
  /** The most that one page has. */
  limit: number
  readonly last: number
  /** Up to here all was received longer than a minute ago. */
  readonly settledThrough: number
  append(...notices: Notice[]): void
  /** Everything the primary acknowledged until now is in the log; `epoch` begins another one. */
  advance(epoch?: string): void
  /** Retention: numbers up to this one are kept no longer. */
  forget(through: number): void
  /** The folder was lost. */
  beginLog(): void
  /** What it answers now to a question that arrived then. */
  answer(question: LogQuestion, arrivedAtMs: number): LogPage | { readonly gone: LogGone }
}

const SETTLED_MS = 60_000

export function fakeRelay(now: () => number): FakeRelay {
  let records: (LogRecord & { readonly atMs: number })[] = []
  let first = 1
  let last = 0
  const settledThrough = () => records.findLast(({ atMs }) => now() - atMs > SETTLED_MS)?.number ?? first - 1

  const relay: FakeRelay = {
    log: 'log-1',
    watermark: undefined,
    note: undefined,
    limit: 1000,
    get last() {
      return last
    },
    get settledThrough() {
      return settledThrough()
    },
    append(...notices) {
      for (const notice of notices) records.push({ number: ++last, notice, atMs: now() })
    },
    advance(epoch = relay.watermark?.epoch ?? 'epoch-1') {
      relay.watermark = {
        epoch,
        round: (relay.watermark?.round ?? 0) + 1,
        through: last,
        sentAtMs: now(),
      }
    },
    forget(through) {
      records = records.filter(({ number }) => number > through)
      first = Math.max(first, through + 1)
    },
    beginLog() {
      records = []
      first = 1
      last = 0
      relay.log = `log-${randomUUID()}`
      relay.watermark = undefined
    },
    answer({ after, settled }, arrivedAtMs) {
      const asked = after?.number ?? last
      const start = settled ? Math.min(asked, settledThrough()) : asked
      if ((after && after.log !== relay.log) || asked > last || start < first - 1) {
        return { gone: { log: relay.log, first, last } }
      }
      const page = records.filter(({ number }) => number > start).slice(0, relay.limit)
      const through = page.at(-1)?.number ?? start
      const { watermark } = relay
      return {
        log: relay.log,
        records: page.map(({ number, notice }) => ({ number, notice })),
        through,
        last,
        settledThrough: settledThrough(),
        heldMs: now() - arrivedAtMs,
        note: relay.note,
        ...(watermark &&
          after &&
          through >= watermark.through && {
            watermark: {
              epoch: watermark.epoch,
              round: watermark.round,
              through: watermark.through,
              ageMs: now() - watermark.sentAtMs,
            },
          }),
      }
    },
  }
  return relay
}
