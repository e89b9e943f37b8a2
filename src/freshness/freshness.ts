/**
 * The port of what makes a tag confirmed (law 2): generations, confirmations, writes under way. Times are monotonic
 * (`performance.now()`), and nothing here outlives the process: freshness is never derived across a restart.
 */
import type { Digest } from '../oci/digest.ts'
import type { RepositoryName, Tag } from '../oci/reference.ts'

/** The generations of a tag and its repository as they stood when a request to the primary was about to be sent. */
export interface Observation {
  readonly name: RepositoryName
  readonly tag: Tag
  readonly repositoryGeneration: string
  readonly tagGeneration: string
  readonly startedAtMs: number
}

/** A write that is on its way to the primary. `tags` empty: a delete by digest, which concerns the whole repository. */
export interface PendingWrite {
  readonly name: RepositoryName
  readonly tags: readonly Tag[]
}

export interface Freshness {
  /** The digest the tag is confirmed to have, within `tags.trust`. */
  confirmed(name: RepositoryName, tag: Tag): Digest | undefined
  observe(name: RepositoryName, tag: Tag): Observation
  /** Whether an answer to a request that began with `observation` may still write the tag. */
  stands(observation: Observation): boolean
  /** Records the primary's answer. False, and nothing recorded, when a write came between. */
  confirm(observation: Observation, digest: Digest): boolean
  /** A write at the primary was heard of: renews the generations of the tags, or of the repository when none is named. */
  renew(name: RepositoryName, tags: readonly Tag[]): void
  /** Before a write is forwarded: renews the generations it touches. */
  beginWrite(name: RepositoryName, tags: readonly Tag[]): PendingWrite
  /**
   * When its answer, or the loss of it, is known: renews them again. For each tag, an observation under which the
   * write's own outcome may be recorded, when no other write of that tag overlapped this one.
   */
  endWrite(write: PendingWrite): ReadonlyMap<Tag, Observation>
}
