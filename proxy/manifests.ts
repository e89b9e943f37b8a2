/** GET and HEAD of manifests, by tag and by digest. One decision for both methods, law 4's HEAD excepted. */

import type { Source } from '../src/metrics.ts'
import type { Digest } from '../src/oci/digest.ts'
import { HEADERS, headerValue, matchesEtag } from '../src/oci/headers.ts'
import type { Manifest } from '../src/oci/manifest.ts'
import { acceptsLiterally } from '../src/oci/media-types.ts'
import type { Reference, RepositoryName } from '../src/oci/reference.ts'
import { singleFlight } from '../src/single-flight.ts'
import type { Mark } from '../src/store/repository-index.ts'
import { UpstreamError } from '../src/upstream/errors.ts'
import type { AskOptions, Upstream } from '../src/upstream/upstream.ts'
import { answer, type Exchange, staleWarning } from './exchange.ts'
import type { HeldManifests } from './held-manifests.ts'
import { type KeepDeps, keepManifest } from './keep-manifest.ts'
import type { Standings } from './standing.ts'
import type { TagResolver } from './tag-resolver.ts'

export interface ManifestDeps extends KeepDeps {
  readonly manifests: HeldManifests
  readonly standings: Standings
  readonly tags: TagResolver
  readonly upstream: Upstream
  /** Sends the client's own request to the primary and its answer back. */
  readonly passThrough: (exchange: Exchange) => Promise<void>
}

/** What to answer with, or undefined when the client's own request must go to the primary. */
interface Found {
  readonly manifest: Manifest
  readonly source: Source
  readonly staleSinceMs?: number | undefined
}

interface Fetched {
  readonly fetched: Manifest | 'not-kept'
  /** Taken before the primary was asked. */
  readonly mark: Mark
}

export function createManifestReads(
  deps: ManifestDeps,
): (exchange: Exchange, route: { name: RepositoryName; reference: Reference }) => Promise<void> {
  const { index, manifests, standings, tags, upstream } = deps
  const fetches = singleFlight<string, Fetched>()

  async function byTag(
    exchange: Exchange,
    name: RepositoryName,
    reference: Reference & { kind: 'tag' },
  ): Promise<Found | undefined> {
    // Only what stands literally in Accept is answered here; any other negotiation is the primary's.
    const confirmed = await tags.confirmed(name, reference.tag, exchange.access)
    if (confirmed) return accepts(exchange, confirmed) ? { manifest: confirmed, source: 'local' } : undefined
    const held = await tags.held(name, reference.tag)
    if (held && !accepts(exchange, held)) return undefined
    const resolution = await tags.resolve(name, reference.tag, exchange.access)
    if (resolution.kind === 'not-kept') return undefined
    const { manifest, kind } = resolution
    return { manifest, source: kind, staleSinceMs: kind === 'stale' ? resolution.confirmedAtMs : undefined }
  }

  async function byDigest(
    exchange: Exchange,
    name: RepositoryName,
    digest: Digest,
  ): Promise<Found | undefined> {
    const link = await index.link(name, 'manifest', digest)
    const target = link?.target ?? digest
    const manifest = manifests.cached(target) ?? (await manifests.get(target))
    if (manifest) {
      if (!accepts(exchange, manifest)) return undefined
      if (standings.isFresh(link, exchange.access)) return { manifest, source: 'local' }
      const { staleSinceMs } = await standings.settle(name, 'manifest', digest, link, exchange.access)
      return { manifest, source: staleSinceMs === undefined ? 'local' : 'stale', staleSinceMs }
    }
    const fetched = await fetch(exchange, name, digest)
    return fetched === 'not-kept' ? undefined : { manifest: fetched, source: 'fill' }
  }

  /**
   * Shared by callers with the same token only: a refusal is one caller's own. Who joins a question that was sent before
   * may be told less than it can have (pushed since) or more (removed since): then the next question, which is younger
   * than the caller whoever sends it, is the one that counts.
   */
  async function fetch(
    exchange: Exchange,
    name: RepositoryName,
    digest: Digest,
    waited = false,
  ): Promise<Manifest | 'not-kept'> {
    const { credential, requestId } = exchange
    const caller = credential.kind === 'caller' ? (credential.authorization ?? '') : ''
    let isYounger = waited
    try {
      const { fetched, mark } = await fetches(`${name}@${digest}\n${caller}`, () => {
        isYounger = true
        return ask(name, digest, { credential, requestId })
      })
      if (isYounger || (await index.stands(name, 'manifest', digest, mark))) return fetched
    } catch (error) {
      if (isYounger || !(error instanceof UpstreamError) || error.kind !== 'absent') throw error
    }
    return fetch(exchange, name, digest, true)
  }

  async function ask(name: RepositoryName, digest: Digest, options: AskOptions): Promise<Fetched> {
    const mark = index.mark()
    const fetched = await upstream.getManifest(name, { kind: 'digest', digest }, options)
    if (fetched === 'not-modified' || fetched === 'not-kept') return { fetched: 'not-kept', mark }
    await keepManifest(deps, name, fetched, mark)
    return { fetched, mark }
  }

  return async function readManifest(exchange, { name, reference }) {
    // A HEAD decides whether a client uploads (law 4): for a caller who could, the primary answers it.
    if (exchange.request.method === 'HEAD' && exchange.access.mayWrite) return deps.passThrough(exchange)
    const found =
      reference.kind === 'tag'
        ? await byTag(exchange, name, reference)
        : await byDigest(exchange, name, reference.digest)
    if (!found || !accepts(exchange, found.manifest)) return deps.passThrough(exchange)
    respond(exchange, found, reference)
  }
}

function accepts(exchange: Exchange, manifest: Manifest): boolean {
  // Several Accept lines arrive joined by node, as the specification lets them be read.
  return acceptsLiterally(exchange.request.headers.accept, manifest.mediaType)
}

function respond(exchange: Exchange, { manifest, source, staleSinceMs }: Found, reference: Reference): void {
  const digest = reference.kind === 'digest' ? reference.digest : manifest.digest
  const etag = `"${digest}"`
  exchange.source = source
  const headers = {
    [HEADERS.contentDigest]: digest,
    etag,
    warning: staleSinceMs === undefined ? undefined : staleWarning(staleSinceMs),
  }
  if (matchesEtag(headerValue(exchange.request.headers, 'if-none-match'), etag)) {
    answer(exchange, 304, headers)
    return
  }
  answer(
    exchange,
    200,
    { ...headers, 'content-type': manifest.mediaType, 'content-length': String(manifest.bytes.length) },
    textOf(manifest) ?? manifest.bytes,
    'latin1',
  )
}

/** Larger ones leave as bytes: copying them would cost more than the second piece. */
const TEXT_MAX_BYTES = 16 * 1024
const texts = new WeakMap<Manifest, string>()

/** Byte for byte, a character each: node writes a head and a body of text in one piece, and gathers two otherwise. */
function textOf(manifest: Manifest): string | undefined {
  if (manifest.bytes.length > TEXT_MAX_BYTES) return undefined
  const known = texts.get(manifest)
  if (known !== undefined) return known
  const text = manifest.bytes.toString('latin1')
  texts.set(manifest, text)
  return text
}
