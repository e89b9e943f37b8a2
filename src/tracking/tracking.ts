/**
 * The port of what is replicated: one row per repository with GitLab's columns and states, its failing tags, the inbox
 * of events, cursors. Disposable: everything here can be made again from store and primary. Times are wall-clock
 * milliseconds. Every method rejects with the database's error when it cannot be reached; nothing is half done then.
 */
import type { Digest } from '../oci/digest.ts'
import type { RepositoryName, Tag } from '../oci/reference.ts'
import type { SyncState, VerificationState } from './replication-state.ts'

export interface TrackedRepository {
  readonly id: number
  readonly path: RepositoryName
  readonly state: SyncState
  /** Failed attempts since the last one that succeeded; a new attempt does not reset it. */
  readonly retryCount: number
  /** Not tried again by itself before; undefined: due now, when its state says so. */
  readonly retryAtMs: number | undefined
  /** At most 255 characters, as GitLab keeps it. */
  readonly lastSyncFailure: string | undefined
  readonly lastSyncedAtMs: number | undefined
  readonly createdAtMs: number
  /** Failed too often: not tried again by itself, but when something is heard of it, or by a hand (`resync`). */
  readonly needsAttention: boolean
  readonly missingOnPrimary: boolean
  readonly verificationState: VerificationState
  readonly verifiedAtMs: number | undefined
  readonly verificationFailure: string | undefined
  /** Hex of GitLab's tag-list digest of what is here, and of the primary's when the two differ. */
  readonly verificationChecksum: string | undefined
  readonly verificationChecksumMismatched: string | undefined
  readonly checksumMismatch: boolean
  readonly tagsCount: number
  readonly failingTagsCount: number
  /** Still to be fetched, as the last job left it. */
  readonly blobsOutstanding: number
  readonly bytesOutstanding: number
  /** When the primary's inventory that the state speaks of was asked for. */
  readonly inventoryAtMs: number | undefined
  /** When a client or an event last named it: recently active repositories are reconciled first. */
  readonly activeAtMs: number | undefined
  readonly priority: number
}

export interface FailingTag {
  readonly tag: Tag
  /** What the primary says the tag is, where it said so. */
  readonly digest: Digest | undefined
  readonly kind: string
  readonly message: string
  readonly sinceMs: number
}

/** What a job may write its results under: when another took its place, they are refused. */
export interface Lease {
  readonly repositoryId: number
  readonly path: RepositoryName
  /** Of all leases of all repositories; never given twice. */
  readonly number: number
  readonly expiresAtMs: number
  /** Which changes of the repository this job has seen; a later one makes it run again. */
  readonly change: number
  /** Failed attempts before this one. */
  readonly retryCount: number
}

export interface SyncedOutcome {
  readonly kind: 'synced'
  readonly tagsCount: number
  readonly inventoryAtMs: number
  /** Tag-list digests, hex: here, and at the primary. */
  readonly checksum: string
  readonly primaryChecksum: string
  readonly missingOnPrimary: boolean
}

export interface FailedOutcome {
  readonly kind: 'failed'
  readonly message: string
  readonly retryAtMs: number
  readonly needsAttention: boolean
  readonly failingTags: readonly FailingTag[]
  readonly blobsOutstanding: number
  readonly bytesOutstanding: number
  /** Where an inventory was had. */
  readonly tagsCount?: number | undefined
  readonly inventoryAtMs?: number | undefined
}

/** The job ended before it could say either (paused, shut down, its lease nearly over): due again at once, not failed. */
export interface ReleasedOutcome {
  readonly kind: 'released'
}

export type SyncOutcome = SyncedOutcome | FailedOutcome | ReleasedOutcome

/** `stale`: the lease was another's by then and nothing was written. `again`: written, and it was dirtied meanwhile. */
export type Settled = 'done' | 'again' | 'stale'

export type EventAction = 'push' | 'delete' | 'mount' | 'rename'

/** One accepted notification, or a hint of this site's own. */
export interface InboxEvent {
  /** The registry's event id; the same id is kept once. */
  readonly id: string
  readonly action: EventAction
  readonly repository: RepositoryName
  readonly tag: Tag | undefined
  readonly digest: Digest | undefined
  /** The new path base of a rename. */
  readonly renamedTo: RepositoryName | undefined
  readonly receivedAtMs: number
}

export interface StoredEvent extends InboxEvent {
  /** Order of arrival here; orders nothing at the primary. */
  readonly sequence: number
}

export interface TouchOptions {
  /** `PRIORITIES` of the queue. */
  readonly priority: number
  /** A client or an event named it just now. */
  readonly active?: boolean | undefined
}

export interface ListOptions {
  readonly state?: SyncState | undefined
  readonly needsAttention?: boolean | undefined
  /** `*` for any characters; without one, a part of the path. */
  readonly path?: string | undefined
  /** One repository, by its whole path. */
  readonly only?: RepositoryName | undefined
  /** The last path of the page before. */
  readonly after?: string | undefined
  /** At most 1000; default 100. */
  readonly limit?: number | undefined
}

export interface Counts {
  readonly total: number
  readonly byState: Readonly<Record<SyncState, number>>
  readonly byVerificationState: Readonly<Record<VerificationState, number>>
  readonly needsAttention: number
  readonly checksumMismatch: number
  readonly failingTags: number
  readonly tags: number
  readonly blobsOutstanding: number
  readonly bytesOutstanding: number
  readonly eventsPending: number
  /** Undefined when none is pending. */
  readonly oldestEventAtMs: number | undefined
  /** The last one stored and the last one applied; 0 for none. */
  readonly lastEventSequence: number
  readonly lastAppliedSequence: number
  /** When the last one stored arrived, and the latest of those applied; undefined for none. */
  readonly lastEventAtMs: number | undefined
  readonly lastAppliedEventAtMs: number | undefined
  /** The oldest inventory among repositories; undefined when one has none yet. */
  readonly oldestInventoryAtMs: number | undefined
}

export interface Tracking extends AsyncDisposable {
  /**
   * Stores events, each id once, and dirties their repositories (of a rename: `from`, and what lies under it, and the
   * same paths under `to`), in one transaction that is durable when this resolves. The paths that are due now.
   */
  accept(events: readonly InboxEvent[]): Promise<RepositoryName[]>
  /** Not applied yet, in order of arrival. */
  pendingEvents(path: RepositoryName): Promise<StoredEvent[]>

  /** Makes a row where there is none (`pending`), dirties the one there is; raises its priority. */
  touch(paths: readonly RepositoryName[], options: TouchOptions): Promise<void>
  /** Makes rows where there are none, and changes nothing else. How many were new. */
  discover(paths: readonly RepositoryName[]): Promise<number>
  find(path: RepositoryName): Promise<TrackedRepository | undefined>
  failingTags(path: RepositoryName): Promise<FailingTag[]>
  list(options: ListOptions): Promise<TrackedRepository[]>
  counts(): Promise<Counts>
  /** Pending rows, failed ones whose time has come, and those whose lease has ended: most urgent first, then longest unsynced. */
  due(nowMs: number, limit: number): Promise<{ readonly path: RepositoryName; readonly priority: number }[]>
  /** Synced rows whose inventory is older, the recently active first, then the oldest inventory. */
  reconcilable(inventoryBeforeMs: number, limit: number): Promise<RepositoryName[]>

  /**
   * The state becomes `started`. Undefined while another lease lives, or when there is nothing to do: not tracked, synced
   * and not touched since, failed and not to be tried yet, in need of attention and not touched since.
   */
  lease(path: RepositoryName, ttlMs: number): Promise<Lease | undefined>
  /** The lease with its new end, or undefined when it is another's now. */
  renew(lease: Lease, ttlMs: number): Promise<Lease | undefined>
  /** Results under a lease, `appliedThrough` (an event sequence, if any were applied) in the same transaction. */
  settle(lease: Lease, outcome: SyncOutcome, appliedThrough?: number): Promise<Settled>

  /**
   * By a hand: pending, due now, attention and retries cleared. How many it would be with `dryRun`. All that match, whatever
   * page the filter speaks of; many at once are changed part by part, and when the database goes away that stands.
   */
  resync(filter: ListOptions, options: { readonly dryRun: boolean }): Promise<number>
  /**
   * By a hand: verification pending, so that the next job compares everything again; it is due now. Otherwise as
   * `resync`, but what failed is not forgotten.
   */
  reverify(filter: ListOptions, options: { readonly dryRun: boolean }): Promise<number>
  /**
   * The repository is neither at the primary nor here any longer (or no longer to be here): its row goes. With a lease's
   * `change`, only while nothing was heard of it since.
   */
  forget(path: RepositoryName, change?: number): Promise<void>
  /** Everything but cursors is forgotten: `rebuild`. Part by part, as `resync`. */
  clear(): Promise<void>

  cursor(name: string): Promise<string | undefined>
  setCursor(name: string, value: string | undefined): Promise<void>
}
