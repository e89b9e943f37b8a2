/**
 * Blob uploads: every request of a session goes to the primary, and a copy of what it takes stays here. The primary
 * decides; nothing that goes wrong with the copy reaches the client.
 */
import { randomUUID } from 'node:crypto'
import type { Logger } from '../src/log.ts'
import { algorithmOf, type Digest, parseDigest } from '../src/oci/digest.ts'
import { HEADERS, headerValue } from '../src/oci/headers.ts'
import { parseUploadRange } from '../src/oci/ranges.ts'
import type { RepositoryName } from '../src/oci/reference.ts'
import type { BlobStore } from '../src/store/blob-store.ts'
import type { Mark, RepositoryIndex } from '../src/store/repository-index.ts'
import type { ForwardAnswer, Upstream } from '../src/upstream/upstream.ts'
import type { CapturePart, Captures } from './capture.ts'
import type { Exchange } from './exchange.ts'
import { passThrough, siteAddress } from './forwarding.ts'
import { type Locations, type UploadTarget, withoutQuery } from './locations.ts'
import type { Route } from './routes.ts'
import { uploadBody } from './upload-body.ts'
import type { UploadQuota } from './upload-quota.ts'
import type { WriteSender } from './write-sender.ts'

export interface UploadsDeps {
  readonly upstream: Pick<Upstream, 'origin'>
  readonly send: WriteSender
  readonly locations: Locations
  readonly captures: Omit<Captures, 'close'>
  readonly quota: UploadQuota
  readonly blobs: Pick<BlobStore, 'pin' | 'stat'>
  readonly index: Pick<RepositoryIndex, 'mark' | 'putLink'>
  readonly log: Logger
}

export interface UploadsOptions {
  /** `http.host`; the request's own Host when undefined. */
  readonly publicUrl: string | undefined
  /** No byte of a body for this long ends its request. */
  readonly idleMs: number
  /** How long a final 201 waits for the blob to be published here. Default 1 s. */
  readonly publishWaitMs?: number
}

export interface Uploads {
  startUpload(exchange: Exchange, route: Extract<Route, { kind: 'uploads' }>): Promise<void>
  /** GET (status), PATCH, PUT (last) and DELETE (cancel) of a session. */
  continueUpload(exchange: Exchange, route: Extract<Route, { kind: 'upload' }>): Promise<void>
  /** Resolves when no blob is being published any more. */
  close(): Promise<void>
}

export function createUploads(deps: UploadsDeps, options: UploadsOptions): Uploads {
  const { captures, index, locations } = deps
  const { publicUrl, idleMs, publishWaitMs = 1000 } = options
  const keeping = new Set<Promise<void>>()

  /** Sends the request with its body, of which `part` gets a copy. */
  async function sendBody(
    exchange: Exchange,
    name: RepositoryName,
    target: UploadTarget,
    part: CapturePart | undefined,
  ): Promise<ForwardAnswer> {
    const { clientAddress } = exchange
    try {
      deps.quota.admit(clientAddress, Number(exchange.request.headers['content-length'] ?? 0))
      const onBytes = (bytes: Buffer) => {
        deps.quota.count(clientAddress, bytes.length)
        return part?.write(bytes)
      }
      const body = uploadBody(exchange, { idleMs, onBytes })
      return await deps.send(exchange, { target, body, scope: `repository:${name}:pull,push` })
    } catch (error) {
      if (!exchange.request.complete) exchange.response.shouldKeepAlive = false
      part?.unsettled()
      throw error
    }
  }

  /** The session an answer names, as its absolute URL; undefined when it names none that can be used. */
  function sessionOf(exchange: Exchange, answer: ForwardAnswer, base: string): string | undefined {
    const location = headerValue(answer.headers, 'location')
    try {
      return location && locations.resolve(location, siteAddress(exchange, publicUrl).host, base)
    } catch {
      return undefined // The reply fails with the same error, and lets go of the answer.
    }
  }

  async function reply(
    exchange: Exchange,
    name: RepositoryName,
    answer: ForwardAnswer,
    base: string,
    digest?: Digest,
  ): Promise<void> {
    const location = (value: string) => {
      const url = locations.resolve(value, siteAddress(exchange, publicUrl).host, base)
      if (answer.status !== 201) return locations.session(url, name)
      return locations.path(url) ?? `/v2/${name}/blobs/${digest ?? ''}`
    }
    await passThrough(exchange, answer, { idleMs, location })
  }

  async function startUpload(
    exchange: Exchange,
    { name }: Extract<Route, { kind: 'uploads' }>,
  ): Promise<void> {
    const query = new URLSearchParams(exchange.query)
    const digest = parseDigest(query.get('digest') ?? query.get('mount') ?? '')
    const url = deps.upstream.origin + exchange.path + (exchange.query && `?${exchange.query}`)
    const key = `${name} ${randomUUID()}`
    if (query.has('digest')) captures.begin(key)
    const part = captures.part(key, 0)
    const mark = index.mark()
    try {
      const answer = await sendBody(exchange, name, { url, foreign: false }, part)
      if (answer.status === 201 && digest) await keep(name, digest, mark, answer, part)
      // A body the primary did not take in one go (Distribution 2.8) is uploaded again, in the session it names.
      const session = answer.status === 202 ? sessionOf(exchange, answer, url) : undefined
      if (session !== undefined) captures.begin(sessionKey(name, session))
      await reply(exchange, name, answer, url, digest)
    } finally {
      captures.drop(key, 'the upload did not end with its first request')
    }
  }

  async function continueUpload(
    exchange: Exchange,
    { name }: Extract<Route, { kind: 'upload' }>,
  ): Promise<void> {
    const target = locations.target(exchange.path, exchange.query, name)
    const key = sessionKey(name, target.url)
    const { method, headers } = exchange.request
    if (method !== 'PATCH' && method !== 'PUT') {
      const answer = await deps.send(exchange, { target, scope: `repository:${name}:pull,push` })
      if (isSuccess(answer) && method === 'GET') {
        captures.learn(key, parseUploadRange(headerValue(answer.headers, 'range')))
        follow(exchange, name, answer, target, key)
      } else if (isSuccess(answer) || answer.status === 404) captures.drop(key, 'the upload was cancelled')
      return reply(exchange, name, answer, target.url)
    }
    const part = captures.part(key, parseUploadRange(headerValue(headers, 'content-range'))?.start)
    const mark = index.mark()
    const digest = parseDigest(new URLSearchParams(exchange.query).get('digest') ?? '')
    const answer = await sendBody(exchange, name, target, part)
    if (method === 'PUT' && answer.status === 201 && digest) await keep(name, digest, mark, answer, part)
    else settle(key, answer, part)
    if (isSuccess(answer)) {
      if (method === 'PATCH') follow(exchange, name, answer, target, key)
      else captures.drop(key, 'the upload ended without a digest that can be verified')
    }
    return reply(exchange, name, answer, target.url, digest)
  }

  /** Registries may move a session with every answer. */
  function follow(
    exchange: Exchange,
    name: RepositoryName,
    answer: ForwardAnswer,
    target: UploadTarget,
    key: string,
  ): void {
    const session = sessionOf(exchange, answer, target.url)
    if (session !== undefined) captures.rename(key, sessionKey(name, session))
  }

  function settle(key: string, answer: ForwardAnswer, part: CapturePart | undefined): void {
    if (isSuccess(answer)) part?.acknowledged(parseUploadRange(headerValue(answer.headers, 'range')))
    else part?.unsettled()
    // 400: the primary threw the upload away (a digest that does not match). After anything else it may go on.
    if (answer.status === 400 || answer.status === 404) captures.drop(key, 'the primary ended the upload')
  }

  /** Publishes and links the blob; resolves after `publishWaitMs` at the latest, and never rejects. */
  async function keep(
    name: RepositoryName,
    digest: Digest,
    mark: Mark,
    answer: ForwardAnswer,
    part: CapturePart | undefined,
  ): Promise<void> {
    const told = parseDigest(headerValue(answer.headers, HEADERS.contentDigest) ?? '')
    if (told && told !== digest && algorithmOf(told) === algorithmOf(digest)) {
      part?.unsettled()
      return
    }
    const kept = keepBlob(name, digest, mark, part)
    keeping.add(kept)
    const { promise: waited, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(resolve, publishWaitMs)
    timer.unref()
    await Promise.race([kept.finally(() => keeping.delete(kept)), waited])
    clearTimeout(timer)
  }

  async function keepBlob(
    name: RepositoryName,
    digest: Digest,
    mark: Mark,
    part: CapturePart | undefined,
  ): Promise<void> {
    const unpin = deps.blobs.pin(digest)
    try {
      const published = (await part?.keep(digest)) ?? false
      // Mounted, or pushed past a capture that was lost: the content may be here from another repository.
      if (published || (await deps.blobs.stat(digest)) !== undefined) {
        await index.putLink(name, 'layer', digest, mark)
      }
    } catch (error) {
      deps.log.error({ error, repository: name, digest }, 'pushed blob not linked here')
    } finally {
      unpin()
    }
  }

  return {
    startUpload,
    continueUpload,
    async close() {
      await Promise.all(keeping)
    },
  }
}

function sessionKey(name: RepositoryName, url: string): string {
  return `${name} ${withoutQuery(url)}`
}

function isSuccess(answer: ForwardAnswer): boolean {
  return answer.status >= 200 && answer.status < 300
}
