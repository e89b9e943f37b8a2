/**
 * What is here and no longer at the primary is hidden: only on the primary's own word, and, where no event explains it,
 * only as far as the brake allows (law 12).
 */
import type { Confirm } from '../src/fill/confirm.ts'
import type { Freshness } from '../src/freshness/freshness.ts'
import type { Metrics } from '../src/metrics.ts'
import type { Digest } from '../src/oci/digest.ts'
import { MANIFEST_MAX_BYTES, type Manifest, manifestMediaType } from '../src/oci/manifest.ts'
import type { RepositoryName, Tag } from '../src/oci/reference.ts'
import type { BlobStore } from '../src/store/blob-store.ts'
import { forEachBounded } from '../src/store/bounded.ts'
import type { Holdings } from '../src/store/holdings.ts'
import type { LinkKind, Mark, RepositoryIndex } from '../src/store/repository-index.ts'
import { UpstreamError } from '../src/upstream/errors.ts'
import type { Credential, Upstream } from '../src/upstream/upstream.ts'
import type { Brake } from './brake.ts'
import { CopyError, type Copying } from './copying.ts'
import { explains, type Heard } from './heard-events.ts'
import type { HeldLease } from './held-lease.ts'
import { ManifestError, manifestChildren } from './manifest-children.ts'
import { retryInside } from './retry-policy.ts'
import type { Before } from './sync-tag.ts'
import type { WholeGraphs } from './whole-graphs.ts'

/** A tag that is here and that the primary, asked after `before`, does not have. */
export interface ExtraTag {
  readonly tag: Tag
  readonly before: Before
}

export interface RemovedTags {
  readonly hidden: readonly Tag[]
  /** False: what no event explains is held back by the brake. */
  readonly allowed: boolean
  /** Held back. */
  readonly waiting: readonly Tag[]
  /** Written since the primary was asked. */
  readonly overtaken: readonly Tag[]
}

export interface RemoveExtrasDeps {
  readonly index: RepositoryIndex
  readonly blobs: Pick<BlobStore, 'stat' | 'read'>
  readonly holdings: Pick<Holdings, 'tags' | 'links'>
  readonly freshness: Pick<Freshness, 'stands'>
  readonly brake: Pick<Brake, 'allows'>
  /** Asks the primary about a digest; its no hides the link. */
  readonly confirm: Confirm
  readonly upstream: Pick<Upstream, 'confirmManifest'>
  readonly copying: Pick<Copying, 'copyByDigest'>
  readonly whole: WholeGraphs
  readonly metrics: Pick<Metrics, 'tagsRemoved'>
}

export interface RemoveExtrasOptions {
  /** Questions to the primary at a time. */
  readonly atOnce: number
  /** `digests.recheck` in milliseconds. */
  readonly recheckMs: number
  /** Before a question is asked again; default as `retryInside` has it. */
  readonly retryDelayMs?: number | undefined
  /** Wall clock in milliseconds. */
  readonly now: () => number
}

/** What could not be settled, and why. */
export type DigestFailures = ReadonlyMap<Digest, unknown>

export interface RemoveExtras {
  /** Hides tags that the primary does not have, unless they were written since. */
  tags(
    name: RepositoryName,
    extras: readonly ExtraTag[],
    heard: Heard,
    lease: HeldLease,
  ): Promise<RemovedTags>
  /** The repository as a whole, tags and links; a link the primary confirmed after `mark` stays. */
  whole(
    name: RepositoryName,
    extras: readonly ExtraTag[],
    heard: Heard,
    mark: Pick<Mark, 'atMs'>,
    lease: HeldLease,
  ): Promise<RemovedTags>
  /**
   * Whether nothing of what is held by digest is at the primary either, by asking for some of it: a registry on object
   * storage calls a repository unknown once its last tag is gone, while its manifests are still there.
   */
  nothingLeft(name: RepositoryName, lease: HeldLease): Promise<boolean>
  /**
   * Manifests that are linked here under none of the tagged ones (untagged, and referrers), and were not confirmed within
   * `digests.recheck`: each is asked for, and completed where the primary still has it. Which could not be, and why.
   */
  untagged(name: RepositoryName, tagged: Iterable<Digest>, lease: HeldLease): Promise<DigestFailures>
  /** A delete of the digest was heard of: whatever is held under it is asked for. Throws `UpstreamError`. */
  digest(name: RepositoryName, digest: Digest, lease: HeldLease): Promise<void>
}

const SITE: Credential = { kind: 'site' }
const KINDS: readonly LinkKind[] = ['manifest', 'layer']
/** Manifests asked for before a repository is taken for gone. */
const SAMPLE = 3

export function createRemoveExtras(deps: RemoveExtrasDeps, options: RemoveExtrasOptions): RemoveExtras {
  const { index, blobs, holdings, freshness, brake, confirm, upstream, copying, metrics } = deps
  const { atOnce, recheckMs, retryDelayMs: firstDelayMs, now } = options

  /** Whether the primary has it. */
  async function has(question: () => Promise<unknown>, { signal }: HeldLease): Promise<boolean> {
    try {
      await retryInside(question, { signal, firstDelayMs })
      return true
    } catch (error) {
      if (error instanceof UpstreamError && error.kind === 'absent') return false
      throw error
    }
  }

  /** As `has`; the primary's no hides the link. */
  async function settle(
    kind: LinkKind,
    name: RepositoryName,
    digest: Digest,
    lease: HeldLease,
  ): Promise<boolean> {
    await lease.hold()
    return has(() => confirm(kind, name, digest, { credential: SITE, signal: lease.signal }), lease)
  }

  /** An index vouches for the manifests it lists. */
  async function withChildren(tagged: Iterable<Digest>): Promise<ReadonlySet<Digest>> {
    const all = new Set(tagged)
    for (const digest of all) {
      const bytes = await blobs.read(digest, MANIFEST_MAX_BYTES)
      const mediaType = bytes && manifestMediaType(bytes)
      // A set that grows while it is walked is walked to its new end.
      if (mediaType) for (const child of childrenOf({ bytes, digest, mediaType })) all.add(child)
    }
    return all
  }

  async function remove(
    name: RepositoryName,
    extras: readonly ExtraTag[],
    heard: Heard,
    lease: HeldLease,
    whole: boolean,
  ): Promise<RemovedTags> {
    const explained: ExtraTag[] = []
    const surprising: ExtraTag[] = []
    for (const extra of extras) {
      const held = await index.tag(name, extra.tag)
      if (held) (explains(heard, extra.tag, held.digest) ? explained : surprising).push(extra)
    }
    // Whole only as a surprise: not when it was deleted or renamed, or every tag of it was deleted.
    const unheard = !heard.removed && (surprising.length > 0 || explained.length === 0)
    const removal = { repository: name, tags: surprising.length, whole: whole && unheard }
    const allowed = (removal.tags === 0 && !removal.whole) || (await brake.allows([removal]))
    const hidden: Tag[] = []
    const overtaken: Tag[] = []
    for (const { tag, before } of allowed ? [...explained, ...surprising] : explained) {
      await lease.hold()
      if (!(await freshness.stands(before.observation))) {
        overtaken.push(tag)
        continue
      }
      await index.hideTag(name, tag)
      hidden.push(tag)
    }
    metrics.tagsRemoved.inc(hidden.length)
    return { hidden, allowed, waiting: allowed ? [] : surprising.map(({ tag }) => tag), overtaken }
  }

  return {
    tags: (name, extras, heard, lease) => remove(name, extras, heard, lease, false),

    async whole(name, extras, heard, { atMs }, lease) {
      const links: [LinkKind, Digest][] = []
      for (const kind of KINDS) {
        for (const digest of await holdings.links(name, kind)) links.push([kind, digest])
      }
      const something = links.length > 0 || (await holdings.tags(name)).length > 0
      const removed = await remove(name, extras, heard, lease, something)
      if (!removed.allowed) return removed
      for (const [kind, digest] of links) {
        await lease.hold()
        const link = await index.link(name, kind, digest)
        if ((link?.confirmedAtMs ?? 0) < atMs) await index.hideLink(name, kind, digest)
      }
      return removed
    },

    async nothingLeft(name, lease) {
      for (const digest of (await holdings.links(name, 'manifest')).slice(0, SAMPLE)) {
        // Asked without consequences: whether anything is hidden is for the brake to say.
        const ask = { credential: SITE, signal: lease.signal }
        if (await has(() => upstream.confirmManifest(name, digest, ask), lease)) return false
      }
      return true
    },

    async untagged(name, tagged, lease) {
      const due: Digest[] = []
      for (const digest of await holdings.links(name, 'manifest')) {
        const link = await index.link(name, 'manifest', digest)
        if (now() - (link?.confirmedAtMs ?? 0) >= recheckMs) due.push(digest)
      }
      const failures = new Map<Digest, unknown>()
      if (due.length === 0) return failures
      const kept = await withChildren(tagged)
      const { signal } = lease
      await forEachBounded(due, atOnce, async (digest) => {
        if (kept.has(digest)) return
        try {
          if (!(await settle('manifest', name, digest, lease)) || (await deps.whole.has(name, digest))) return
          await copying.copyByDigest(name, digest, { signal })
        } catch (error) {
          signal.throwIfAborted()
          if (!isLacking(error)) failures.set(digest, error)
        }
      })
      return failures
    },

    async digest(name, digest, lease) {
      for (const kind of KINDS) {
        const link = await index.link(name, kind, digest)
        // Without its content a link lets nothing be served but what the primary is asked for.
        if (link && (await blobs.stat(link.target)) !== undefined) await settle(kind, name, digest, lease)
      }
    },
  }
}

function childrenOf(manifest: Manifest): Digest[] {
  try {
    return manifestChildren(manifest).manifests.map(({ digest }) => digest)
  } catch (error) {
    if (error instanceof ManifestError) return [] // It could not be copied either, and vouches for nothing.
    throw error
  }
}

/** The primary does not have it, or not whole, or in no form that is kept here. */
export function isLacking(error: unknown): boolean {
  const cause = error instanceof CopyError ? error.cause : error
  return cause instanceof ManifestError || (cause instanceof UpstreamError && cause.kind === 'absent')
}
