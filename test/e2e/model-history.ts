/**
 * What a mutable name (a tag, or whether a digest is linked) may be at a moment, told from the writes that were sent and
 * the answers to them. A write whose answer was lost may have taken effect, or may yet; one that was acknowledged has,
 * between its two ends. Times are ticks of one counter.
 */

/** Undefined: nothing there. */
export type Value = string | undefined

export interface Span {
  readonly start: number
  readonly end: number
}

export type Via = 'site' | 'primary'

/** `delete` removes the digest wherever it is, as docker-registry 2.8 does it; `put` sets. */
export interface Write {
  readonly kind: 'put' | 'delete'
  readonly digest: string
  /** A `Via`, or the name of one site of several. */
  readonly via: string
  readonly start: number
}

interface Recorded extends Write {
  /** When it was acknowledged; infinite while it may still take effect. */
  end: number
  /** Until when it may take effect; with `end` once that is known. */
  landed: number
  /** When whoever sent it stopped waiting. */
  over: number
}

interface Reading extends Span {
  readonly value: Value
}

export interface PendingWrite {
  /** `refused`: it has not taken effect and never will. `lost`: nobody knows; until `landsBy` (default for ever) it may yet. */
  settle(outcome: 'acknowledged' | 'refused' | 'lost', at: number, landsBy?: number): void
}

export interface Bounds {
  /** A digest that was deleted elsewhere may still be found (`digests.recheck`). Default false. */
  readonly bySiteOnly?: boolean
  /** How much later than its end a write must be known to this reader; default at once. */
  readonly lateness?: (write: Write) => number
}

export interface History {
  begin(write: Write): PendingWrite
  /** A write through the site that was refused: a reading beside it may have been thrown away all the same. */
  refusedHere(span: Span): void
  /** What the site answered as fresh: from then on it knows. */
  learn(reading: Reading): void
  /** Whether a reader in this span may find the value. */
  mayBe(value: Value, span: Span, bounds?: Bounds): boolean
  /** Whether an outage may bring this value: it was confirmed once, and nothing newer was heard of through the site. */
  mayBeStale(value: string, span: Span): boolean
  /** What the site must be able to serve in an outage that begins now; undefined: nobody can tell. */
  heldFor(span: Span): string | undefined
  /** Drops the writes that no reader from then on may find; of use where `mayBe` alone is asked. */
  forget(before: number): void
}

const INITIAL = { start: -1, end: -1 } as const

export function createHistory(): History {
  const writes: Recorded[] = []
  const readings: Reading[] = []
  const refusals: Span[] = []

  /** The moments since which the value may have stood. */
  function origins(value: Value): Span[] {
    if (value !== undefined) {
      return writes.filter(({ kind, digest }) => kind === 'put' && digest === value).map(effectOf)
    }
    const removals = writes.filter((write) => write.kind === 'delete' && mayBe(write.digest, effectOf(write)))
    return [INITIAL, ...removals.map(effectOf)]
  }

  function mayBe(value: Value, span: Span, { bySiteOnly = false, lateness }: Bounds = {}): boolean {
    const enders = writes
      .filter(
        (write) => replaces(write, value) && !(bySiteOnly && write.kind === 'delete' && write.via !== 'site'),
      )
      .map((write) => ({ start: write.start, end: write.end + (lateness?.(write) ?? 0) }))
    return origins(value).some((origin) => origin.start < span.end && !isBetween(enders, origin, span))
  }

  /** What the site itself has heard of. */
  const pushesHere = () => writes.filter(({ kind, via }) => kind === 'put' && via === 'site')
  const isAcknowledged = (write: Recorded) => write.end !== Number.POSITIVE_INFINITY
  /** A reading beside a write of this site may have been thrown away: only the write's own outcome counts then. */
  const isAlone = (reading: Reading) =>
    !writes.some((write) => write.via === 'site' && write.start < reading.end && reading.start < write.over)

  return {
    begin(write) {
      const never = Number.POSITIVE_INFINITY
      const recorded = { ...write, end: never, landed: never, over: never }
      writes.push(recorded)
      return {
        settle(outcome, at, landsBy = never) {
          recorded.over = at
          recorded.landed = outcome === 'acknowledged' ? at : landsBy
          if (outcome === 'acknowledged') recorded.end = at
          if (outcome === 'refused') {
            writes.splice(writes.indexOf(recorded), 1)
            if (write.via === 'site') refusals.push({ start: write.start, end: at })
          }
        },
      }
    },
    refusedHere: (span) => void refusals.push(span),
    learn: (reading) => void readings.push(reading),
    mayBe,
    mayBeStale(value, span) {
      const confirmations: Span[] = [
        ...pushesHere().filter(({ digest }) => digest === value),
        ...readings.filter((reading) => reading.value === value),
      ]
      const news: Span[] = [
        ...writes.filter((write) => write.via === 'site' && replaces(write, value)),
        ...readings.filter((reading) => reading.value !== value && isAlone(reading)),
      ]
      return confirmations.some(
        (confirmation) => confirmation.start < span.end && !isBetween(news, confirmation, span),
      )
    },
    heldFor(span) {
      const heard: { readonly start: number; readonly end: number; readonly value: Value }[] = [
        ...readings,
        ...writes
          .filter(({ via }) => via === 'site')
          .map((write) => ({
            start: write.start,
            end: write.over,
            value: write.kind === 'put' && isAcknowledged(write) ? write.digest : undefined,
          })),
      ]
      const latest = heard.toSorted((one, other) => other.end - one.end)[0]
      if (latest === undefined || latest.end > span.start) return undefined
      const overlaps =
        heard.some((one) => one !== latest && one.end > latest.start) ||
        refusals.some((one) => one.start < latest.end && one.end > latest.start)
      return overlaps ? undefined : latest.value
    },
    forget(before) {
      const now = { start: before, end: before }
      const isOver = (write: Recorded) => {
        const value = write.kind === 'put' ? write.digest : undefined
        const enders = writes.filter((other) => replaces(other, value))
        return isBetween(enders, effectOf(write), now)
      }
      const over = new Set(writes.filter(isOver))
      const left = writes.filter((write) => !over.has(write))
      writes.splice(0, writes.length, ...left)
    },
  }
}

/** When it may have taken effect. */
function effectOf({ start, landed }: Recorded): Span {
  return { start, end: landed }
}

function replaces({ kind, digest }: Write, value: Value): boolean {
  if (value === undefined) return kind === 'put'
  return kind === 'put' ? digest !== value : digest === value
}

/** Whether one of them happened wholly after the origin and wholly before the span. */
function isBetween(events: readonly Span[], origin: Span, span: Span): boolean {
  return events.some((event) => event.start > origin.end && event.end < span.start)
}
