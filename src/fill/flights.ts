/**
 * The fill: one flight per digest, and who may join it (laws 3 and 7). A caller joins only once the primary has
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
import { openDirect } from './direct-reader.ts'
import { type Fill, type FillAsk, FillLimitError, type FillOutcome } from './fill.ts'
import { createFlight, type Flight, type FlightDependencies, limitBytes } from './flight.ts'
import { createFollower, wantedSpan } from './follower.ts'
import { openSpool } from './opening.ts'
import { PIECE_BYTES } from './plan.ts'
import { createRoom } from './room.ts'
import { abortable, createSharedQuestions, isSharedFailure, type SharedQuestions } from './share.ts'
import { openSpools } from './spools.ts'

export interface FillOptions {
  /** `<root>/geo-registry/spools`, on the filesystem of the blobs. Made when missing. */
  readonly folder: string
  /**
   * What a flight asks with when no follower is left. Undefined: such a flight is suspended, and its spool kept until
   * somebody asks again.
   */
  readonly siteCredential?: Credential | undefined
  /** Default 64. Joining a flight is always possible. */
  readonly maxConcurrentFills?: number | undefined
  /** Default `PIECE_BYTES`, 32 MiB. */
  readonly pieceBytes?: number | undefined
}

export interface OpenFill extends Fill {
  /** Ends every flight and keeps what has come of it. Waiting followers get `UpstreamError` `aborted`. */
  close(): Promise<void>
}

/** A flight and what is known about it before it is open. */
interface Entry {
  readonly starter: Caller
  readonly callers: Callers
  readonly confirmed: Map<RepositoryName, Mark>
  readonly questions: SharedQuestions
  readonly opening: Promise<Flight>
  /** Once it is open. */
  flight: Flight | undefined
}

const DEFAULT_MAX_FILLS = 64
const SWEEP_INTERVAL_MS = 60 * 60 * 1000

/** Removes the spools nobody can resume; the others are resumed when somebody asks. */
export async function openFill(dependencies: FlightDependencies, options: FillOptions): Promise<OpenFill> {
  const { upstream, blobs, index, log, metrics } = dependencies
  const maxFills = options.maxConcurrentFills ?? DEFAULT_MAX_FILLS
  const pieceBytes = options.pieceBytes ?? PIECE_BYTES
  const entries = new Map<Digest, Entry>()
  /** Asks for the whole that are still looking whether it is here and may be kept. */
  const beginning = new Map<Digest, Promise<unknown>>()
  const room = createRoom({ blobs, log, metrics })
  const closing = new AbortController()
  const spools = await openSpools(options.folder)
  const isInUse = (digest: Digest) => entries.has(digest)
  await spools.sweep(isInUse)
  const sweeping = setInterval(() => {
    spools.sweep(isInUse).catch((error: unknown) => log.error({ error }, 'spools could not be swept'))
  }, SWEEP_INTERVAL_MS).unref()

  function enter(digest: Digest, starter: Caller): { entry: Entry; leave: () => void } {
    const confirmed = new Map<RepositoryName, Mark>()
    const callers = createCallers(confirmed, options.siteCredential)
    const leave = callers.join(starter)
    const opening = open(digest, starter, callers, confirmed)
    const entry: Entry = {
      starter,
      callers,
      confirmed,
      questions: createSharedQuestions(),
      opening,
      flight: undefined,
    }
    entries.set(digest, entry)
    metrics.fillsInFlight.set(entries.size)
    const remove = () => {
      entries.delete(digest)
      metrics.fillsInFlight.set(entries.size)
    }
    opening.then((flight) => {
      entry.flight = flight
      return flight.ended.then(remove)
    }, remove)
    return { entry, leave }
  }

  async function open(
    digest: Digest,
    starter: Caller,
    callers: Callers,
    confirmed: Map<RepositoryName, Mark>,
  ): Promise<Flight> {
    const abort = new AbortController()
    const stop = () => abort.abort()
    closing.signal.addEventListener('abort', stop)
    try {
      const mark = index.mark()
      const opening = await openSpool(
        { upstream, spools },
        { digest, caller: starter, limitBytes: limitBytes(callers, pieceBytes), signal: abort.signal },
      )
      confirmed.set(starter.name, mark)
      return createFlight(dependencies, {
        ...opening,
        callers,
        confirmed,
        abort,
        pieceBytes,
        onSpoolLost: room.wasLost,
      })
    } finally {
      closing.signal.removeEventListener('abort', stop)
    }
  }

  /** For a lone range; undefined when somebody is about to begin with the whole, which brings the range too. */
  async function beside(digest: Digest): Promise<FillOutcome | undefined> {
    const begun = beginning.get(digest)
    if (!begun) return (await blobs.stat(digest)) === undefined ? { kind: 'pass' } : { kind: 'stored' }
    await begun.catch(() => undefined) // Told to whoever looked.
    return undefined
  }

  /** Undefined: somebody else has begun meanwhile, or the site stops. */
  async function begin(digest: Digest, caller: Caller, ask: FillAsk): Promise<FillOutcome | undefined> {
    if (!isWhole(ask.range)) return beside(digest)
    const looking = Promise.all([blobs.stat(digest), room.isLeft()])
    beginning.set(digest, looking)
    let looked: Awaited<typeof looking>
    try {
      looked = await looking
    } finally {
      if (beginning.get(digest) === looking) beginning.delete(digest)
    }
    const [heldBytes, hasRoom] = looked
    if (heldBytes !== undefined) return { kind: 'stored' }
    if (entries.has(digest) || closing.signal.aborted) return undefined
    if (!hasRoom) return direct(digest, caller, ask.signal)
    if (entries.size >= maxFills) {
      metrics.limited.inc({ limit: 'maxfills' })
      throw new FillLimitError(`${maxFills} blobs are being fetched: try again`)
    }
    const { entry, leave } = enter(digest, caller)
    try {
      const flight = await abortable(entry.opening, ask.signal)
      return { kind: 'follower', follower: createFollower(upstream, flight, caller, ask.range, leave) }
    } catch (error) {
      leave()
      if (!(error instanceof StoreError)) throw error
      room.wasLost(error)
      return direct(digest, caller, ask.signal)
    }
  }

  async function direct(
    digest: Digest,
    caller: Caller,
    signal: AbortSignal | undefined,
  ): Promise<FillOutcome> {
    return { kind: 'follower', follower: await openDirect(upstream, digest, caller, signal) }
  }

  /** Asks the primary unless it has confirmed the blob for this repository and no removal was seen since. */
  async function confirmJoiner(
    entry: Entry,
    digest: Digest,
    { name, credential, requestId }: Caller,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const known = entry.confirmed.get(name)
    if (known && index.stands(name, 'layer', digest, known)) return
    await entry.questions.ask(name, credential, signal, async () => {
      const mark = index.mark()
      await upstream.confirmBlob(name, digest, { credential, requestId })
      entry.confirmed.set(name, mark)
    })
  }

  /** Undefined: it has ended, or could not be opened for reasons that are not this caller's. */
  async function join(
    entry: Entry,
    digest: Digest,
    caller: Caller,
    ask: FillAsk,
    waited: boolean,
  ): Promise<FillOutcome | undefined> {
    const { name, credential } = caller
    const opensForIt = entry.flight === undefined && entry.starter.name === name && !waited
    if (!opensForIt) await confirmJoiner(entry, digest, caller, ask.signal)
    let flight: Flight
    try {
      flight = await abortable(entry.opening, ask.signal)
    } catch (error) {
      const { starter } = entry
      const asksTheSame = starter.name === name && isSameCredential(starter.credential, credential)
      if (ask.signal?.aborted || isSharedFailure(error, asksTheSame)) throw error
      return undefined
    }
    // What was confirmed may have been removed while the flight was opened.
    await confirmJoiner(entry, digest, caller, ask.signal)
    if (flight.isOver) {
      await abortable(flight.ended, ask.signal)
      return undefined
    }
    if (!isWhole(ask.range) && !flight.reaches(wantedSpan(ask.range, flight.spool.sizeBytes)[0])) {
      return { kind: 'pass' }
    }
    const leave = entry.callers.join(caller)
    return { kind: 'follower', follower: createFollower(upstream, flight, caller, ask.range, leave) }
  }

  return {
    get inFlight() {
      return entries.size
    },
    async follow(name, digest, ask) {
      const { credential, expiresAtMs, requestId } = ask
      const caller: Caller = { name, credential, expiresAtMs, requestId }
      for (let waited = false; ; ) {
        ask.signal?.throwIfAborted()
        if (closing.signal.aborted) throw new UpstreamError('aborted', 'this site is shutting down')
        const entry = entries.get(digest)
        const outcome = await (entry ? join(entry, digest, caller, ask, waited) : begin(digest, caller, ask))
        if (outcome) return outcome
        waited ||= entry !== undefined
      }
    },
    async close() {
      clearInterval(sweeping)
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

/** `bytes=0-` asks for everything, as containerd does. */
function isWhole(range: AskedRange | undefined): boolean {
  return !range || (range.start === 0 && range.end === undefined)
}
