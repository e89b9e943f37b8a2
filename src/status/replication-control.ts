/**
 * The port of what a hand may ask of the replicator and have it do. Functions only: the wiring makes one from tracking,
 * store, queue and replicator, and neither the admin listener nor the commands know any of these.
 */
import type { Digest } from '../oci/digest.ts'
import type { RepositoryName, Tag } from '../oci/reference.ts'
import type { RepositoryMode } from '../oci/repository-mode.ts'
import type { SyncState } from '../tracking/replication-state.ts'
import type { FailingTag, ListOptions, TrackedRepository } from '../tracking/tracking.ts'
import type { StatusReport } from './status-report.ts'

/** Why something was not done, in words for whoever asked. Any other error is logged and told as "see the log". */
export class ControlRefused extends Error {
  override readonly name = 'ControlRefused'
}

/** Where a pull by this tag would be served from now. */
export interface Explanation {
  readonly source: 'local' | 'fill' | 'primary' | 'stale'
  readonly why: string
  readonly digestHere: Digest | undefined
  /** Undefined: the primary has no such tag, or did not say; `why` tells which. */
  readonly digestThere: Digest | undefined
  /** When the tag's digest here was last the primary's. */
  readonly sinceMs: number | undefined
  readonly mode: RepositoryMode
}

export interface BrakeState {
  /** Undefined while it is not tripped. */
  readonly trippedAtMs: number | undefined
  readonly repositories: number
  readonly tags: number
  readonly examples: readonly RepositoryName[]
}

/** One moment's removals from one repository, restorable together. */
export interface HiddenContent {
  readonly id: string
  readonly hiddenAtMs: number
  readonly repository: RepositoryName
  readonly tags: readonly Tag[]
  readonly links: readonly { readonly kind: string; readonly digest: Digest }[]
}

/** Content here that the primary does not have: an older backup was restored there, or it was removed. */
export interface AheadContent {
  readonly repository: RepositoryName
  /** Undefined: held by its digest only. */
  readonly tag: Tag | undefined
  readonly digest: Digest
}

/**
 * A tag of the primary that a failover to this copy would lose, or about which nobody can tell. `absent`: not here.
 * `older`: another digest is here. `incomplete`: not all under it is here. `unchecked`: whole, but the primary's may be
 * another by now. `unlisted`: which tags the primary has in this repository is not known.
 */
export interface ExportLoss {
  readonly repository: RepositoryName
  /** Undefined: the repository as a whole. */
  readonly tag: Tag | undefined
  readonly kind: 'absent' | 'older' | 'incomplete' | 'unchecked' | 'unlisted'
  readonly digestHere: Digest | undefined
  readonly digestThere: Digest | undefined
  /** Of what is here; undefined when it is whole, or nothing is here. */
  readonly missing: { readonly blobs: number; readonly bytes: number } | undefined
}

export interface Progress {
  /** What is being done: `reading the inventory`. */
  readonly phase: string
  readonly done: number
  /** Undefined while it is not known. */
  readonly total: number | undefined
  /** What is counted, in the plural; `bytes` is shown as sizes. */
  readonly unit: string
}

export interface LongOptions {
  /** Aborted when whoever asked is gone, or the process stops. */
  readonly signal: AbortSignal
  /** May be called as often as wanted; never throws. */
  readonly onProgress: (progress: Progress) => void
}

export interface ListingOptions<Item> extends LongOptions {
  /** Resolves when the next may come; rejects when nobody takes them any longer. */
  readonly onItem: (item: Item) => Promise<void>
}

export interface HandOptions {
  /** Count only. */
  readonly dryRun: boolean
}

/** All repositories where nothing is said. */
export interface RepositoryFilter {
  readonly state?: SyncState | undefined
  readonly needsAttention?: boolean | undefined
  /** `*` for any characters; without one, a part of the path. */
  readonly path?: string | undefined
}

/**
 * Results of long work, shown by the names of their members in order: `bytesHere: 512` as "bytes here: 512 B",
 * `durationMs` as a duration, lists a line each.
 */
export type Totals = object

export interface ExportTotals {
  /** False: the primary's list of repositories was not read to its end, and a new one may be missing from the losses. */
  readonly allRepositoriesAsked: boolean
}

export interface ReplicationControl {
  status(): Promise<StatusReport>
  list(options: ListOptions): Promise<TrackedRepository[]>
  find(path: RepositoryName): Promise<TrackedRepository | undefined>
  failingTags(path: RepositoryName): Promise<FailingTag[]>
  explain(repository: RepositoryName, tag: Tag): Promise<Explanation>

  /** How many it was, or would be. A path is one repository, by its whole name; 0: it is not tracked. */
  resync(which: RepositoryFilter | RepositoryName, options: HandOptions): Promise<number>
  reverify(which: RepositoryFilter | RepositoryName, options: HandOptions): Promise<number>

  pause(): Promise<void>
  resume(): Promise<void>
  brake(): Promise<BrakeState>
  releaseBrake(): Promise<void>

  /** Newest first; `under` a path or a pattern's fixed beginning. */
  hidden(under: string | undefined): AsyncIterable<HiddenContent>
  /** False: no such entry. */
  restore(id: string): Promise<boolean>

  /** Each rejects with `ControlRefused` where it can say why, and with the signal's reason. */
  ahead(options: ListingOptions<AheadContent>): Promise<Totals>
  exportCheck(options: ListingOptions<ExportLoss>): Promise<ExportTotals>
  plan(options: LongOptions): Promise<Totals>
  /** `folder` is absolute, on the machine of this process. */
  adopt(folder: string, options: LongOptions & HandOptions): Promise<Totals>
  rebuild(options: LongOptions & HandOptions): Promise<Totals>
}
