/**
 * Manifest pushes. The primary decides; what it answered 201 for is here, linked, tagged and fresh before the client
 * sees the 201 (law 4). Failing to keep it never fails the push.
 */
import type { Observation } from '../src/freshness/freshness.ts'
import { algorithmOf, type Digest, digestOf, parseDigest } from '../src/oci/digest.ts'
import { OciError } from '../src/oci/errors.ts'
import { HEADERS, headerValue } from '../src/oci/headers.ts'
import { MANIFEST_MAX_BYTES, manifestMediaType } from '../src/oci/manifest.ts'
import { MEDIA_TYPES } from '../src/oci/media-types.ts'
import { parseTag, type Reference, type RepositoryName, type Tag } from '../src/oci/reference.ts'
import type { BlobStore } from '../src/store/blob-store.ts'
import type { Holdings } from '../src/store/holdings.ts'
import type { Mark, RepositoryIndex } from '../src/store/repository-index.ts'
import type { ForwardAnswer, Upstream } from '../src/upstream/upstream.ts'
import type { Exchange } from './exchange.ts'
import { headerValues, passThrough, siteAddress } from './forwarding.ts'
import type { KeepDeps } from './keep-manifest.ts'
import type { Locations } from './locations.ts'
import type { Route } from './routes.ts'
import { wholeBody } from './upload-body.ts'
import type { UploadQuota } from './upload-quota.ts'
import { duringWrite, type WriteSender } from './write-sender.ts'

export interface ManifestWritesDeps extends Pick<KeepDeps, 'freshness' | 'log'> {
  readonly blobs: Pick<BlobStore, 'pin' | 'stat' | 'hasRoom' | 'write'>
  readonly index: Pick<RepositoryIndex, 'mark' | 'putLink' | 'putTag' | 'doubtTag'>
  readonly holdings: Pick<Holdings, 'dropComplete'>
  readonly upstream: Pick<Upstream, 'origin'>
  readonly send: WriteSender
  readonly locations: Locations
  readonly quota: UploadQuota
}

export interface ManifestWritesOptions {
  /** `http.host`; the request's own Host when undefined. */
  readonly publicUrl: string | undefined
  /** No byte of a body for this long ends its request. */
  readonly idleMs: number
}

/** A manifest the primary has taken. */
interface Pushed {
  readonly name: RepositoryName
  readonly bytes: Buffer
  readonly contentType: string
  readonly answer: ForwardAnswer
  /** Taken before it was sent on. */
  readonly mark: Mark
}

export type PutManifest = (exchange: Exchange, route: Extract<Route, { kind: 'manifest' }>) => Promise<void>

export function createPutManifest(deps: ManifestWritesDeps, options: ManifestWritesOptions): PutManifest {
  const { blobs, index, freshness, locations } = deps
  const { publicUrl, idleMs } = options

  /**
   * Generations are renewed before and after, whatever becomes of the answer, so no tag stays confirmed across the
   * write. Where the answer is lost or a 5xx, the tag is not doubted on top of that. The primary may or may not have
   * taken the push, but nobody was told that it did (laws 2 and 4), and the value held is no more wrong than after a
   * push at the primary that this site has not heard of, for which law 5 lets it stand in with its age named. Doubting
   * it would let a push in an outage, which cannot succeed, take away the tag that the outage rule keeps pullable.
   */
  async function putManifest(
    exchange: Exchange,
    { name, reference }: Extract<Route, { kind: 'manifest' }>,
  ): Promise<void> {
    const bytes = await wholeBody(exchange, { limitBytes: MANIFEST_MAX_BYTES, idleMs, tooLarge })
    deps.quota.count(exchange.clientAddress, bytes.length)
    const contentType = contentTypeOf(exchange)
    refuseContradiction(reference, bytes, contentType)
    const url = deps.upstream.origin + exchange.path + (exchange.query && `?${exchange.query}`)
    const asked = askedTags(reference, exchange.query)
    const mark = index.mark()
    const { answer, observations } = await duringWrite(freshness, name, asked, () =>
      deps.send(exchange, {
        target: { url, foreign: false },
        body: bytes,
        scope: `repository:${name}:pull,push`,
      }),
    )
    if (answer.status === 201) {
      const digest = await keepContent({ name, bytes, contentType, answer, mark })
      for (const tag of takenTags(reference, asked, answer)) {
        await keepTag(name, tag, digest, mark, observations.get(tag))
      }
    }
    const location = (value: string) =>
      locations.path(locations.resolve(value, siteAddress(exchange, publicUrl).host, url)) ?? exchange.path
    await passThrough(exchange, answer, { idleMs, location })
  }

  /** Stores and links what the primary took; undefined when it is not here afterwards. Never rejects. */
  async function keepContent({
    name,
    bytes,
    contentType,
    answer,
    mark,
  }: Pushed): Promise<Digest | undefined> {
    const digest = keptDigest(bytes, answer)
    // Pushed under another type than its bytes say: which of the two is served is the primary's to say.
    if (!digest || manifestMediaType(bytes) !== contentType) return undefined
    const unpin = blobs.pin(digest)
    try {
      if ((await blobs.stat(digest)) === undefined) {
        if (!(await blobs.hasRoom())) return undefined
        await blobs.write(digest, bytes)
      }
      return (await index.putLink(name, 'manifest', digest, mark)) ? digest : undefined
    } catch (error) {
      notKept(error, name, digest)
      return undefined
    } finally {
      unpin()
    }
  }

  /** The tag is what was just pushed, or, where that cannot be known or kept, not what is held. Never rejects. */
  async function keepTag(
    name: RepositoryName,
    tag: Tag,
    digest: Digest | undefined,
    mark: Mark,
    observation: Observation | undefined,
  ): Promise<void> {
    try {
      // No observation: another write of the tag overlapped this one, and only the primary knows which came last.
      if (digest && observation && (await freshness.stands(observation))) {
        if (await index.putTag(name, tag, digest, mark)) {
          if (await freshness.confirm(observation, digest)) return
        }
      }
    } catch (error) {
      notKept(error, name, tag)
    }
    try {
      // Before it is doubted: a list of what is here would leave out what the client was told is there.
      await deps.holdings.dropComplete(name)
      await index.doubtTag(name, tag)
    } catch (error) {
      notKept(error, name, tag)
    }
  }

  function notKept(error: unknown, name: RepositoryName, what: string): void {
    deps.log.error({ error, repository: name, reference: what }, 'pushed manifest not kept here')
  }

  return putManifest
}

/** 413 as the specification asks; the code is Distribution's. */
function tooLarge(): OciError {
  return new OciError('MANIFEST_INVALID', {
    status: 413,
    message: `manifest invalid: larger than ${MANIFEST_MAX_BYTES} bytes`,
  })
}

function contentTypeOf(exchange: Exchange): string {
  return (exchange.request.headers['content-type'] ?? '').split(';', 1)[0]?.trim() ?? ''
}

/** No primary can take a body that is not what the URL says. The digest of a signed schema 1 manifest is not its body's. */
function refuseContradiction(reference: Reference, bytes: Buffer, contentType: string): void {
  if (reference.kind !== 'digest' || contentType === MEDIA_TYPES.dockerSchema1Signed) return
  if (digestOf(bytes, algorithmOf(reference.digest)) !== reference.digest) {
    throw new OciError('DIGEST_INVALID', { detail: { digest: reference.digest } })
  }
}

/** The primary's digest for these bytes; undefined when it names other bytes than were sent (schema 1). */
function keptDigest(bytes: Buffer, answer: ForwardAnswer): Digest | undefined {
  const text = headerValue(answer.headers, HEADERS.contentDigest)
  const told = text === undefined ? digestOf(bytes) : parseDigest(text)
  return told && digestOf(bytes, algorithmOf(told)) === told ? told : undefined
}

/** Every tag the push may set: its own, and those of `?tag=` (end-7b). */
function askedTags(reference: Reference, query: string): Tag[] {
  const named = new URLSearchParams(query).getAll('tag').map(parseTag)
  const own = reference.kind === 'tag' ? reference.tag : undefined
  return [...new Set([own, ...named].filter((tag) => tag !== undefined))]
}

/** The tags that were set: of those in the query, the ones `OCI-Tag` names; an older primary ignores them all. */
function takenTags(reference: Reference, asked: readonly Tag[], answer: ForwardAnswer): Tag[] {
  const told = headerValues(answer.headers, 'oci-tag').flatMap((value) => value.split(','))
  const taken = new Set<string>(told.map((tag) => tag.trim()))
  if (reference.kind === 'tag') taken.add(reference.tag)
  return asked.filter((tag) => taken.has(tag))
}
