/**
 * What replicating would bring, counted without copying anything: every digest once, however many tags and repositories
 * share it. Manifests that are here are not fetched again; the others are, by tag, as a client's pull would.
 */
import type { Digest } from '../src/oci/digest.ts'
import { MANIFEST_MAX_BYTES, type Manifest, manifestMediaType } from '../src/oci/manifest.ts'
import type { Reference, RepositoryName } from '../src/oci/reference.ts'
import type { ModeOf } from '../src/oci/repository-mode.ts'
import type { BlobStore } from '../src/store/blob-store.ts'
import { forEachBounded } from '../src/store/bounded.ts'
import type { RepositoryIndex } from '../src/store/repository-index.ts'
import { UpstreamError } from '../src/upstream/errors.ts'
import type { Upstream } from '../src/upstream/upstream.ts'
import { readGraph } from './image-graph.ts'
import type { Inventory, ListedTag } from './inventory.ts'
import { ManifestError } from './manifest-children.ts'

export interface PlanDeps {
  readonly inventory: Pick<Inventory, 'repositories' | 'tags'>
  readonly upstream: Pick<Upstream, 'getManifest'>
  readonly blobs: Pick<BlobStore, 'stat' | 'read'>
  readonly index: Pick<RepositoryIndex, 'tag'>
  readonly modeOf: ModeOf
}

export interface PlanOptions {
  /** What copying may use of the link; undefined: no limit. */
  readonly bytesPerSecond: number | undefined
  /** Tags looked at at a time; default 4. */
  readonly atOnce?: number | undefined
  readonly signal?: AbortSignal | undefined
  /** Told what was counted so far, after each tag. */
  readonly onProgress?: ((soFar: Plan) => void) | undefined
}

export interface Plan {
  /** Of mode `replicate`. */
  readonly repositories: number
  readonly tags: number
  readonly manifests: number
  readonly blobs: number
  /** Of all these manifests and blobs; the descriptors' sizes. */
  readonly bytes: number
  /** Of them, in the store already. */
  readonly bytesHere: number
  /** For the rest, at the given rate; undefined without one. */
  readonly days: number | undefined
  /** Lists and manifests that could not be had: with any, everything above is a least. The first few of them. */
  readonly failures: number
  readonly examples: readonly string[]
}

const EXAMPLES = 10
const DAY_SECONDS = 86_400

/** Throws `UpstreamError` when the repositories cannot be listed to the end or nothing listens at the primary. */
export async function plan(deps: PlanDeps, options: PlanOptions): Promise<Plan> {
  const { inventory, upstream, blobs, index, modeOf } = deps
  const { bytesPerSecond, atOnce = 4, signal, onProgress } = options
  const seen = new Set<Digest>()
  const examples: string[] = []
  const sums = { repositories: 0, tags: 0, manifests: 0, blobs: 0, bytes: 0, bytesHere: 0, failures: 0 }

  function soFar(): Plan {
    const { bytes, bytesHere } = sums
    const days = bytesPerSecond === undefined ? undefined : (bytes - bytesHere) / bytesPerSecond / DAY_SECONDS
    return { ...sums, days, examples }
  }

  function failed(where: string, error: unknown): void {
    if (isFatal(error)) throw error
    sums.failures++
    const words = error instanceof Error ? error.message : String(error)
    if (examples.length < EXAMPLES) examples.push(`${where}: ${words}`)
  }

  /** False when it was counted before. */
  async function count(what: 'manifests' | 'blobs', digest: Digest, sizeBytes: number): Promise<boolean> {
    if (seen.has(digest)) return false
    seen.add(digest)
    sums[what]++
    sums.bytes += sizeBytes
    if ((await blobs.stat(digest)) !== undefined) sums.bytesHere += sizeBytes
    return true
  }

  async function stored(digest: Digest | undefined): Promise<Manifest | undefined> {
    const bytes = digest && (await blobs.read(digest, MANIFEST_MAX_BYTES))
    const mediaType = bytes && manifestMediaType(bytes)
    return digest && bytes && mediaType !== undefined ? { bytes, digest, mediaType } : undefined
  }

  async function ask(
    name: RepositoryName,
    reference: Reference,
    held: Manifest | undefined,
  ): Promise<Manifest> {
    const ask = { credential: { kind: 'site' }, heldDigest: held?.digest, signal } as const
    const answer = await upstream.getManifest(name, reference, ask)
    if (answer === 'not-kept') throw new ManifestError('of a kind that is never kept here')
    if (answer !== 'not-modified') return answer
    // 304 is said only of what was said to be held.
    if (!held) throw new ManifestError('not modified, though nothing is held')
    return held
  }

  async function root(name: RepositoryName, { tag, digest }: ListedTag): Promise<Manifest> {
    const known = await stored(digest)
    if (known) return known
    const held = digest ? undefined : await stored((await index.tag(name, tag))?.digest)
    return await ask(name, { kind: 'tag', tag }, held)
  }

  async function countTag(name: RepositoryName, listed: ListedTag): Promise<void> {
    sums.tags++
    if (listed.digest && seen.has(listed.digest)) return
    const top = await root(name, listed)
    const graph = await readGraph(top.digest, {
      async load({ digest }) {
        if (seen.has(digest)) return undefined
        const isTop = digest === top.digest
        const manifest = isTop
          ? top
          : ((await stored(digest)) ?? (await ask(name, { kind: 'digest', digest }, undefined)))
        return (await count('manifests', digest, manifest.bytes.length)) ? manifest : undefined
      },
      isFatal,
      withSubjects: false,
      atOnce: 1,
    })
    for (const [digest, error] of graph.failures) failed(`${name}@${digest}`, error)
    for (const { digest, sizeBytes, optional } of graph.blobs.values()) {
      if (!optional) await count('blobs', digest, sizeBytes)
    }
  }

  async function countRepository(name: RepositoryName): Promise<void> {
    sums.repositories++
    const tags = await inventory.tags(name, signal).catch((error: unknown) => {
      // Deleted since it was listed, or a repository that has manifests and no tag.
      if (!(error instanceof UpstreamError && error.kind === 'absent')) failed(name, error)
      return []
    })
    await forEachBounded(tags, atOnce, async (listed) => {
      await countTag(name, listed).catch((error: unknown) => failed(`${name}:${listed.tag}`, error))
      onProgress?.(soFar())
    })
  }

  for await (const page of inventory.repositories(signal)) {
    for (const name of page) {
      if (modeOf(name) === 'replicate') await countRepository(name)
    }
  }
  return soFar()
}

/** One thing that cannot be had is passed over; a primary that is away would make all the rest time out one by one. */
function isFatal(error: unknown): boolean {
  if (error instanceof ManifestError) return false
  return !(error instanceof UpstreamError) || error.kind === 'aborted' || error.unreachable
}
