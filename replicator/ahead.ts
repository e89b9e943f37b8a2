/**
 * What is here and not at the primary, as after the primary was restored from an old backup. A list for a hand that may
 * push it back; nothing is removed by it, and nothing here stands in for the primary's word.
 */
import type { Digest } from '../src/oci/digest.ts'
import type { RepositoryName, Tag } from '../src/oci/reference.ts'
import { forEachBounded } from '../src/store/bounded.ts'
import type { Holdings } from '../src/store/holdings.ts'
import type { RepositoryIndex } from '../src/store/repository-index.ts'
import { UpstreamError } from '../src/upstream/errors.ts'
import type { Upstream } from '../src/upstream/upstream.ts'
import type { Inventory, ListedTag } from './inventory.ts'

export interface Ahead {
  readonly repository: RepositoryName
  /** The tag here that the primary does not have, or has with another digest while it lost this one. */
  readonly tag: Tag | undefined
  readonly digest: Digest
}

export interface AheadDeps {
  readonly holdings: Pick<Holdings, 'repositories' | 'tags' | 'links'>
  readonly index: Pick<RepositoryIndex, 'tag'>
  readonly inventory: Pick<Inventory, 'tags'>
  readonly upstream: Pick<Upstream, 'confirmManifest'>
}

export interface AheadOptions {
  readonly signal?: AbortSignal | undefined
  /** Questions to the primary at a time; default 4. */
  readonly atOnce?: number | undefined
  /** Told of a repository that the primary would say nothing usable about: it may have more than was listed of it. */
  readonly onUnknown: (repository: RepositoryName, error: UpstreamError) => void
}

/** Repository by repository. Throws `UpstreamError` when the primary is away or asks to wait. */
export async function* ahead(deps: AheadDeps, options: AheadOptions): AsyncGenerator<Ahead> {
  for await (const repository of deps.holdings.repositories(options.signal)) {
    try {
      yield* await aheadIn(deps, repository, options)
    } catch (error) {
      const isWord =
        error instanceof UpstreamError && ['faulty', 'denied', 'unauthorized'].includes(error.kind)
      if (!isWord) throw error
      options.onUnknown(repository, error)
    }
  }
}

async function aheadIn(
  { holdings, index, inventory, upstream }: AheadDeps,
  repository: RepositoryName,
  { signal, atOnce = 4 }: AheadOptions,
): Promise<Ahead[]> {
  const there = new Map((await listed(inventory, repository, signal)).map(({ tag, digest }) => [tag, digest]))
  const atPrimary = new Set([...there.values()].filter((digest) => digest !== undefined))
  const lost = new Set<Digest>()
  const found: Ahead[] = []

  /** Sorts what the list says nothing about. Asked by digest, whatever the tag says by now. */
  async function ask(digests: Iterable<Digest>): Promise<void> {
    const unknown = [...new Set(digests)].filter((digest) => !atPrimary.has(digest) && !lost.has(digest))
    await forEachBounded(unknown, atOnce, async (digest) => {
      const isThere = await confirm(upstream, repository, digest, signal)
      ;(isThere ? atPrimary : lost).add(digest)
    })
  }

  const differing: { readonly tag: Tag; readonly digest: Digest }[] = []
  for (const tag of await holdings.tags(repository)) {
    const digest = (await index.tag(repository, tag))?.digest
    if (digest === undefined) continue
    if (!there.has(tag)) found.push({ repository, tag, digest })
    else if (there.get(tag) !== digest) differing.push({ tag, digest })
  }
  await ask(differing.map(({ digest }) => digest))
  for (const { tag, digest } of differing) {
    // A digest the primary still has was only overtaken by a later push.
    if (lost.has(digest)) found.push({ repository, tag, digest })
  }
  const named = new Set(found.map(({ digest }) => digest))
  const links = (await holdings.links(repository, 'manifest')).filter((digest) => !named.has(digest))
  await ask(links)
  for (const digest of links) {
    if (lost.has(digest)) found.push({ repository, tag: undefined, digest })
  }
  return found
}

/** None where the primary has no such repository. */
async function listed(
  inventory: AheadDeps['inventory'],
  repository: RepositoryName,
  signal: AbortSignal | undefined,
): Promise<readonly ListedTag[]> {
  try {
    return await inventory.tags(repository, signal)
  } catch (error) {
    if (error instanceof UpstreamError && error.kind === 'absent') return []
    throw error
  }
}

async function confirm(
  upstream: AheadDeps['upstream'],
  repository: RepositoryName,
  digest: Digest,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  try {
    await upstream.confirmManifest(repository, digest, { credential: { kind: 'site' }, signal })
    return true
  } catch (error) {
    if (error instanceof UpstreamError && error.kind === 'absent') return false
    throw error
  }
}
