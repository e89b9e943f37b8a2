/**
 * A scriptable primary for faults that no real registry can be brought to. It answers honestly from memory until a test
 * tells it a lie (`lies.ts`) for a path, and records every request.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { setImmediate } from 'node:timers/promises'
import { digestOf } from '../../src/oci/digest.ts'
import { errorBody } from '../../src/oci/errors.ts'
import { parseAskedRanges, resolveRanges } from '../../src/oci/ranges.ts'
import { contentBytes } from './content.ts'
import { type HttpListener, listenHttp } from './http-listener.ts'
import { allBlobs, allManifests, type Image } from './images.ts'

/** An answer as it would be sent. */
export interface HonestAnswer {
  status: number
  headers: Record<string, string>
  body: Buffer
}

export interface Ask {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  /** What it would answer if it were honest; the request's body has been read. */
  readonly honest: HonestAnswer
}

/** Answers in its own way. Throwing ends the test's process: lies must not fail. */
export type Lie = (ask: Ask) => void | Promise<void>

export interface RecordedRequest {
  readonly method: string
  /** As it stood in the request line. */
  readonly url: string
  readonly headers: IncomingMessage['headers']
  /** Grows while the body arrives. */
  bodyBytes: number
  /** Whether the whole request body has arrived. */
  complete: boolean
}

export interface LieOptions {
  /** How many requests get it; default all, until it is taken back. */
  readonly times?: number
}

export interface LyingPrimary extends Pick<HttpListener, 'url' | 'port' | 'stop' | 'start'>, AsyncDisposable {
  /** Every request, oldest first. */
  readonly requests: readonly RecordedRequest[]
  /** Those whose method and path (query excluded) match. */
  asked(method: string, path: string | RegExp): readonly RecordedRequest[]
  /** Holds an image's blobs and manifests in a repository, under a tag where given. Not for big ones: in memory. */
  hold(name: string, image: Image, tag?: string): Promise<void>
  /** Forgets a blob, a manifest or a tag: 404 with the registry's error body from now on. */
  forget(name: string, reference: string): void
  /**
   * Tells a lie to requests with this method (`*`: any) and path. The latest lie that matches wins. Returns a function
   * that takes it back.
   */
  lie(method: string, path: string | RegExp, lie: Lie, options?: LieOptions): () => void
  /** A gate: requests with this method and path are answered only after `open` was called. */
  gate(method: string, path: string | RegExp): { readonly open: () => void }
}

interface Rule {
  readonly method: string
  readonly path: string | RegExp
  readonly lie: Lie
  left: number
}

interface Held {
  readonly bytes: Buffer
  readonly mediaType: string
}

/** Uploads longer than this are counted, not kept. */
const UPLOAD_KEPT_BYTES = 64 * 1024 * 1024

export async function startLyingPrimary(): Promise<LyingPrimary> {
  /** `<name>/blobs/<digest>`, `<name>/manifests/<reference>` */
  const held = new Map<string, Held>()
  const uploads = new Map<string, Buffer[]>()
  const rules: Rule[] = []
  const requests: RecordedRequest[] = []
  const listener = await listenHttp((request, response) => void serve(request, response))

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', url = '', headers } = request
    const record: RecordedRequest = { method, url, headers, bodyBytes: 0, complete: false }
    requests.push(record)
    const body: Buffer[] = []
    try {
      for await (const chunk of request) {
        record.bodyBytes += chunk.length
        if (record.bodyBytes <= UPLOAD_KEPT_BYTES) body.push(chunk)
      }
    } catch {
      return // The client went away in the middle of its body; the record says so.
    }
    record.complete = true
    const honest = answerHonestly(method, url, headers, Buffer.concat(body))
    await ruleFor(method, url)({ request, response, honest })
  }

  function ruleFor(method: string, url: string): Lie {
    const rule = rules.findLast(
      (one) => one.left > 0 && (one.method === '*' || one.method === method) && matches(one.path, url),
    )
    if (!rule) return sendHonestly
    rule.left--
    return rule.lie
  }

  function answerHonestly(
    method: string,
    url: string,
    headers: IncomingMessage['headers'],
    body: Buffer,
  ): HonestAnswer {
    const { pathname, searchParams } = new URL(url, 'http://primary')
    const [, name = '', kind = '', last = ''] =
      /^\/v2\/(.+)\/(blobs\/uploads|blobs|manifests|tags|referrers)\/(.*)$/.exec(pathname) ?? []
    if (pathname === '/v2/') return ok({}, '{}')
    if (kind === 'tags')
      return ok({ 'content-type': 'application/json' }, JSON.stringify({ name, tags: tagsOf(name) }))
    if (kind === 'blobs/uploads') return upload(method, name, last, searchParams.get('digest'), body)
    if (kind === '' || kind === 'referrers') return refusal(404, 'NOT_FOUND')
    const key = `${name}/${kind}/${last}`
    if (method === 'PUT') return putManifest(name, last, String(headers['content-type']), body)
    if (method === 'DELETE')
      return held.delete(key) ? { status: 202, headers: {}, body: EMPTY } : unknown(kind)
    const found = held.get(key)
    return found ? contentAnswer(found, headers) : unknown(kind)
  }

  function upload(
    method: string,
    name: string,
    id: string,
    digest: string | null,
    body: Buffer,
  ): HonestAnswer {
    const session = id === '' ? `session-${uploads.size + 1}` : id
    const parts = uploads.get(session) ?? []
    uploads.set(session, parts)
    parts.push(body)
    const location = `/v2/${name}/blobs/uploads/${session}?state=opaque%3D${parts.length}`
    if (digest === null) {
      const received = parts.reduce((total, part) => total + part.length, 0)
      const range = `0-${Math.max(0, received - 1)}`
      const status = method === 'GET' || method === 'DELETE' ? 204 : 202
      return { status, headers: { location, range, 'docker-upload-uuid': session }, body: EMPTY }
    }
    const bytes = Buffer.concat(parts)
    if (digestOf(bytes) !== digest) return refusal(400, 'DIGEST_INVALID')
    held.set(`${name}/blobs/${digest}`, { bytes, mediaType: 'application/octet-stream' })
    return created(`/v2/${name}/blobs/${digest}`, digest)
  }

  function putManifest(name: string, reference: string, mediaType: string, bytes: Buffer): HonestAnswer {
    const digest = digestOf(bytes)
    for (const key of [reference, digest]) held.set(`${name}/manifests/${key}`, { bytes, mediaType })
    return created(`/v2/${name}/manifests/${digest}`, digest)
  }

  function tagsOf(name: string): string[] {
    const prefix = `${name}/manifests/`
    const tags = [...held.keys()].filter((key) => key.startsWith(prefix) && !key.includes(':'))
    return tags.map((key) => key.slice(prefix.length)).toSorted((one, other) => (one < other ? -1 : 1))
  }

  const primary: LyingPrimary = {
    url: listener.url,
    port: listener.port,
    stop: listener.stop,
    start: listener.start,
    requests,
    asked: (method, path) =>
      requests.filter((one) => (method === '*' || one.method === method) && matches(path, one.url)),
    async hold(name, image, tag) {
      for (const blob of allBlobs(image)) {
        const bytes = await contentBytes(blob)
        held.set(`${name}/blobs/${blob.digest}`, { bytes, mediaType: 'application/octet-stream' })
      }
      for (const { digest, bytes, mediaType } of allManifests(image)) {
        held.set(`${name}/manifests/${digest}`, { bytes, mediaType })
      }
      if (tag !== undefined) {
        held.set(`${name}/manifests/${tag}`, { bytes: image.bytes, mediaType: image.mediaType })
      }
    },
    forget(name, reference) {
      for (const kind of ['blobs', 'manifests']) held.delete(`${name}/${kind}/${reference}`)
    },
    lie(method, path, lie, { times = Number.POSITIVE_INFINITY } = {}) {
      const rule: Rule = { method, path, lie, left: times }
      rules.push(rule)
      return () => {
        rule.left = 0
      }
    },
    gate(method, path) {
      const { promise, resolve } = Promise.withResolvers<void>()
      primary.lie(method, path, async (ask) => {
        await promise
        await setImmediate() // All that wait are let go before any is answered.
        await sendHonestly(ask)
      })
      return { open: resolve }
    },
    [Symbol.asyncDispose]: listener.stop,
  }
  return primary
}

/** What it does when nobody told it to lie; lies use it for the part they leave true. */
export function sendHonestly({ request, response, honest }: Ask): void {
  response.writeHead(honest.status, { 'content-length': String(honest.body.length), ...honest.headers })
  response.end(request.method === 'HEAD' ? undefined : honest.body)
}

const EMPTY = Buffer.alloc(0)

function matches(path: string | RegExp, url: string): boolean {
  const [pathname = ''] = url.split('?')
  return typeof path === 'string' ? path === pathname : path.test(pathname)
}

function contentAnswer({ bytes, mediaType }: Held, asked: IncomingMessage['headers']): HonestAnswer {
  const digest = digestOf(bytes)
  const headers = { 'content-type': mediaType, 'docker-content-digest': digest, etag: `"${digest}"` }
  if (asked['if-none-match'] === `"${digest}"`) return { status: 304, headers, body: EMPTY }
  const range = resolveRanges(parseAskedRanges(asked.range), bytes.length)
  if (range.kind === 'unsatisfiable') return refusal(416, 'RANGE_INVALID')
  const [only] = range.kind === 'ranges' && range.ranges.length === 1 ? range.ranges : []
  if (!only) return { status: 200, headers, body: bytes }
  return {
    status: 206,
    headers: { ...headers, 'content-range': `bytes ${only.start}-${only.end}/${bytes.length}` },
    body: bytes.subarray(only.start, only.end + 1),
  }
}

function ok(headers: Record<string, string>, body: string): HonestAnswer {
  return {
    status: 200,
    headers: { 'docker-distribution-api-version': 'registry/2.0', ...headers },
    body: Buffer.from(body),
  }
}

function created(location: string, digest: string): HonestAnswer {
  return { status: 201, headers: { location, 'docker-content-digest': digest }, body: EMPTY }
}

function unknown(kind: string): HonestAnswer {
  return refusal(404, kind === 'blobs' ? 'BLOB_UNKNOWN' : 'MANIFEST_UNKNOWN')
}

function refusal(status: number, code: string): HonestAnswer {
  return {
    status,
    headers: { 'content-type': 'application/json' },
    body: Buffer.from(errorBody(code, code.toLowerCase())),
  }
}
