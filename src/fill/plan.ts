/**
 * What a flight fetches next: which bytes belong to which request, so that no byte is asked for twice and no request
 * is ever aborted to make room for another. Pure; the flight sends the requests.
 */
import { type Segment, Segments } from './segments.ts'

/**
 * One request's worth. Large enough that its overhead (a registry's check of the token, often a redirect) is below one
 * percent at 100 MB/s; small enough that a reader ahead of it waits seconds and not minutes on a slow link, and that
 * little is fetched on the word of a client that has gone.
 */
export const PIECE_BYTES: number = 32 * 1024 * 1024

/**
 * The next piece is asked for when this part of the one before is still to come (8 MiB, 80 ms at 100 MB/s: connect, TLS
 * and redirect of a 20 ms link), so that its round trips cost nothing. A reader further ahead than this gets a piece of
 * its own instead of waiting.
 */
const LEAD = 1 / 4

/**
 * Requests of one flight at a time, as many more as there are connections beyond the first. The lowest gap always gets
 * one, so that ranges ahead never starve the whole.
 */
export const MAX_FETCHES = 4

/** The shortest part worth a connection of its own when a blob is read over several; 8 MiB. */
export function partBytes(pieceBytes: number): number {
  return Math.ceil(pieceBytes * LEAD)
}

/** The bytes one request is to bring. */
export interface Claim {
  readonly kind: 'next' | 'ahead'
  /** What of it has not come yet; whoever writes a byte of it takes it away. */
  readonly wanted: Segments
}

export interface Plan {
  /**
   * Claims the lowest gap, up to `limitBytes` of it, when it is time to ask for it: while fewer than `connections` are
   * busy with it, default 1. A connection with little to go is not.
   */
  next(limitBytes: number, connections?: number): Claim | undefined
  /** Claims for a reader who waits at `position` and wants no byte from `endByte` on, when it would wait too long. */
  ahead(position: number, endByte: number, connections?: number): Claim | undefined
  /** A body brings more than was asked (a primary that ignores ranges): the claim grows by what nobody else brings. */
  widen(claim: Claim, startByte: number, endByte: number): void
  /** Whether a reader at `position` gets its byte within about a piece. Not so deep inside one open-ended request. */
  reaches(position: number): boolean
  /** Where a reader does not get its byte soon: the complement of `reaches`. */
  far(): Segment[]
  /** What is here or claimed. */
  taken(): Segment[]
  /** The request has ended; what it did not bring can be claimed again. */
  release(claim: Claim): void
}

/** The lowest gap in what is taken, up to `limitBytes` of it; undefined when there is none. */
export function lowestGap(taken: Segments, sizeBytes: number, limitBytes: number): Segment | undefined {
  const start = taken.runEnd(0)
  return start < sizeBytes ? [start, Math.min(start + limitBytes, taken.gapEnd(start), sizeBytes)] : undefined
}

/** `held` is what is here already; it may grow only by what was claimed. */
export function createPlan(sizeBytes: number, held: Segments, pieceBytes: number = PIECE_BYTES): Plan {
  const leadBytes = pieceBytes * LEAD
  const taken = new Segments(held.list())
  const claims = new Set<Claim>()
  let rangesIgnored = false

  function claim(kind: Claim['kind'], segment: Segment): Claim {
    const made = { kind, wanted: new Segments([segment]) }
    taken.add(...segment)
    claims.add(made)
    return made
  }

  function ofKind(kind: Claim['kind']): Claim[] {
    return [...claims].filter((item) => item.kind === kind)
  }

  /** What is left when the `connections - 1` that have most to do are not counted. */
  function dueBytes(running: readonly Claim[], connections: number): number {
    const leastLast = running.map(({ wanted }) => wanted.bytes).sort((one, other) => other - one)
    return leastLast.slice(connections - 1).reduce((sum, bytes) => sum + bytes, 0)
  }

  /** Shorter towards the end, so that the connections finish together; what is left behind it is worth one too. */
  function shareBytes(limitBytes: number, connections: number): number {
    if (connections === 1 || limitBytes === Number.POSITIVE_INFINITY) return limitBytes
    const leastBytes = partBytes(pieceBytes)
    const start = taken.runEnd(0)
    const gapBytes = Math.min(taken.gapEnd(start), sizeBytes) - start
    const evenBytes = Math.ceil((sizeBytes - taken.bytes) / connections)
    const bytes = Math.max(leastBytes, Math.min(evenBytes, limitBytes))
    return gapBytes - bytes < leastBytes ? gapBytes : bytes
  }

  return {
    next(limitBytes, connections = 1) {
      const running = ofKind('next')
      if (running.length > 0 && claims.size >= MAX_FETCHES - 1 + connections) return undefined
      if (rangesIgnored && claims.size > 0) return undefined
      if (dueBytes(running, connections) > leadBytes) return undefined
      const gap = lowestGap(taken, sizeBytes, shareBytes(limitBytes, connections))
      return gap && claim('next', gap)
    },

    ahead(position, endByte, connections = 1) {
      if (rangesIgnored || taken.has(position) || position >= sizeBytes) return undefined
      if (claims.size >= MAX_FETCHES - 1 + connections || ofKind('ahead').length >= MAX_FETCHES - 1)
        return undefined
      const gapStart = taken.gapStart(position)
      const start = position - gapStart > leadBytes ? position : gapStart
      const end = Math.min(start + pieceBytes, taken.gapEnd(position), sizeBytes, endByte)
      return claim('ahead', [start, end])
    },

    widen(wide, startByte, endByte) {
      rangesIgnored = true
      for (let start = taken.runEnd(startByte); start < endByte; start = taken.runEnd(start)) {
        const end = Math.min(taken.gapEnd(start), endByte)
        wide.wanted.add(start, end)
        taken.add(start, end)
      }
    },

    reaches(position) {
      if (rangesIgnored) return true
      return [...claims].every(({ wanted }) => {
        const from = wanted.list()[0]?.[0] ?? position
        return !wanted.has(position) || position - from <= pieceBytes
      })
    },

    far() {
      if (rangesIgnored) return []
      return [...claims].flatMap(({ wanted }) => {
        const runs = wanted.list()
        const nearEnd = (runs[0]?.[0] ?? 0) + pieceBytes + 1
        return runs.flatMap(([start, end]) =>
          end > nearEnd ? [[Math.max(start, nearEnd), end] as const] : [],
        )
      })
    },

    taken: () => taken.list(),

    release(ended) {
      if (!claims.delete(ended)) return
      for (const [start, end] of ended.wanted.list()) taken.remove(start, end)
    },
  }
}
