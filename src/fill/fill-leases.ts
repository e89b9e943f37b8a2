/**
 * The port by which several processes on one store share fetches (law 7): one process at a time has the lease of a
 * digest and fetches it; the others read its spool and hear how far it is. A lease only saves work: each process writes
 * files of its own and publishing is atomic, so two holders at once cost a second fetch and nothing else.
 */
import type { Digest } from '../oci/digest.ts'
import { StoreError } from '../store/blob-store.ts'
import type { FillEnd, FillState, FillWant } from './fill-state.ts'

export interface FillLeases {
  /** Takes the lease when nobody has it. Resolves within about a second, also while leases cannot be had; never rejects. */
  take(digest: Digest): Promise<TakenLease>
  /** Whether a process, this one included, has the lease; undefined when nobody knows. Never rejects. */
  isTaken(digest: Digest): Promise<boolean | undefined>
}

export type TakenLease =
  | { readonly kind: 'mine'; readonly lease: FillLease }
  | { readonly kind: 'theirs'; follow(listener: FillListener): FillFollowing }
  | { readonly kind: 'unreachable' }

/** Owed: `end`, exactly once. */
export interface FillLease {
  /** What a holder that was lost had told last. */
  readonly left: FillState | undefined
  /** Aborted once another process may have the lease. */
  readonly lost: AbortSignal
  /** From now on the others are told `source.state()`, at once and after each `changed`, the newest only. */
  share(source: FillSource): void
  /** Cheap; the state is asked for when it is sent, which is some milliseconds later. */
  changed(): void
  /** Gives the lease up with a last word to those who follow. Never rejects; resolves soon, also while Redis is away. */
  end(end: FillEnd): Promise<void>
}

export interface FillSource {
  /** Undefined before the size is known. */
  state(): FillState | undefined
  /** Followers in another process want something. */
  wanted(want: FillWant): void
}

/** The news of a digest, whoever holds it: another process may go on where one was lost. */
export interface FillListener {
  state(state: FillState): void
  /** Called once, last. `left`: also when the holder was lost. `unreachable`: nothing has been heard for too long. */
  ended(end: FillEnd | { readonly kind: 'unreachable' }): void
}

/** Owed: `close`, once; nothing is told after it. */
export interface FillFollowing {
  want(want: FillWant): void
  close(): void
}

/** What is fetched now cannot be kept, since no other process could be told of it. */
export class LeaseUnavailableError extends StoreError {
  constructor(digest: Digest) {
    super(
      'io',
      `no lease to fetch ${digest}: Redis cannot be reached, it is served from the primary and not kept`,
    )
  }
}

/** The blob has been published since it was looked for. */
export class AlreadyStoredError extends Error {
  override readonly name = 'AlreadyStoredError'
}
