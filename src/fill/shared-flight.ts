/**
 * The flight of a blob that another process fetches, as its followers in this one see it: read from the other's spool,
 * by what is told of its progress. When the other is lost, or leaves while somebody here wants more, this process takes
 * the lease and goes on where the other stopped; followers keep their place.
 */
import { join } from 'node:path'
import type { Logger } from '../log.ts'
import { StoreError } from '../store/blob-store.ts'
import type { RepositoryIndex } from '../store/repository-index.ts'
import { HOLD_BACK_BYTES } from '../store/verify-stream.ts'
import { UpstreamError } from '../upstream/errors.ts'
import {
  AlreadyStoredError,
  type FillFollowing,
  type FillListener,
  LeaseUnavailableError,
} from './fill-leases.ts'
import { errorOf, type FillState } from './fill-state.ts'
import type { Ending, Flight, OwnFlight } from './flight.ts'
import { linkBlob } from './publish.ts'
import { WrongContentError } from './retry.ts'
import { type Segment, Segments } from './segments.ts'
import { isSharedFailure } from './share.ts'
import {
  blobSource,
  createSharedSpool,
  openTheirSpool,
  type SharedSpool,
  type TheirSpool,
} from './shared-spool.ts'
import { spoolError } from './spool.ts'
import type { Departure, StartFlight } from './start.ts'
import { type Follow, succeed, type TakeOffDependencies, takeOff } from './take-off.ts'
import { createWaiters } from './waiters.ts'

export interface SharedFlightDependencies extends TakeOffDependencies {
  /** Where all processes have their spools. */
  readonly folder: string
  readonly index: RepositoryIndex
  readonly log: Logger
}

/** A flight of this process when it gets the lease, else one of another's. */
export function createSharedStart(dependencies: SharedFlightDependencies): StartFlight {
  return async (departure) => {
    const made = await takeOff(dependencies, departure)
    return made.kind === 'own' ? made.flight : openSharedFlight(dependencies, departure, made.follow)
  }
}

type LastWord = Parameters<FillListener['ended']>[0]

/** How often the other process is told that a client is here; it forgets after three times as long. */
const PRESENCE_MS = 1000
/** Positions told at a time, more than a flight has requests for. */
const MAX_SPANS = 16

/**
 * Resolves once the size is known. Throws `UpstreamError`, `StoreError`, and `AlreadyStoredError`. Whoever comes for it
 * has to be confirmed by a question of their own: nothing the other process was answered counts here.
 */
async function openSharedFlight(
  dependencies: SharedFlightDependencies,
  departure: Departure,
  follow: Follow,
): Promise<Flight> {
  const { folder, blobs, index } = dependencies
  const { digest, pacing, confirmed, signal } = departure
  const log = dependencies.log.child({ digest })
  const waiters = createWaiters()
  const opening = Promise.withResolvers<Flight>()
  const { promise: ended, resolve: markEnded } = Promise.withResolvers<Ending>()
  const listener: FillListener = {
    state(state) {
      newest = state
      void hear()
    },
    ended(word) {
      lastWord = word
      void hear()
    },
  }
  /** Not looked at yet. */
  let newest: FillState | undefined
  let lastWord: LastWord | undefined
  let isHearing = false

  let spool: SharedSpool | undefined
  let theirs: (TheirSpool & { readonly name: string }) | undefined
  let taken = new Segments()
  let far: readonly Segment[] = []
  let visibleEnd = 0
  /** Once this process fetches it. */
  let own: OwnFlight | undefined
  let ending: Ending | undefined
  let following: FillFollowing | undefined
  let telling: NodeJS.Immediate | undefined
  const presence = setInterval(() => tell('presence'), PRESENCE_MS).unref()
  const abort = () => {
    if (following) over({ kind: 'failed', error: new UpstreamError('aborted', 'this site is shutting down') })
  }
  signal.addEventListener('abort', abort)
  begin(follow)

  function begin(next: Follow): void {
    following = next(listener)
    if (signal.aborted) abort()
    else tell('presence')
  }

  /** One thing after the other; of several states only the newest. */
  async function hear(): Promise<void> {
    if (isHearing) return
    isHearing = true
    try {
      while (newest ?? lastWord) {
        const [state, word] = [newest, lastWord]
        newest = undefined
        if (state) await show(state)
        else {
          lastWord = undefined
          if (word && !own && !ending) await settle(word)
        }
      }
    } catch (error) {
      over({ kind: 'unkept', error: spoolError(`fill of ${digest}`, error) })
    } finally {
      isHearing = false
    }
  }

  async function show(state: FillState): Promise<void> {
    if (own || ending) return
    if (spool && spool.sizeBytes !== state.sizeBytes) return overWith(otherSize(state.sizeBytes))
    if (theirs?.name !== state.file) {
      const file = await openTheirSpool(digest, join(folder, state.file))
      if (!file) return // Published or removed meanwhile: what is heard next says which.
      if (ending) return file.close()
      spool ??= createSharedSpool(digest, state.sizeBytes)
      spool.use(file)
      theirs = Object.assign(file, { name: state.file })
    }
    theirs.held = new Segments(state.held)
    taken = new Segments(state.taken)
    far = state.far
    visibleEnd = state.verified ? state.sizeBytes : Math.max(0, state.sizeBytes - HOLD_BACK_BYTES)
    for (const [start, end] of state.held) waiters.wake(start, Math.min(end, visibleEnd))
    opened()
    tell('wants')
  }

  async function settle(word: LastWord): Promise<void> {
    following?.close()
    following = undefined
    switch (word.kind) {
      case 'published':
        return arrive()
      case 'unkept':
        return over({ kind: 'unkept', error: new StoreError('io', word.message) })
      case 'unreachable':
        return over({ kind: 'unkept', error: new LeaseUnavailableError(digest) })
      case 'left':
        return goOn()
      case 'failed': {
        const error = errorOf(word.failure)
        return isSharedFailure(error, false) ? overWith(error) : goOn()
      }
    }
  }

  /** Nobody fetches it any more. */
  async function goOn(): Promise<void> {
    const succession = await succeed(dependencies, departure)
    switch (succession.kind) {
      case 'own':
        log.info('another process has left a fill: this one goes on with it')
        return board(succession.flight)
      case 'theirs':
        return begin(succession.follow)
      case 'stored':
        return arrive()
      case 'over':
        return over(succession.ending)
    }
  }

  async function board(flight: OwnFlight): Promise<void> {
    const { sizeBytes, retain, read } = flight.spool
    if (spool && spool.sizeBytes !== sizeBytes) {
      await flight.stop()
      return overWith(otherSize(sizeBytes))
    }
    own = flight
    clearInterval(presence)
    spool ??= createSharedSpool(digest, sizeBytes)
    spool.use({ held: flight.spool.held, read, close: retain() })
    waiters.wakeAll()
    opened()
    void flight.ended.then(over)
    if (signal.aborted) await flight.stop()
  }

  /** Another process has published it: it is linked where it was confirmed here. */
  async function arrive(): Promise<void> {
    const unpin = blobs.pin(digest)
    try {
      const blob = await blobs.open(digest)
      if (!blob) throw new StoreError('io', `blob ${digest} was published and is gone again`)
      if (spool?.sizeBytes === blob.sizeBytes) {
        spool.use(blobSource(blob))
        visibleEnd = blob.sizeBytes
        waiters.wakeAll()
      } else {
        blob.close()
        if (spool) return overWith(otherSize(blob.sizeBytes))
      }
      await linkBlob({ index, log }, digest, confirmed)
    } finally {
      unpin()
    }
    over({ kind: 'published' })
  }

  function otherSize(sizeBytes: number): WrongContentError {
    return new WrongContentError(`blob ${digest}: ${spool?.sizeBytes} bytes at first, ${sizeBytes} now`)
  }

  function overWith(error: UpstreamError): void {
    over({ kind: 'failed', error })
  }

  function over(as: Ending): void {
    if (ending) return
    ending = as
    clearInterval(presence)
    clearImmediate(telling)
    signal.removeEventListener('abort', abort)
    following?.close()
    following = undefined
    opening.reject(as.kind === 'published' ? new AlreadyStoredError(`${digest} is here by now`) : as.error)
    waiters.wakeAll()
    spool?.release()
    markEnded(as)
  }

  /** What nobody has asked for is waited for here; and that a client waits, which ends the pace of a job there. */
  function tell(why: 'wants' | 'presence'): void {
    const spans = new Map<number, Segment>()
    for (const { position, endByte } of waiters.list()) {
      if (spans.size === MAX_SPANS) break
      if (!taken.has(position))
        spans.set(position, [position, Math.min(endByte, spool?.sizeBytes ?? position)])
    }
    const client = pacing.hasClients
    if (spans.size === 0 && !(client && why === 'presence')) return
    following?.want({ spans: [...spans.values()], client })
  }

  function tellSoon(why: 'wants' | 'presence'): void {
    telling ??= setImmediate(() => {
      telling = undefined
      tell(why)
    })
  }

  function opened(): void {
    if (spool) opening.resolve(createView(spool))
  }

  function createView(view: SharedSpool): Flight {
    const { sizeBytes } = view
    return {
      spool: view,
      ended,
      get isOver() {
        return own ? own.isOver : ending !== undefined
      },
      get hasArrived() {
        return own ? own.hasArrived : ending !== undefined || visibleEnd === sizeBytes
      },
      reaches: (position) =>
        own ? own.reaches(position) : !far.some(([start, end]) => position >= start && position < end),
      proceed() {
        if (own) own.proceed()
        else tellSoon('presence')
      },
      async read(buffer, length, waiter, readSignal) {
        const { position } = waiter
        if (position >= sizeBytes || length === 0) return 0
        for (;;) {
          readSignal.throwIfAborted()
          if (own) return own.read(buffer, length, waiter, readSignal)
          if (ending?.kind === 'failed' && ending.error instanceof WrongContentError) throw ending.error
          const end = Math.min(view.held.runEnd(position), visibleEnd)
          if (end > position) return view.read(buffer, Math.min(length, end - position), position)
          if (ending?.kind === 'failed') throw ending.error
          if (ending) return undefined
          if (!taken.has(position)) tellSoon('wants')
          await waiters.wait(waiter, readSignal)
        }
      },
      async stop() {
        // While it is being taken over, the departure's signal ends that.
        if (own) await own.stop()
        else abort()
        await ended
      },
    }
  }

  return opening.promise
}
