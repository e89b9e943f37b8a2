/**
 * One blob on its way from the primary, owned by nobody who asked for it: it goes on when they leave. It decides what
 * is fetched next and as whom, shows followers what they may see, and publishes the blob once its digest is right.
 *
 * filling → verified → published; or it ends otherwise, as `failed` (its followers get the error, and the spool can be
 * resumed unless its content is wrong) or `unkept` (the disk; its followers read on from the primary themselves).
 */
import { basename } from 'node:path'
import type { Logger } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import type { Digest } from '../oci/digest.ts'
import type { RepositoryName } from '../oci/reference.ts'
import type { BlobStore, StoreError } from '../store/blob-store.ts'
import type { Mark, RepositoryIndex } from '../store/repository-index.ts'
import { HOLD_BACK_BYTES } from '../store/verify-stream.ts'
import { UpstreamError } from '../upstream/errors.ts'
import type { ArrivingBlob, Upstream } from '../upstream/upstream.ts'
import { FLIGHT_BUFFER_BYTES } from './batch-writer.ts'
import type { Callers } from './callers.ts'
import { type FetchTarget, fetchClaim } from './fetcher.ts'
import type { FillState } from './fill-state.ts'
import { createLatestBytes } from './latest-bytes.ts'
import type { Pacing } from './pacing.ts'
import { type Claim, createPlan } from './plan.ts'
import { createPrefixDigest } from './prefix-digest.ts'
import { publishBlob } from './publish.ts'
import { WrongContentError } from './retry.ts'
import { abortable } from './share.ts'
import { type ReadableSpool, type Spool, spoolError } from './spool.ts'
import { createWaiters, type Waiter } from './waiters.ts'

export interface FlightDependencies {
  readonly upstream: Upstream
  readonly blobs: BlobStore
  readonly index: RepositoryIndex
  readonly log: Logger
  readonly metrics: Metrics
}

export interface FlightStart {
  readonly callers: Callers
  readonly pacing: Pacing
  /** Repositories the primary confirmed the blob for, with the mark taken before it was asked; more may come. */
  readonly confirmed: ReadonlyMap<RepositoryName, Mark>
  readonly abort: AbortController
  /** The flight's from here on. */
  readonly spool: Spool
  /** The answer that brings the lowest gap of the spool; undefined when it has none. */
  readonly opened: ArrivingBlob | undefined
  /** How much of that gap it was asked for at most. */
  readonly firstBytes: number
  /** The disk takes no more, or gives no more back. */
  readonly onSpoolLost: (error: StoreError) => void
  readonly pieceBytes: number
  /** Where other processes follow it too. */
  readonly sharing?: Sharing | undefined
}

export interface Sharing {
  /** `state()` says something else than before. */
  changed(): void
  /** It is over and its spool put away; resolves when others can go on. Never rejects. */
  ended(ending: Ending): Promise<void>
}

export interface Flight {
  readonly spool: ReadableSpool
  /** Nobody can join any more. */
  readonly isOver: boolean
  /** Nothing is missing any more: only the disk keeps it from its end. */
  readonly hasArrived: boolean
  /** Resolves when it is over and its work on the disk is done. */
  readonly ended: Promise<Ending>
  /** Whether a reader that begins at `position` gets its byte soon; if not, it better asks the primary itself. */
  reaches(position: number): boolean
  /** There is one more to ask as, or to read over several connections for. */
  proceed(): void
  /**
   * Reads what may be seen at the waiter's position, waiting for at least one byte; 0 behind the end. Undefined: the
   * spool is lost and does not hold it. Throws `UpstreamError`, `StoreError`, or the `signal`'s reason.
   */
  read(buffer: Buffer, length: number, waiter: Waiter, signal: AbortSignal): Promise<number | undefined>
  /** Ends it and keeps what has come. Resolves as `ended`. */
  stop(): Promise<void>
}

/** One that fetches by itself. */
export interface OwnFlight extends Flight {
  /** What followers in other processes have to know. */
  state(): FillState
  /** Somebody in another process waits there. */
  lookAhead(waiter: Waiter): void
  /** Ends it as `unkept`: another process may fetch the blob now. What has come is kept for it. */
  giveUp(error: StoreError): void
}

export type Ending =
  | { readonly kind: 'published' }
  | { readonly kind: 'unkept'; readonly error: StoreError }
  | { readonly kind: 'failed'; readonly error: UpstreamError }

export function createFlight(dependencies: FlightDependencies, start: FlightStart): OwnFlight {
  const { upstream, metrics } = dependencies
  const { spool, callers, pacing, confirmed, abort, pieceBytes, sharing } = start
  const { digest, sizeBytes } = spool
  const log = dependencies.log.child({ digest })
  const plan = createPlan(sizeBytes, spool.held, pieceBytes)
  const waiters = createWaiters()
  const fetches = new Set<Promise<void>>()
  const target: FetchTarget = {
    signal: abort.signal,
    ask,
    admit,
    write,
    get batchBytes() {
      return FLIGHT_BUFFER_BYTES / (2 * fetches.size) // One batch is written while the next is gathered.
    },
  }
  const latest = createLatestBytes()
  const { promise: ended, resolve: markEnded } = Promise.withResolvers<Ending>()
  let visibleEnd = Math.max(0, sizeBytes - HOLD_BACK_BYTES)
  let isVerified = false
  let ending: Ending | undefined
  let isGivenUp = false

  const prefix = createPrefixDigest(spool)
  void prefix.whole.then(judge, lose)
  if (start.opened) launch(plan.next(start.firstBytes, 1), start.opened)
  proceed()

  async function ask(startByte: number, endByte: number): Promise<ArrivingBlob | undefined> {
    for (let caller = callers.choose(); caller; caller = callers.choose()) {
      const { name, credential, requestId } = caller
      try {
        const range = { startByte, endByte: endByte - 1 }
        return await upstream.getBlob(name, digest, { credential, requestId, ...range, signal: abort.signal })
      } catch (error) {
        if (!isRefusal(error)) throw error
        callers.refuse(caller, error)
      }
    }
    return undefined
  }

  function admit(claim: Claim, arriving: ArrivingBlob): void {
    const [start, end] = claim.wanted.list()[0] ?? [0, 0]
    if (arriving.sizeBytes !== sizeBytes) {
      throw new WrongContentError(`blob ${digest}: ${sizeBytes} bytes at first, ${arriving.sizeBytes} now`)
    }
    if (arriving.offset > start) throw new UpstreamError('faulty', `blob ${digest}: not the range asked for`)
    if (arriving.endOffset > end) plan.widen(claim, arriving.offset, arriving.endOffset)
  }

  async function write(claim: Claim, position: number, chunks: readonly Buffer[]): Promise<void> {
    const end = chunks.reduce((sum, chunk) => sum + chunk.length, position)
    // From memory they are read before the disk has them: a first byte does not wait for it.
    if (!ending) latest.keep(position, chunks)
    waiters.wake(position, Math.min(end, visibleEnd))
    await spool.write(position, chunks)
    claim.wanted.remove(position, end)
    prefix.offer(position, chunks)
    waiters.wake(position, Math.min(end, visibleEnd))
    sharing?.changed()
    proceed()
    const pause = pacing.arrived(end - position)
    // Once the flight is over nothing more is read, so nothing has to wait.
    if (pause !== undefined) await abortable(pause, abort.signal).catch(() => undefined)
  }

  function launch(claim: Claim | undefined, opened?: ArrivingBlob): void {
    if (!claim) return
    const running = fetchClaim(target, claim, opened)
      .catch((error: unknown) => void (error instanceof UpstreamError ? fail(error) : lose(error)))
      .then(() => {
        plan.release(claim)
        fetches.delete(running)
        proceed()
        for (const waiter of waiters.list()) lookAhead(waiter)
        sharing?.changed()
      })
    fetches.add(running)
    sharing?.changed()
  }

  /** Sends the requests that are due, or ends when nobody is left whose word could be asked for. */
  function proceed(): void {
    if (ending || spool.held.runEnd(0) === sizeBytes) return
    if (callers.choose()) {
      const limit = limitBytes(callers, pieceBytes)
      const { connections } = pacing
      for (let claim = plan.next(limit, connections); claim; claim = plan.next(limit, connections))
        launch(claim)
    } else if (fetches.size === 0) {
      void fail(
        callers.refusal ?? new UpstreamError('aborted', `blob ${digest}: nobody is left to fetch it for`),
      )
    }
  }

  function lookAhead({ position, endByte }: Waiter): void {
    if (!ending && callers.choose()) launch(plan.ahead(position, endByte, pacing.connections))
  }

  async function judge(actual: Digest): Promise<void> {
    if (ending) return
    if (actual !== digest) return fail(new WrongContentError(`blob ${digest}: its bytes are ${actual}`))
    isVerified = true
    visibleEnd = sizeBytes
    waiters.wakeAll()
    sharing?.changed()
    const error = await publishBlob({ ...dependencies, log }, spool.path, digest, confirmed)
    if (error) metrics.fillFailures.inc({ reason: 'store' })
    return conclude(error ? { kind: 'unkept', error } : { kind: 'published' })
  }

  async function fail(error: UpstreamError): Promise<void> {
    if (ending || isVerified) return
    if (error.kind !== 'aborted') {
      metrics.fillFailures.inc({ reason: error instanceof WrongContentError ? 'digest' : error.kind })
      log.warn({ error, heldBytes: spool.held.bytes, sizeBytes }, 'fill failed')
    }
    return conclude({ kind: 'failed', error })
  }

  async function lose(cause: unknown): Promise<void> {
    if (ending || isVerified) return
    const error = spoolError(`fill of ${digest}`, cause)
    metrics.fillFailures.inc({ reason: error.kind })
    start.onSpoolLost(error)
    return conclude({ kind: 'unkept', error })
  }

  async function conclude(as: Ending): Promise<void> {
    ending = as
    abort.abort()
    waiters.wakeAll()
    latest.keep(0, [])
    try {
      await Promise.all(fetches)
      await prefix.stop()
      const isWorthKeeping = isGivenUp || (as.kind === 'failed' && !(as.error instanceof WrongContentError))
      await (isWorthKeeping && !spool.held.isEmpty ? spool.keep() : spool.discard())
    } catch (error) {
      log.error({ error }, 'spool could not be put away: it is removed at the next start')
    }
    spool.release()
    await sharing?.ended(as)
    markEnded(as)
  }

  return {
    spool,
    ended,
    proceed,
    lookAhead,
    giveUp(error) {
      if (ending || isVerified) return
      isGivenUp = true
      metrics.fillFailures.inc({ reason: 'lease' })
      void conclude({ kind: 'unkept', error })
    },
    state: () => ({
      file: basename(spool.path),
      sizeBytes,
      held: spool.held.list(),
      taken: plan.taken(),
      far: plan.far(),
      verified: isVerified,
    }),
    reaches: (position) => plan.reaches(position),
    get isOver() {
      return ending !== undefined
    },
    get hasArrived() {
      return isVerified || ending !== undefined
    },
    async read(buffer, length, waiter, signal) {
      const { position } = waiter
      if (position >= sizeBytes || length === 0) return 0
      for (;;) {
        signal.throwIfAborted()
        if (ending?.kind === 'failed' && ending.error instanceof WrongContentError) throw ending.error
        if (position < visibleEnd) {
          const most = Math.min(length, visibleEnd - position)
          const copied = latest.copy(buffer, most, position)
          if (copied > 0) return copied
          const heldBytes = spool.held.runEnd(position) - position
          if (heldBytes > 0) return spool.read(buffer, Math.min(most, heldBytes), position)
        }
        if (ending?.kind === 'failed') throw ending.error
        if (ending) return undefined
        lookAhead(waiter)
        await waiters.wait(waiter, signal)
      }
    },
    async stop() {
      // A verified blob is published first: that takes no primary and little time.
      await fail(new UpstreamError('aborted', 'this site is shutting down'))
      await ended
    },
  }
}

/**
 * How much one request may ask for: everything, like a client of the primary itself, when a later request could come too
 * late for the credential.
 */
export function limitBytes(callers: Callers, pieceBytes: number): number {
  return callers.areLasting ? pieceBytes : Number.POSITIVE_INFINITY
}

/** Said of the caller or its repository, not of the blob: somebody else may be answered. */
export function isRefusal(error: unknown): error is UpstreamError {
  return (
    error instanceof UpstreamError &&
    (error.kind === 'unauthorized' || error.kind === 'denied' || error.kind === 'absent')
  )
}
