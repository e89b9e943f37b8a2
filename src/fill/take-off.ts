/** Who fetches where several processes share the store: this process when it gets the lease, else it follows. */
import { type BlobStore, StoreError } from '../store/blob-store.ts'
import { UpstreamError } from '../upstream/errors.ts'
import {
  AlreadyStoredError,
  type FillFollowing,
  type FillLease,
  type FillLeases,
  type FillListener,
  LeaseUnavailableError,
} from './fill-leases.ts'
import { type Ending, isRefusal, type OwnFlight } from './flight.ts'
import { startHeld } from './holding.ts'
import { createRetry } from './retry.ts'
import { spoolError } from './spool.ts'
import type { Departure, StartOwnFlight } from './start.ts'

export type Follow = (listener: FillListener) => FillFollowing

export interface TakeOffDependencies {
  readonly leases: FillLeases
  readonly blobs: BlobStore
  readonly startOwn: StartOwnFlight
}

/** `own`: it is fetched here. `theirs`: in another process. */
export type TakeOff =
  | { readonly kind: 'own'; readonly flight: OwnFlight }
  | { readonly kind: 'theirs'; readonly follow: Follow }

/** As the departure's starter. Throws as `StartFlight`, `LeaseUnavailableError` and `AlreadyStoredError` too. */
export async function takeOff(
  { leases, blobs, startOwn }: TakeOffDependencies,
  departure: Departure,
): Promise<TakeOff> {
  const { digest } = departure
  const taken = await leases.take(digest)
  if (taken.kind === 'unreachable') throw new LeaseUnavailableError(digest)
  if (taken.kind === 'theirs') return taken
  await refuseStored(blobs, departure, taken.lease)
  return { kind: 'own', flight: await startHeld(startOwn, departure, taken.lease) }
}

/** Another process may have published it between our look and its giving up the lease. */
async function refuseStored(blobs: BlobStore, { digest }: Departure, lease: FillLease): Promise<void> {
  let isStored = false
  try {
    isStored = (await blobs.stat(digest)) !== undefined
  } catch (error) {
    await lease.end({ kind: 'left' })
    throw error
  }
  if (!isStored) return
  await lease.end({ kind: 'published' })
  throw new AlreadyStoredError(`${digest} is here by now`)
}

/** What follows where another process has left: `over` where nobody here can go on. */
export type Succession =
  | TakeOff
  | { readonly kind: 'stored' }
  | { readonly kind: 'over'; readonly ending: Ending }

/** As whoever is still here for it, and as often as a flight asks. Never rejects. */
export async function succeed(dependencies: TakeOffDependencies, departure: Departure): Promise<Succession> {
  const { digest, callers, signal } = departure
  if (signal.aborted) return failed(new UpstreamError('aborted', 'this site is shutting down'))
  if (!callers.choose()) return failed(callers.refusal ?? nobodyLeft(departure))
  const startOwn: StartOwnFlight = (_, shared) => startAsAnyone(dependencies.startOwn, departure, shared)
  try {
    return await takeOff({ ...dependencies, startOwn }, departure)
  } catch (error) {
    if (error instanceof AlreadyStoredError) return { kind: 'stored' }
    if (error instanceof UpstreamError) return failed(error)
    if (signal.aborted) return failed(new UpstreamError('aborted', 'this site is shutting down'))
    const kept = error instanceof StoreError ? error : spoolError(`fill of ${digest}`, error)
    return { kind: 'over', ending: { kind: 'unkept', error: kept } }
  }
}

async function startAsAnyone(
  startOwn: StartOwnFlight,
  departure: Departure,
  shared: Parameters<StartOwnFlight>[1],
): Promise<OwnFlight> {
  const { callers, signal } = departure
  const retry = createRetry(signal)
  for (let caller = callers.choose(); caller; caller = callers.choose()) {
    try {
      return await startOwn({ ...departure, starter: caller }, shared)
    } catch (error) {
      if (isRefusal(error)) callers.refuse(caller, error)
      else await retry.after(error, 0)
    }
  }
  throw callers.refusal ?? nobodyLeft(departure)
}

function nobodyLeft({ digest }: Departure): UpstreamError {
  return new UpstreamError('aborted', `blob ${digest}: nobody is left to fetch it for`)
}

function failed(error: UpstreamError): Succession {
  return { kind: 'over', ending: { kind: 'failed', error } }
}
