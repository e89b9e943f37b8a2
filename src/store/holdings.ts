/**
 * The port of everything a site holds, for whoever compares it with the primary: listings straight from the disk, and
 * the marks of completeness. Nothing here decides what may be served.
 */
import type { Digest } from '../oci/digest.ts'
import type { RepositoryName, Tag } from '../oci/reference.ts'
import type { LinkKind, Mark } from './repository-index.ts'

/** One moment's removals from one repository, moved aside together and restorable. */
export interface HiddenEntry {
  /** Opaque; names it for `restore`. */
  readonly id: string
  readonly hiddenAtMs: number
  readonly repository: RepositoryName
  readonly tags: readonly Tag[]
  readonly links: readonly { readonly kind: LinkKind; readonly digest: Digest }[]
}

export interface Holdings {
  /**
   * Every repository with a folder here, sorted; large sites are walked, never read whole. With `under`, only that path
   * and what lies beneath it, at the cost of those alone.
   */
  repositories(signal?: AbortSignal, under?: RepositoryName): AsyncIterable<RepositoryName>
  /** Sorted. */
  tags(name: RepositoryName): Promise<Tag[]>
  links(name: RepositoryName, kind: LinkKind): Promise<Digest[]>
  /** Every stored blob, in the order of its digest, for the scrub; begins after `after`. */
  blobs(after: Digest | undefined, signal?: AbortSignal): AsyncIterable<Digest>

  /** What was hidden and is still kept, newest first; `under` a path or a pattern's fixed beginning. */
  hidden(under?: string): AsyncIterable<HiddenEntry>
  /** Moves it back where nothing newer has taken its place; what came back is unconfirmed. False: no such entry. */
  restore(id: string): Promise<boolean>

  /** When the repository was last known to be here whole; undefined when it is not, or something was heard of since. */
  completeSince(name: RepositoryName): Promise<number | undefined>
  /**
   * Whole as of `asked`, a moment before the inventory was asked for; nothing happens when something was heard of since.
   * Rejects with `CoordinationUnavailableError` when that cannot be known.
   */
  markComplete(name: RepositoryName, asked: Mark): Promise<void>
  /** Something was heard of: no inventory that was asked for before marks it complete. */
  dropComplete(name: RepositoryName): Promise<void>
}
