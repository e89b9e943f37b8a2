/**
 * One tag brought in step: what the primary says it is, whole in the store, then the tag. What came between the question
 * and the answer (a write, an event, a removal) wins: the tag is then asked for again.
 */
import type { Freshness, Observation } from '../src/freshness/freshness.ts'
import type { Digest } from '../src/oci/digest.ts'
import type { Manifest } from '../src/oci/manifest.ts'
import type { RepositoryName, Tag } from '../src/oci/reference.ts'
import type { HeldTag, Mark, RepositoryIndex } from '../src/store/repository-index.ts'
import { UpstreamError } from '../src/upstream/errors.ts'
import type { Upstream } from '../src/upstream/upstream.ts'
import type { Copying } from './copying.ts'
import type { HeldLease } from './held-lease.ts'
import { retryInside } from './retry-policy.ts'
import type { WholeGraphs } from './whole-graphs.ts'

/** The primary has the tag, in a form that is never kept here. */
export class NotKeptError extends Error {
  override readonly name = 'NotKeptError'
}

/** The tag was written each time it was asked for. */
export class OvertakenError extends Error {
  override readonly name = 'OvertakenError'
}

/** A tag that could not be brought in step; `cause` says why. */
export class TagError extends Error {
  override readonly name = 'TagError'
  /** What the primary says the tag is, where it said so. */
  readonly digest: Digest | undefined

  constructor(message: string, options: { digest: Digest | undefined; cause: unknown }) {
    super(message, { cause: options.cause })
    this.digest = options.digest
  }
}

/** A moment before a question was sent. */
export interface Before {
  readonly observation: Observation
  readonly mark: Mark
}

export interface TagQuestion {
  readonly tag: Tag
  /** What the list of tags says it is, where it says so, and when the list was asked for. */
  readonly listed?: { readonly digest: Digest; readonly before: Before } | undefined
  /** What the last event of it said. While the primary's answer differs, the tag is not confirmed. */
  readonly expected?: Digest | 'gone' | undefined
  /** What is held is believed without a question when the primary confirmed it at this time or later. */
  readonly trustedSinceMs?: number | undefined
  /** Digests whose removal was heard of: what points at one is asked for. */
  readonly suspects?: ReadonlySet<Digest> | undefined
  /** Look through the store whatever was seen of it before. */
  readonly lookAgain?: boolean | undefined
}

export type TagAnswer =
  /** Here, whole. */
  | {
      readonly kind: 'held'
      readonly digest: Digest
      /** When the primary was asked for it; undefined: by this job's questions. */
      readonly askedAtMs: number | undefined
      /** Whether it is what the event said. */
      readonly agrees: boolean
    }
  /** The primary has no such tag. */
  | { readonly kind: 'absent'; readonly before: Before; readonly agrees: boolean }

export interface SyncTagDeps {
  readonly index: RepositoryIndex
  readonly freshness: Pick<Freshness, 'observe' | 'stands' | 'confirm'>
  readonly upstream: Pick<Upstream, 'getManifest'>
  readonly copying: Pick<Copying, 'copy' | 'copyByDigest'>
  readonly whole: WholeGraphs
}

export interface SyncTagOptions {
  /** `digests.recheck` in milliseconds: the tag's manifest link is renewed when it is older. */
  readonly recheckMs: number
  /** Before a question is asked again; default as `retryInside` has it. */
  readonly retryDelayMs?: number | undefined
}

/** Throws `TagError`, or the reason of the lease's signal. */
export type SyncTag = (name: RepositoryName, question: TagQuestion, lease: HeldLease) => Promise<TagAnswer>

/** A write of the tag between question and answer is rare; this often in a row it is somebody's loop. */
const MAX_QUESTIONS = 5

export function createSyncTag(
  deps: SyncTagDeps,
  { recheckMs, retryDelayMs: firstDelayMs }: SyncTagOptions,
): SyncTag {
  const { index, freshness, upstream, copying, whole } = deps

  /** The primary's word that tag and digest belong together is its word for the manifest's link as well. */
  async function renew(held: HeldTag, { observation, mark }: Before): Promise<boolean> {
    const { name, tag } = observation
    const { digest, confirmedAtMs } = held
    const link = await index.link(name, 'manifest', digest)
    if (link?.confirmedAtMs === undefined || mark.atMs - link.confirmedAtMs >= recheckMs) {
      if (!(await index.putLink(name, 'manifest', digest, mark))) return false
    }
    if (confirmedAtMs === undefined) {
      // What was written since stays: to write the tag is more than to say again that it stands.
      return (await freshness.stands(observation)) && (await index.putTag(name, tag, digest, mark))
    }
    index.renewTag(name, tag, digest, mark)
    return true
  }

  /** In step by the list alone, or by an earlier word of the primary's; undefined: it has to be asked. */
  async function unasked(
    name: RepositoryName,
    question: TagQuestion,
    held: HeldTag,
    lease: HeldLease,
  ): Promise<TagAnswer | undefined> {
    const { listed, expected, trustedSinceMs } = question
    const { digest, confirmedAtMs } = held
    const agrees = expected === undefined || expected === digest
    if (!agrees || (listed && listed.digest !== digest) || question.suspects?.has(digest)) return undefined
    const trusted =
      expected === undefined &&
      confirmedAtMs !== undefined &&
      trustedSinceMs !== undefined &&
      confirmedAtMs >= trustedSinceMs
    if (!listed && !trusted) return undefined
    if (!(await whole.has(name, digest, question.lookAgain))) return undefined
    if (!listed) return { kind: 'held', digest, askedAtMs: confirmedAtMs, agrees }
    await lease.hold()
    if (!(await renew(held, listed.before))) return undefined
    // What was written since the list was asked for stays unconfirmed; the list is right as of then.
    await freshness.confirm(listed.before.observation, digest)
    return { kind: 'held', digest, askedAtMs: listed.before.mark.atMs, agrees }
  }

  /** Undefined: overtaken. */
  async function unchanged(
    name: RepositoryName,
    question: TagQuestion,
    held: HeldTag,
    before: Before,
    lease: HeldLease,
  ): Promise<TagAnswer | undefined> {
    const { expected } = question
    const { digest } = held
    const agrees = expected === undefined || expected === digest
    if (!(await whole.has(name, digest, question.lookAgain))) {
      await copying.copyByDigest(name, digest, { signal: lease.signal })
    }
    const answer = { kind: 'held', digest, askedAtMs: undefined, agrees } as const
    if (!agrees) return answer
    await lease.hold()
    if (!(await renew(held, before))) return undefined
    return (await freshness.confirm(before.observation, digest)) ? answer : undefined
  }

  /** Undefined: overtaken. */
  async function changed(
    name: RepositoryName,
    { tag, expected }: TagQuestion,
    manifest: Manifest,
    held: HeldTag | undefined,
    { observation, mark }: Before,
    lease: HeldLease,
  ): Promise<TagAnswer | undefined> {
    const { digest } = manifest
    const agrees = expected === undefined || expected === digest
    if (!agrees && held?.digest === expected) {
      // What was pushed is here already, and the primary does not show it yet: it is not to be put back.
      return { kind: 'held', digest: held.digest, askedAtMs: undefined, agrees }
    }
    await copying.copy(name, manifest, { signal: lease.signal, mark })
    await lease.hold()
    if (!(await freshness.stands(observation))) return undefined
    if (!(await index.putTag(name, tag, digest, mark))) return undefined
    if (agrees && !(await freshness.confirm(observation, digest))) return undefined
    return { kind: 'held', digest, askedAtMs: undefined, agrees }
  }

  /** Undefined: overtaken. */
  async function ask(
    name: RepositoryName,
    question: TagQuestion,
    held: HeldTag | undefined,
    lease: HeldLease,
  ): Promise<TagAnswer | undefined> {
    const { tag, expected } = question
    const { signal } = lease
    const before = { observation: await freshness.observe(name, tag), mark: index.mark() }
    const answer = await retryInside(
      () =>
        upstream.getManifest(
          name,
          { kind: 'tag', tag },
          { credential: { kind: 'site' }, heldDigest: held?.digest, signal },
        ),
      { signal, firstDelayMs },
    ).catch((error: unknown) => {
      if (error instanceof UpstreamError && error.kind === 'absent') return 'absent' as const
      throw error
    })
    if (answer === 'absent') {
      return { kind: 'absent', before, agrees: expected === undefined || expected === 'gone' }
    }
    const digest =
      answer === 'not-modified' ? held?.digest : answer === 'not-kept' ? undefined : answer.digest
    try {
      if (answer === 'not-kept') {
        throw new NotKeptError(
          'schema 1, or of an unknown type: it cannot be kept here, the primary serves it',
        )
      }
      if (answer !== 'not-modified') return await changed(name, question, answer, held, before, lease)
      if (!held) throw new UpstreamError('faulty', '304 to a question without a condition')
      return await unchanged(name, question, held, before, lease)
    } catch (error) {
      const isNewer = held && held.digest !== digest && !signal.aborted
      if (isNewer && (await freshness.stands(before.observation))) {
        // The primary has something newer, which not even an outage may hide behind what is here (law 5).
        await index.doubtTag(name, tag)
      }
      throw new TagError(messageOf(error), { digest, cause: error })
    }
  }

  async function sync(name: RepositoryName, question: TagQuestion, lease: HeldLease): Promise<TagAnswer> {
    const known = await index.tag(name, question.tag)
    const answer = known && (await unasked(name, question, known, lease))
    if (answer) return answer
    for (let times = 1; times <= MAX_QUESTIONS; times++) {
      const held = await index.tag(name, question.tag)
      const answer = await ask(name, question, held, lease)
      if (answer) return answer
    }
    throw new OvertakenError(`written ${MAX_QUESTIONS} times while it was asked for`)
  }

  return async (name, question, lease) => {
    try {
      return await sync(name, question, lease)
    } catch (error) {
      lease.signal.throwIfAborted()
      if (error instanceof TagError) throw error
      throw new TagError(messageOf(error), { digest: question.listed?.digest, cause: error })
    }
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
