/**
 * The port of what belongs to which repository: links, tags, and since when the primary's word for each holds.
 * Clock times are wall-clock milliseconds, since they outlive the process.
 */
import type { Digest } from '../oci/digest.ts'
import type { RepositoryName, Tag } from '../oci/reference.ts'

/** `layer`: what blob endpoints serve. `manifest`: what manifest endpoints serve by digest. */
export type LinkKind = 'layer' | 'manifest'

export interface Link {
  /** The digest the link names; not always the one it is found under (a sha512 push in Distribution's layout). */
  readonly target: Digest
  /** When the primary was last asked and said yes; undefined for a link found in an adopted folder. */
  readonly confirmedAtMs: number | undefined
}

export interface HeldTag {
  readonly digest: Digest
  /** When the primary last confirmed this value, for `outage.maxstale` alone; undefined when it must not be served. */
  readonly confirmedAtMs: number | undefined
}

/** A moment before a request to the primary was sent. Removals seen after it win over what the request then says. */
export interface Mark {
  /** Within which `sequence` counts: a mark of another era is older than every removal. */
  readonly era: string
  readonly sequence: number
  readonly atMs: number
}

export interface RepositoryIndex {
  /** Taken before a confirming request is sent. */
  mark(): Mark
  /** Whether no removal of the link, or of the whole repository, was seen since `mark`; false while that is unknown. */
  stands(name: RepositoryName, kind: LinkKind, digest: Digest, mark: Mark): Promise<boolean>
  /**
   * Resolves when a removal could be recorded now, so that no process on this store puts back what it takes away.
   * Rejects with `CoordinationUnavailableError`: nothing should then be removed at the primary through this site.
   */
  mayRemove(): Promise<void>
  /** Answered from memory when seen before, in a store of one process. */
  link(name: RepositoryName, kind: LinkKind, digest: Digest): Promise<Link | undefined>
  /**
   * Writes or renews a link that the primary confirmed in answer to a request started at `mark`. The blob must already
   * be published. False, and nothing kept, when a removal of it was seen since `mark` or that cannot be known now (Redis
   * is away). Throws `StoreError`.
   */
  putLink(name: RepositoryName, kind: LinkKind, digest: Digest, mark: Mark, target?: Digest): Promise<boolean>
  /**
   * Hides a link (and, for a manifest, every tag that points at it), restorable; durable when it resolves. Rejects with
   * `CoordinationUnavailableError` when that cannot be recorded: the link is then unconfirmed, and not hidden.
   */
  hideLink(name: RepositoryName, kind: LinkKind, digest: Digest): Promise<void>

  /**
   * A link counts as past `digests.recheck` from now on (a delete was heard of); an outage still serves it. Durable.
   * Rejects with `CoordinationUnavailableError`, and changes nothing, when that cannot be recorded.
   */
  expireLink(name: RepositoryName, kind: LinkKind, digest: Digest): Promise<void>
  /** The same of every link of the repository, and of nothing under it. Durable. */
  expireRepository(name: RepositoryName): Promise<void>

  tag(name: RepositoryName, tag: Tag): Promise<HeldTag | undefined>
  /** Sets a tag to a digest whose manifest link is here; durable when it resolves. False as for `putLink`. */
  putTag(name: RepositoryName, tag: Tag, digest: Digest, mark: Mark): Promise<boolean>
  /** The primary said again that the tag stands: renews `confirmedAtMs` (on disk at most once a minute). */
  renewTag(name: RepositoryName, tag: Tag, digest: Digest, mark: Mark): void
  /** The value is known not to be the newest: it must not be served even in an outage. Durable when it resolves. */
  doubtTag(name: RepositoryName, tag: Tag): Promise<void>
  /** Rejects as `hideLink` does. */
  hideTag(name: RepositoryName, tag: Tag): Promise<void>

  /**
   * Holds the identity of the project behind a path (GitLab's `meta.project_id`) together with the token's `iat`.
   * `replaced`: another project now lives here, and all that was held under the path has been hidden. `older`: the
   * token was issued before the last one seen and names another project: only the primary can answer it. Rejects with
   * `CoordinationUnavailableError` when content would have to be hidden and that cannot be recorded.
   */
  identify(
    name: RepositoryName,
    projectId: number,
    issuedAtSeconds: number,
  ): Promise<'same' | 'replaced' | 'older'>
}
