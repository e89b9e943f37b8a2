/** What may be left undone while the other processes on the store cannot be told: said once a minute, not each time. */
import type { Logger } from '../log.ts'
import { CoordinationUnavailableError } from './coordination.ts'

/** The outcome of the work, or `otherwise` where it could not be coordinated. */
export type Skipping = <T>(work: Promise<T>, otherwise: T) => Promise<T>

const SAID_EVERY_MS = 60_000

/** `now`: monotonic, in milliseconds; default `performance.now`. */
export function createSkipping(log: Logger, now: () => number = () => performance.now()): Skipping {
  let nextSaidAtMs = -Infinity
  let skipped = 0
  return async (work, otherwise) => {
    try {
      return await work
    } catch (error) {
      if (!(error instanceof CoordinationUnavailableError)) throw error
      skipped += 1
      if (now() >= nextSaidAtMs) {
        log.warn(
          { error, skipped },
          'nothing is linked or tagged here until Redis answers: what is here is still served, and the rest is ' +
            'fetched again when it is asked for',
        )
        nextSaidAtMs = now() + SAID_EVERY_MS
        skipped = 0
      }
      return otherwise
    }
  }
}
