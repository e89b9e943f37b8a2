/** How a flight begins: its first request to the primary, and the spool that takes the answer. */
import type { Digest } from '../oci/digest.ts'
import type { RepositoryName } from '../oci/reference.ts'
import type { StoreError } from '../store/blob-store.ts'
import type { Mark } from '../store/repository-index.ts'
import type { Caller, Callers } from './callers.ts'
import type { FillState } from './fill-state.ts'
import {
  createFlight,
  type Flight,
  type FlightDependencies,
  limitBytes,
  type OwnFlight,
  type Sharing,
} from './flight.ts'
import { openSpool } from './opening.ts'
import type { Pacing } from './pacing.ts'
import { partBytes } from './plan.ts'
import type { Spools } from './spools.ts'

/** What a flight is begun for. */
export interface Departure {
  readonly digest: Digest
  /** Who it is opened as. */
  readonly starter: Caller
  /** Whether an interrupted flight may have left a spool. */
  readonly isKept: boolean
  readonly callers: Callers
  readonly pacing: Pacing
  /** The starter's repository is added when the primary's answer has opened the flight. */
  readonly confirmed: Map<RepositoryName, Mark>
  /** The site stops: a flight that is not open yet never will be. */
  readonly signal: AbortSignal
}

/** Where other processes follow the flight. */
export interface SharedDeparture {
  readonly left: FillState | undefined
  readonly sharing: Sharing
}

/** Throws `UpstreamError`; `StoreError` when no spool can be had. */
export type StartFlight = (departure: Departure) => Promise<Flight>

export type StartOwnFlight = (departure: Departure, shared?: SharedDeparture) => Promise<OwnFlight>

export interface StartOptions {
  readonly pieceBytes: number
  /** The disk takes no more, or gives no more back. */
  readonly onSpoolLost: (error: StoreError) => void
}

export function createStart(
  dependencies: FlightDependencies & { readonly spools: Spools },
  { pieceBytes, onSpoolLost }: StartOptions,
): StartOwnFlight {
  const { upstream, index, spools } = dependencies
  return async (departure, shared) => {
    const { digest, starter, isKept, callers, pacing, confirmed, signal } = departure
    const abort = new AbortController()
    const stop = () => abort.abort()
    signal.addEventListener('abort', stop)
    // Only its answer says how large the blob is: a short first part leaves the more for other connections.
    const firstBytes = limitBytes(callers, pacing.connections > 1 ? partBytes(pieceBytes) : pieceBytes)
    try {
      const mark = index.mark()
      const opening = await openSpool(
        { upstream, spools },
        { digest, isKept, left: shared?.left, caller: starter, limitBytes: firstBytes, signal: abort.signal },
      )
      confirmed.set(starter.name, mark)
      return createFlight(dependencies, {
        ...opening,
        firstBytes,
        callers,
        pacing,
        confirmed,
        abort,
        pieceBytes,
        onSpoolLost,
        sharing: shared?.sharing,
      })
    } finally {
      signal.removeEventListener('abort', stop)
    }
  }
}
