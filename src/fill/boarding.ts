/**
 * Who may join the flight of a digest, and who starts it (laws 3 and 7). A caller joins only once the primary has
 * confirmed the blob for that caller's repository: by the answer that opened the flight, or by one of its own.
 */
import type { Digest } from '../oci/digest.ts'
import type { AskedRange } from '../oci/ranges.ts'
import type { RepositoryName } from '../oci/reference.ts'
import { StoreError } from '../store/blob-store.ts'
import type { Mark } from '../store/repository-index.ts'
import { UpstreamError } from '../upstream/errors.ts'
import type { Credential } from '../upstream/upstream.ts'
import { type Caller, type Callers, createCallers, isSameCredential } from './callers.ts'
import { AlreadyStoredError, type FillLeases, LeaseUnavailableError } from './fill-leases.ts'
import type { Flight, FlightDependencies } from './flight.ts'
import { wantedSpan } from './follower.ts'
import { type Background, createPacing, type Pacing } from './pacing.ts'
import { createPlaces } from './places.ts'
import { createRoom } from './room.ts'
import { abortable, createSharedQuestions, isSharedFailure, type SharedQuestions } from './share.ts'
import { createSharedStart } from './shared-flight.ts'
import type { Spools } from './spools.ts'
import { createStart } from './start.ts'

/** Who comes for the whole blob, or a range of it. */
export interface Passenger extends Caller {
  readonly range?: AskedRange | undefined
  readonly signal?: AbortSignal | undefined
  /** Undefined for a client. */
  readonly background?: Background | undefined
}

/**
 * `flight`: what was made of it. `pass`: a lone range of a blob nobody asked for whole. `stored`: published meanwhile.
 * `no-room`: there is no flight, since nothing can be kept.
 */
export type Boarded<T> =
  | { readonly kind: 'flight'; readonly place: T }
  | { readonly kind: 'pass' }
  | { readonly kind: 'stored' }
  | { readonly kind: 'no-room'; readonly error: StoreError }

export interface BoardingOptions {
  readonly siteCredential: Credential | undefined
  readonly maxFills: number
  /** How long one waits for a place that only the disk keeps. */
  readonly placeWithinMs: number
  readonly pieceBytes: number
  /** With other processes on the same store: the folder of everyone's spools. */
  readonly sharing?: { readonly leases: FillLeases; readonly folder: string } | undefined
}

export interface Boarding {
  /**
   * `take` is called while the flight is not over, with what has to be called once when its result has no more use for
   * the flight. Throws `UpstreamError`, `FillLimitError`, or the passenger's `signal`'s reason.
   */
  board<T>(
    digest: Digest,
    passenger: Passenger,
    take: (flight: Flight, leave: () => void) => T,
  ): Promise<Boarded<T>>
  isFlying(digest: Digest): boolean
  readonly inFlight: number
  /** Ends every flight and keeps what has come of it. */
  close(): Promise<void>
}

/** A flight and what is known about it before it is open. */
interface Entry {
  readonly starter: Caller
  readonly callers: Callers
  readonly pacing: Pacing
  readonly confirmed: Map<RepositoryName, Mark>
  readonly questions: SharedQuestions
  readonly opening: Promise<Flight>
  /** Once it is open. */
  flight: Flight | undefined
}

type Take<T> = (flight: Flight, leave: () => void) => T

export function createBoarding(
  dependencies: FlightDependencies & { readonly spools: Spools },
  options: BoardingOptions,
): Boarding {
  const { upstream, blobs, index, log, metrics, spools } = dependencies
  const { siteCredential, maxFills, placeWithinMs, pieceBytes, sharing } = options
  const entries = new Map<Digest, Entry>()
  /** Asks for the whole that are still looking whether it is here and may be kept. */
  const beginning = new Map<Digest, Promise<unknown>>()
  const room = createRoom({ blobs, log, metrics })
  const places = createPlaces({
    limit: maxFills,
    taken: () => entries.size,
    isOneLeaving: () => [...entries.values()].some(({ flight }) => flight?.hasArrived),
    metrics,
  })
  const startOwn = createStart(dependencies, { pieceBytes, onSpoolLost: room.wasLost })
  const start = sharing ? createSharedStart({ ...dependencies, ...sharing, startOwn }) : startOwn
  const closing = new AbortController()

  function enter(digest: Digest, starter: Passenger, isKept: boolean): { entry: Entry; leave: () => void } {
    const confirmed = new Map<RepositoryName, Mark>()
    const callers = createCallers(confirmed, siteCredential)
    const pacing = createPacing()
    const leave = attend({ callers, pacing }, starter)
    const opening = start({
      ...{ digest, starter, isKept, callers, pacing, confirmed },
      signal: closing.signal,
    })
    const entry: Entry = {
      starter,
      callers,
      pacing,
      confirmed,
      questions: createSharedQuestions(),
      opening,
      flight: undefined,
    }
    entries.set(digest, entry)
    metrics.fillsInFlight.set(entries.size)
    places.begun(digest)
    const remove = () => {
      entries.delete(digest)
      metrics.fillsInFlight.set(entries.size)
      places.offer()
    }
    opening.then((flight) => {
      entry.flight = flight
      return flight.ended.then(remove)
    }, remove)
    return { entry, leave }
  }

  /** For a lone range; undefined when the whole is on its way or about to be, which brings the range too. */
  async function beside(digest: Digest, passenger: Passenger): Promise<Boarded<never> | undefined> {
    const begun = beginning.get(digest)
    if (begun !== undefined) {
      await begun.catch(() => undefined) // Told to whoever looked.
      return undefined
    }
    if ((await blobs.stat(digest)) !== undefined) return { kind: 'stored' }
    if (!sharing) return { kind: 'pass' }
    const isTaken = await sharing.leases.isTaken(digest)
    if (entries.has(digest)) return undefined
    if (!isTaken || closing.signal.aborted || places.areTaken) return { kind: 'pass' }
    enter(digest, passenger, true).leave() // It joins, as others do.
    return undefined
  }

  /** Undefined: somebody else has begun meanwhile, there may be a place now, or the site stops. */
  async function begin<T>(
    digest: Digest,
    passenger: Passenger,
    take: Take<T>,
    waitsUntilMs: number,
  ): Promise<Boarded<T> | undefined> {
    if (!isWhole(passenger.range)) return beside(digest, passenger)
    // All at once: each is a trip to the disk before the primary is asked.
    const looking = Promise.all([blobs.stat(digest), room.isLeft(), spools.isKept(digest)])
    beginning.set(digest, looking)
    let looked: Awaited<typeof looking>
    try {
      looked = await looking
    } finally {
      if (beginning.get(digest) === looking) beginning.delete(digest)
    }
    const [heldBytes, hasRoom, isKept] = looked
    if (heldBytes !== undefined) return { kind: 'stored' }
    if (entries.has(digest) || closing.signal.aborted) return undefined
    if (!hasRoom) return { kind: 'no-room', error: new StoreError('full', `no room to keep ${digest}`) }
    if (places.areTaken) {
      await places.wait(digest, waitsUntilMs, passenger.signal)
      return undefined
    }
    const { entry, leave } = enter(digest, passenger, isKept)
    try {
      const flight = await abortable(entry.opening, passenger.signal)
      if (entry.confirmed.has(passenger.name)) return { kind: 'flight', place: take(flight, leave) }
      // Another process's, so that it was opened on nobody's word: this passenger joins as others do.
      leave()
      return undefined
    } catch (error) {
      leave()
      if (error instanceof AlreadyStoredError) return { kind: 'stored' }
      if (!(error instanceof StoreError)) throw error
      if (!(error instanceof LeaseUnavailableError)) room.wasLost(error)
      return { kind: 'no-room', error }
    }
  }

  /** Asks the primary unless it has confirmed the blob for this repository and no removal was seen since. */
  async function confirmJoiner(
    entry: Entry,
    digest: Digest,
    { name, credential, requestId, signal }: Passenger,
  ): Promise<void> {
    const known = entry.confirmed.get(name)
    if (known && (await index.stands(name, 'layer', digest, known))) return
    await entry.questions.ask(name, credential, signal, async () => {
      const mark = index.mark()
      await upstream.confirmBlob(name, digest, { credential, requestId })
      entry.confirmed.set(name, mark)
    })
  }

  /** Undefined: it has ended, or could not be opened for reasons that are not this passenger's. */
  async function join<T>(
    entry: Entry,
    digest: Digest,
    passenger: Passenger,
    take: Take<T>,
    waited: boolean,
  ): Promise<Boarded<T> | undefined> {
    const { name, credential, signal, range } = passenger
    const opensForIt = entry.flight === undefined && entry.starter.name === name && !waited
    if (!opensForIt) await confirmJoiner(entry, digest, passenger)
    let flight: Flight
    try {
      flight = await abortable(entry.opening, signal)
    } catch (error) {
      const { starter } = entry
      const asksTheSame = starter.name === name && isSameCredential(starter.credential, credential)
      if (signal?.aborted || isSharedFailure(error, asksTheSame)) throw error
      return undefined
    }
    // What was confirmed may have been removed while the flight was opened.
    await confirmJoiner(entry, digest, passenger)
    if (flight.isOver) {
      await abortable(flight.ended, signal)
      return undefined
    }
    if (!isWhole(range) && !flight.reaches(wantedSpan(range, flight.spool.sizeBytes)[0])) {
      return { kind: 'pass' }
    }
    return { kind: 'flight', place: take(flight, attend(entry, passenger)) }
  }

  return {
    async board(digest, passenger, take) {
      const waitsUntilMs = performance.now() + placeWithinMs
      try {
        for (let waited = false; ; ) {
          passenger.signal?.throwIfAborted()
          if (closing.signal.aborted) throw new UpstreamError('aborted', 'this site is shutting down')
          const entry = entries.get(digest)
          const boarded = await (entry
            ? join(entry, digest, passenger, take, waited)
            : begin(digest, passenger, take, waitsUntilMs))
          if (boarded) return boarded
          waited ||= entry !== undefined
        }
      } finally {
        places.offer()
      }
    },
    isFlying: (digest) => entries.has(digest),
    get inFlight() {
      return entries.size
    },
    async close() {
      closing.abort()
      await Promise.all(
        [...entries.values()].map(async ({ opening }) => {
          const flight = await opening.catch(() => undefined) // Whoever waits for it is told.
          await flight?.stop()
        }),
      )
    },
  }
}

/** Counts the passenger as one of those the flight is for. */
function attend({ callers, pacing }: Pick<Entry, 'callers' | 'pacing'>, passenger: Passenger): () => void {
  const { name, credential, expiresAtMs, requestId } = passenger
  const leaves = [
    callers.join({ name, credential, expiresAtMs, requestId }),
    pacing.join(passenger.background),
  ]
  return () => {
    for (const leave of leaves) leave()
  }
}

/** `bytes=0-` asks for everything, as containerd does. */
function isWhole(range: AskedRange | undefined): boolean {
  return !range || (range.start === 0 && range.end === undefined)
}
