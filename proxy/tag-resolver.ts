/**
 * What a tag means now (laws 2 and 5): confirmed here, or asked of the primary, or, only while the primary is away,
 * what it was last known to be.
 */
import type { Observation } from '../src/freshness/freshness.ts'
import type { Manifest } from '../src/oci/manifest.ts'
import type { RepositoryName, Tag } from '../src/oci/reference.ts'
import type { HeldTag } from '../src/store/repository-index.ts'
import type { Breaker } from '../src/upstream/breaker.ts'
import { isOutage, UpstreamError } from '../src/upstream/errors.ts'
import type { Upstream } from '../src/upstream/upstream.ts'
import type { Access } from './exchange.ts'
import type { HeldManifests } from './held-manifests.ts'
import { type KeepDeps, keepManifest } from './keep-manifest.ts'
import { createTagChecks } from './tag-checks.ts'

export type Resolution =
  | { readonly kind: 'local'; readonly manifest: Manifest }
  /** Just brought from the primary. */
  | { readonly kind: 'fill'; readonly manifest: Manifest }
  | { readonly kind: 'stale'; readonly manifest: Manifest; readonly confirmedAtMs: number }
  /** The primary has it in a form that is not kept (schema 1, unknown types): its answer must be passed through. */
  | { readonly kind: 'not-kept' }

export interface TagResolverDeps extends KeepDeps {
  readonly manifests: HeldManifests
  readonly upstream: Upstream
  readonly breaker: Pick<Breaker, 'isOpen' | 'probe'>
  /** `outage.maxstale` in milliseconds. */
  readonly maxStaleMs: number
  readonly now?: () => number
}

interface Held {
  readonly manifest: Manifest
  readonly entry: HeldTag
}

export interface TagResolver {
  /** The manifest that the tag is confirmed to be (law 2), without a question; undefined: it has to be asked for. */
  confirmed(name: RepositoryName, tag: Tag, access: Access): Promise<Manifest | undefined>
  /** What is held of the tag, whatever it is worth; for the media type alone. */
  held(name: RepositoryName, tag: Tag): Promise<Manifest | undefined>
  /** Asks the primary. Throws `UpstreamError`. */
  resolve(name: RepositoryName, tag: Tag, access: Access): Promise<Resolution>
}

export function createTagResolver(deps: TagResolverDeps): TagResolver {
  const { freshness, index, manifests, upstream, breaker } = deps
  const now = deps.now ?? Date.now
  const checks = createTagChecks<Resolution>()

  async function find(name: RepositoryName, tag: Tag): Promise<Held | undefined> {
    const entry = await index.tag(name, tag)
    const manifest = entry && (manifests.cached(entry.digest) ?? (await manifests.get(entry.digest)))
    return manifest && { manifest, entry }
  }

  async function confirmed(name: RepositoryName, tag: Tag, access: Access): Promise<Manifest | undefined> {
    const digest = access.onlyPrimary ? undefined : await freshness.confirmed(name, tag)
    if (digest === undefined) return undefined
    const manifest = manifests.cached(digest) ?? (await manifests.get(digest))
    return manifest && (await index.link(name, 'manifest', digest)) ? manifest : undefined
  }

  async function resolve(name: RepositoryName, tag: Tag, access: Access): Promise<Resolution> {
    const { credential } = access
    const caller = credential.kind === 'caller' ? (credential.authorization ?? '') : ''
    // The last part: what a token of an older project gets, another project's tokens may get on other terms.
    const key = `${name}:${tag}\n${caller}\n${access.onlyPrimary}`
    return checks(key, () => check(name, tag, access))
  }

  /** Sends the question, unless the primary is known to be away and what is held may stand in for its answer. */
  async function check(name: RepositoryName, tag: Tag, access: Access): Promise<Resolution> {
    const held = await find(name, tag)
    const stale = held && !access.onlyPrimary ? await standIn(name, held) : undefined
    if (stale && breaker.isOpen) {
      breaker.probe(() => ask(name, tag, access, held))
      return stale
    }
    try {
      return await ask(name, tag, access, held)
    } catch (error) {
      const outage = isOutage(error) || (error instanceof UpstreamError && error.kind === 'limited')
      if (outage && stale) return stale
      throw error
    }
  }

  async function ask(
    name: RepositoryName,
    tag: Tag,
    { credential }: Access,
    held: Held | undefined,
  ): Promise<Resolution> {
    const observation = await freshness.observe(name, tag)
    const mark = index.mark()
    try {
      const answer = await upstream.getManifest(
        name,
        { kind: 'tag', tag },
        { credential, heldDigest: held?.manifest.digest, check: held !== undefined },
      )
      if (answer === 'not-kept') return { kind: 'not-kept' }
      if (answer !== 'not-modified') {
        await keepManifest(deps, name, answer, mark, observation)
        return { kind: 'fill', manifest: answer }
      }
      if (!held)
        throw new UpstreamError('faulty', 'the primary said 304 to a question that was not conditional')
      await unlessStoreFails(name, () => renew(name, tag, held, mark, observation))
      return { kind: 'local', manifest: held.manifest }
    } catch (error) {
      if (
        error instanceof UpstreamError &&
        error.kind === 'absent' &&
        (await freshness.stands(observation))
      ) {
        await unlessStoreFails(name, () => index.hideTag(name, tag))
      }
      throw error
    }
  }

  /** The primary has answered, and that is the client's answer whatever this site can write down of it. */
  async function unlessStoreFails(name: RepositoryName, note: () => Promise<void>): Promise<void> {
    try {
      await note()
    } catch (error) {
      deps.log.error({ error, repository: name }, 'what the primary said of a tag could not be kept')
    }
  }

  /** The primary said that tag and digest still belong together: that is its word for the link as well. */
  async function renew(
    name: RepositoryName,
    tag: Tag,
    { manifest, entry }: Held,
    mark: ReturnType<typeof index.mark>,
    observation: Observation,
  ): Promise<void> {
    if (!(await freshness.stands(observation))) return
    if (entry.confirmedAtMs === undefined) {
      // An adopted folder's tag, or one that was in doubt: from now on it is the primary's word.
      await keepManifest(deps, name, manifest, mark, observation)
      return
    }
    const link = await index.link(name, 'manifest', manifest.digest)
    if (link?.confirmedAtMs === undefined) await index.putLink(name, 'manifest', manifest.digest, mark)
    index.renewTag(name, tag, manifest.digest, mark)
    await freshness.confirm(observation, manifest.digest)
  }

  /** What may be served if the primary cannot be asked (law 5), or undefined. */
  async function standIn(name: RepositoryName, { manifest, entry }: Held): Promise<Resolution | undefined> {
    const { confirmedAtMs } = entry
    // A confirmation of the future, left by a clock that was set back, is no better than one as old.
    if (confirmedAtMs === undefined || Math.abs(now() - confirmedAtMs) >= deps.maxStaleMs) return undefined
    const link = await index.link(name, 'manifest', manifest.digest)
    return link?.confirmedAtMs === undefined ? undefined : { kind: 'stale', manifest, confirmedAtMs }
  }

  return { confirmed, resolve, held: async (name, tag) => (await find(name, tag))?.manifest }
}
