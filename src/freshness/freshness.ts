/**
 * The port of what makes a tag confirmed (law 2): generations, confirmations, writes under way, and the watermark. Times
 * are monotonic (`performance.now()` of the process that says them); nothing here outlives what holds it: freshness is
 * never derived across a restart.
 */
import type { Digest } from '../oci/digest.ts'
import type { RepositoryName, Tag } from '../oci/reference.ts'

/** A tag, its repository and the epoch as they stood when a request to the primary was about to be sent. */
export interface Observation {
  readonly name: RepositoryName
  readonly tag: Tag
  readonly repositoryGeneration: string
  readonly tagGeneration: string
  /** Renewed by every event of the repository; only the watermark cares for it. */
  readonly heardGeneration: string
  /** The epoch that had begun by then; undefined: none, and the answer is never covered by a watermark. */
  readonly epoch: string | undefined
  /** What the tag's events of the last `SETTLED_MS` say it is; undefined when there were none. */
  readonly announced: Announced | undefined
  /** Of two observations of a tag the later one has the greater number. */
  readonly order: number
  /** When the question was asked, on the clock of the process that asked. */
  readonly startedAtMs: number
}

/** `disputed`: events that contradict each other, so that no answer is known to be the last. */
export type Announced = Digest | 'gone' | 'disputed'

/** A write that is on its way to the primary. `tags` empty: a delete by digest, which concerns the whole repository. */
export interface PendingWrite {
  readonly name: RepositoryName
  readonly tags: readonly Tag[]
}

/**
 * What one event says of a repository. Without a tag: any tag of it may have changed, or may yet, unless a digest says
 * that a manifest was pushed by it, which makes no tag another.
 */
export interface HeardChange {
  readonly tag?: Tag | undefined
  /** What the tag is said to be now; undefined: not said, and nothing settles it but time. */
  readonly digest?: Digest | 'gone' | undefined
}

/** What was acknowledged by the primary before it has been heard here, as long as its epoch holds. */
export interface Watermark {
  readonly epoch: string
  readonly ageMs: number
}

/** What the processes of a site share cannot be reached: nothing may be written or taken in until it can. */
export class FreshnessUnavailableError extends Error {
  override readonly name = 'FreshnessUnavailableError'
}

/**
 * Registries tell of a push before its tag is written (Distribution), and two of them in any order: an answer that
 * differs from what was announced is believed by the watermark only when it was asked for this long after.
 */
export const SETTLED_MS = 60_000

export interface Freshness {
  /** The digest the tag is confirmed to have, within `tags.trust` or covered by the watermark. Never rejects. */
  confirmed(name: RepositoryName, tag: Tag): Promise<Digest | undefined>
  /** Never rejects: where what is shared cannot be reached, the observation does not stand. */
  observe(name: RepositoryName, tag: Tag): Promise<Observation>
  /** The same of many tags of one repository at once. Never rejects. */
  observeAll(name: RepositoryName, tags: readonly Tag[]): Promise<ReadonlyMap<Tag, Observation>>
  /** Whether an answer to a request that began with `observation` may still write the tag. Never rejects. */
  stands(observation: Observation): Promise<boolean>
  /**
   * Records the primary's answer. False, and nothing recorded, when a write came between; while one is on its way the
   * answer stands and confirms nothing, for its end may never be told here. Never rejects.
   */
  confirm(observation: Observation, digest: Digest): Promise<boolean>
  /**
   * Events were heard of: renews the generations of the tags they name, or of the repository where one names none. None
   * of it is confirmed any longer when it resolves. Throws `FreshnessUnavailableError`.
   */
  hear(name: RepositoryName, changes: readonly HeardChange[]): Promise<void>
  /** Before a write is forwarded: renews the generations it touches. Throws `FreshnessUnavailableError`. */
  beginWrite(name: RepositoryName, tags: readonly Tag[]): Promise<PendingWrite>
  /**
   * When its answer, or the loss of it, is known: renews them again. For each tag, an observation under which the
   * write's own outcome may be recorded, when no other write of that tag overlapped this one. Never rejects.
   */
  endWrite(write: PendingWrite): Promise<ReadonlyMap<Tag, Observation>>
  /** Undefined while no watermark was told in the epoch. Never rejects. */
  watermark(): Promise<Watermark | undefined>
}

/** The side of whoever hears all events of the primary in their order: one follower per site. */
export interface Epochs {
  /**
   * Begins an epoch and ends the one before: what was confirmed until now is not covered by the watermark any longer, and
   * no watermark is known. Throws `FreshnessUnavailableError`.
   */
  beginEpoch(): Promise<string>
  /**
   * Every write that the primary acknowledged before `asOfMs` (this process's `performance.now()`) has been heard. An
   * epoch that is no longer the one under way, and a moment before the one told last, change nothing. Throws
   * `FreshnessUnavailableError`, and goes on doing so until an epoch is begun, when what was heard in this one may have
   * been lost with the connection to it.
   */
  advance(epoch: string, asOfMs: number): Promise<void>
}
