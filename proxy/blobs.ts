/** GET and HEAD of blobs: from the store, following a fill, or (a lone range nobody asked for whole) passed through. */
import { read as readFile } from 'node:fs'
import type { Fill } from '../src/fill/fill.ts'
import { algorithmOf, type Digest, digestOf } from '../src/oci/digest.ts'
import { OciError } from '../src/oci/errors.ts'
import { HEADERS, matchesEtag } from '../src/oci/headers.ts'
import { type AskedRange, isReversed, parseAskedRanges, resolveRanges } from '../src/oci/ranges.ts'
import type { RepositoryName } from '../src/oci/reference.ts'
import type { BlobStore, OpenBlob } from '../src/store/blob-store.ts'
import type { RepositoryIndex } from '../src/store/repository-index.ts'
import { UpstreamError } from '../src/upstream/errors.ts'
import type { Upstream } from '../src/upstream/upstream.ts'
import type { BodyBytes, BodySender, BodySource } from './body.ts'
import type { ClientQuota } from './client-quota.ts'
import { answer, type Exchange, staleWarning, writeHead } from './exchange.ts'
import type { LoneRange } from './lone-range.ts'
import { multipartOf } from './multipart.ts'
import { createSmallBlobs } from './small-blobs.ts'
import type { Standings } from './standing.ts'

export interface BlobDeps {
  readonly blobs: BlobStore
  readonly index: RepositoryIndex
  readonly standings: Standings
  readonly fill: Fill
  readonly upstream: Upstream
  readonly body: BodySender
  readonly quota: ClientQuota
  readonly loneRange: LoneRange
  /** Sends the client's own request to the primary and its answer back. */
  readonly passThrough: (exchange: Exchange) => Promise<void>
}

const WHOLE: AskedRange = { start: 0, end: undefined }

interface BlobRoute {
  readonly name: RepositoryName
  readonly digest: Digest
}

export function createBlobReads(deps: BlobDeps): (exchange: Exchange, route: BlobRoute) => Promise<void> {
  const { blobs, index, standings, fill, upstream, body } = deps
  const small = createSmallBlobs(blobs)

  /** True when it was answered from memory: for whom the link alone decides, and no link is written, no file is opened. */
  async function fromMemory(exchange: Exchange, { name, digest }: BlobRoute): Promise<boolean> {
    const bytes = exchange.request.method === 'GET' ? small.held(digest) : undefined
    if (!bytes || !standings.isFresh(await index.link(name, 'layer', digest), exchange.access)) return false
    const sent = small.sending(bytes.length)
    try {
      exchange.source = 'local'
      await serve(exchange, digest, bytes.length, { bytes })
      return true
    } finally {
      sent()
    }
  }

  /** True when it was answered from the store. */
  async function fromStore(exchange: Exchange, { name, digest }: BlobRoute): Promise<boolean> {
    // Both at once: of a blob that is not here, each is a trip to the disk before the primary is asked.
    const [link, named] = await Promise.all([index.link(name, 'layer', digest), blobs.open(digest)])
    const blob = link && link.target !== digest ? await otherBlob(link.target, named) : named
    if (!blob) return false
    let sent: (() => void) | undefined
    try {
      const standing = standings.isFresh(link, exchange.access)
        ? undefined
        : await standings.settle(name, 'layer', digest, link, exchange.access)
      exchange.source = standing?.staleSinceMs === undefined ? 'local' : 'stale'
      const warning = standing?.staleSinceMs === undefined ? undefined : staleWarning(standing.staleSinceMs)
      const content = exchange.request.method === 'GET' ? await small.content(blob) : undefined
      if (content === 'damaged') return false // It is fetched anew.
      if (content) sent = small.sending(content.length)
      await serve(exchange, digest, blob.sizeBytes, content ? { bytes: content } : sourceOf(blob), warning)
      return true
    } finally {
      sent?.()
      blob.close()
    }
  }

  /** A sha512 push in Distribution's layout links the blob under its sha256. */
  async function otherBlob(target: Digest, named: OpenBlob | undefined): Promise<OpenBlob | undefined> {
    named?.close()
    return await blobs.open(target)
  }

  async function fromPrimary(exchange: Exchange, route: BlobRoute): Promise<void> {
    const { name, digest } = route
    const { access, credential, requestId, signal } = exchange
    const held = isHeldByClient(exchange, digest)
    if (held || exchange.request.method === 'HEAD') {
      const sizeBytes = await upstream.confirmBlob(name, digest, { credential, requestId, signal })
      exchange.source = 'primary'
      if (held) answer(exchange, 304, blobHeaders(digest))
      else answer(exchange, 200, { ...blobHeaders(digest), 'content-length': String(sizeBytes) })
      return
    }
    const asked = askedRanges(exchange, digest)
    const leave = deps.quota.enter(exchange.clientAddress)
    try {
      // A fill may be under way on the word given to the project that lives here now; this caller needs its own.
      if (access.onlyPrimary) await upstream.confirmBlob(name, digest, { credential, requestId, signal })
      // Never sent on: docker-registry 2.8.2 cuts the connection on such a range.
      if (isReversed(asked)) {
        throw unsatisfiable(await upstream.confirmBlob(name, digest, { credential, requestId, signal }))
      }
      const found = await fill.follow(name, digest, {
        credential,
        expiresAtMs: access.expiresAtMs,
        requestId,
        signal,
        // Several ranges of a blob that is not here cost the primary the whole blob once, not each range (law 7).
        range: asked?.length === 1 ? asked[0] : undefined,
      })
      if (found.kind === 'stored') {
        if (await fromStore(exchange, route)) return
        throw new OciError('UNAVAILABLE', {
          message: 'the blob was removed while it was asked for: try again',
        })
      }
      if (found.kind === 'pass')
        return await deps.loneRange(exchange, route, asked?.[0] ?? WHOLE, blobHeaders(digest))
      const { follower } = found
      try {
        if (follower.sizeBytes === 0) refuseUnlessEmpty(digest)
        exchange.source = 'fill'
        await serve(exchange, digest, follower.sizeBytes, follower)
      } finally {
        follower.close()
      }
    } finally {
      leave()
    }
  }

  async function serve(
    exchange: Exchange,
    digest: Digest,
    sizeBytes: number,
    source: BodySource | BodyBytes,
    warning?: string,
  ): Promise<void> {
    const headers = { ...blobHeaders(digest), warning }
    if (isHeldByClient(exchange, digest)) {
      answer(exchange, 304, headers)
      return
    }
    // No range fits an empty blob, and Distribution leaves one alone rather than say 416 to clients that always ask.
    const asked = sizeBytes === 0 ? undefined : askedRanges(exchange, digest)
    const wanted = resolveRanges(asked, sizeBytes)
    if (wanted.kind === 'unsatisfiable') {
      throw unsatisfiable(sizeBytes)
    }
    const parts = multipartOf(wanted, sizeBytes)
    writeHead(exchange, parts.status, { ...headers, ...parts.headers })
    if (exchange.request.method === 'HEAD') {
      exchange.response.end()
      return
    }
    // A fill's first byte may take a while, and containerd waits 30 s for a head; a local one leaves with its head.
    if (exchange.source === 'fill') exchange.response.flushHeaders()
    for (const { preamble, start, end } of parts.parts) {
      if (preamble) exchange.response.write(preamble)
      await body.send(exchange, source, start, end)
    }
    exchange.response.end(parts.epilogue)
  }

  return async function readBlob(exchange, route) {
    // A HEAD decides whether a client uploads (law 4): for a caller who could, the primary answers it.
    if (exchange.request.method === 'HEAD' && exchange.access.mayWrite) return deps.passThrough(exchange)
    if (await fromMemory(exchange, route)) return
    if (await fromStore(exchange, route)) return
    await fromPrimary(exchange, route)
  }
}

function unsatisfiable(sizeBytes: number): OciError {
  return new OciError('RANGE_INVALID', { headers: { 'content-range': `bytes */${sizeBytes}` } })
}

/** Nothing of an empty body is ever read, so no reader would notice that it is not what was asked for (law 1). */
function refuseUnlessEmpty(digest: Digest): void {
  if (digestOf(Buffer.alloc(0), algorithmOf(digest)) === digest) return
  throw new UpstreamError('faulty', `the primary says that blob ${digest} is empty`)
}

function isHeldByClient({ request }: Exchange, digest: Digest): boolean {
  return matchesEtag(request.headers['if-none-match'], `"${digest}"`)
}

/** The ranges to answer with: none to a HEAD (RFC 9110, 14.2), or when an `If-Range` names something else (13.1.5). */
function askedRanges({ request }: Exchange, digest: Digest): readonly AskedRange[] | undefined {
  if (request.method !== 'GET') return undefined
  const condition = request.headers['if-range']
  if (condition !== undefined && condition !== `"${digest}"`) return undefined
  return parseAskedRanges(request.headers.range)
}

/** Distribution's own, so that clients and caches treat both registries alike. */
function blobHeaders(digest: Digest) {
  return {
    'content-type': 'application/octet-stream',
    'accept-ranges': 'bytes',
    'cache-control': 'max-age=31536000',
    [HEADERS.contentDigest]: digest,
    etag: `"${digest}"`,
  }
}

function sourceOf(blob: OpenBlob): BodySource {
  return {
    read: (buffer, length, position) =>
      new Promise((resolve, reject) => {
        readFile(blob.fd, buffer, 0, length, position, (error, bytesRead) =>
          error ? reject(error) : resolve(bytesRead),
        )
      }),
  }
}
