/**
 * Places for blobs on their way (`http.limits.maxfills`). One that is here and only waits for the disk keeps its place, so
 * that a disk slower than the primary holds clients up, in the order they came, instead of being left ever further behind.
 * Where nothing but the primary could make a place soon, who comes is refused at once.
 */
import type { Metrics } from '../metrics.ts'
import type { Digest } from '../oci/digest.ts'
import { FillLimitError } from './fill.ts'
import { abortable } from './share.ts'

export interface Places {
  readonly areTaken: boolean
  /**
   * Resolves when it is worth looking again. Throws `FillLimitError`, at the latest at `untilMs` (monotonic), or the
   * `signal`'s reason.
   */
  wait(digest: Digest, untilMs: number, signal: AbortSignal | undefined): Promise<void>
  /** A place may be free, or was not used by whom it was offered to. */
  offer(): void
  /** The blob is on its way: who waits for the same needs no place. */
  begun(digest: Digest): void
}

export interface PlacesOptions {
  readonly limit: number
  readonly taken: () => number
  /** Whether a place is held by a blob of which nothing is missing any more. */
  readonly isOneLeaving: () => boolean
  readonly metrics: Metrics
}

interface InLine {
  readonly digest: Digest
  readonly go: () => void
}

export function createPlaces({ limit, taken, isOneLeaving, metrics }: PlacesOptions): Places {
  const line = new Set<InLine>()

  function refusal(why: string): FillLimitError {
    metrics.limited.inc({ limit: 'maxfills' })
    return new FillLimitError(`${limit} blobs ${why}: try again`)
  }
  function call(one: InLine): void {
    line.delete(one)
    one.go()
  }
  function offer(): void {
    const [first] = line
    if (first && taken() < limit) call(first)
  }
  return {
    get areTaken() {
      return taken() >= limit
    },
    async wait(digest, untilMs, signal) {
      if (!isOneLeaving()) throw refusal('are being fetched')
      const { promise: called, resolve: go, reject } = Promise.withResolvers<void>()
      const one = { digest, go }
      const giveUp = () => reject(refusal('are here or on their way, and the disk is behind with them'))
      const patience = setTimeout(giveUp, untilMs - performance.now())
      line.add(one)
      metrics.fillsWaiting.set(line.size)
      try {
        await abortable(called, signal)
      } finally {
        clearTimeout(patience)
        line.delete(one)
        metrics.fillsWaiting.set(line.size)
      }
    },
    offer,
    begun(digest) {
      for (const one of [...line]) if (one.digest === digest) call(one)
    },
  }
}
