/**
 * A thin client of the distribution API for tests: one request per call, nothing retried, nothing hidden. Every status
 * is an answer; only a connection that fails throws.
 */
import { Readable } from 'node:stream'
import { Agent, type Dispatcher, request } from 'undici'
import { createDigester, type Digest } from '../../src/oci/digest.ts'
import { FULL_ACCEPT } from '../../src/oci/media-types.ts'
import type { Content } from './content.ts'

export type Headers = Readonly<Record<string, string>>

export interface Answer {
  readonly status: number
  /** Lower-case names; repeated ones joined by a comma. */
  readonly headers: Readonly<Record<string, string | undefined>>
  readonly body: Buffer
  /** Of the body, whatever the headers say. */
  readonly digest: Digest
}

/** A body that was read to its end without being kept. */
export interface DrainedAnswer extends Omit<Answer, 'body'> {
  readonly sizeBytes: number
  /** From the request to the first byte of the body. */
  readonly firstByteMs: number
  readonly totalMs: number
  /** Why the body did not end well: the connection was cut. */
  readonly cut: Error | undefined
}

/** An answer whose body has not been read: read it at your own pace, or destroy it. */
export interface OpenAnswer extends Pick<Answer, 'status' | 'headers'> {
  readonly body: Readable
}

export interface RequestOptions {
  readonly headers?: Headers
  readonly body?: Buffer | string | Readable
  readonly signal?: AbortSignal
  /** What the request needs, for `authorize`: `repository:team/app:pull`. */
  readonly scope?: string
}

export interface RegistryApiOptions {
  /** The `Authorization` for a scope; default none is sent. See `bearer` and `createLogin`. */
  readonly authorize?: (scope: string) => string | undefined | Promise<string | undefined>
  /** PEM of a certificate to trust, for `https:`. */
  readonly ca?: string
}

export interface RegistryApi extends AsyncDisposable {
  /** `http://127.0.0.1:<port>` */
  readonly url: string
  /** Any request; `target` is a path, or a Location as it came. */
  request(method: string, target: string, options?: RequestOptions): Promise<Answer>
  drain(target: string, options?: RequestOptions): Promise<DrainedAnswer>
  open(target: string, options?: RequestOptions): Promise<OpenAnswer>
  /** Default `Accept`: every type that we keep. */
  getManifest(name: string, reference: string, headers?: Headers): Promise<Answer>
  headManifest(name: string, reference: string, headers?: Headers): Promise<Answer>
  putManifest(name: string, reference: string, bytes: Buffer | string, mediaType: string): Promise<Answer>
  deleteManifest(name: string, reference: string): Promise<Answer>
  /** Reads and hashes the body without keeping it. */
  getBlob(name: string, digest: string, headers?: Headers): Promise<DrainedAnswer>
  headBlob(name: string, digest: string, headers?: Headers): Promise<Answer>
  deleteBlob(name: string, digest: string): Promise<Answer>
  /** POST; the session's `location` is in the headers. */
  startUpload(name: string, query?: string): Promise<Answer>
  /** PATCH; `start` adds `Content-Range` as the specification's chunked upload has it. */
  patchUpload(
    name: string,
    location: string,
    body: Buffer | Readable,
    options?: { readonly start?: number; readonly end?: number },
  ): Promise<Answer>
  /** PUT with the digest, and the last or only bytes. */
  finishUpload(name: string, location: string, digest: string, body?: Buffer): Promise<Answer>
  /** POST, one streamed PATCH, PUT, as docker does; the last answer, or the first that is no success. */
  pushBlob(name: string, content: Content): Promise<Answer>
  tags(name: string, query?: string): Promise<Answer>
}

export function createRegistryApi(url: string, options: RegistryApiOptions = {}): RegistryApi {
  const connect = options.ca === undefined ? {} : { ca: options.ca }
  const agent = new Agent({ headersTimeout: 0, bodyTimeout: 0, connections: 256, connect })

  async function send(method: string, target: string, ask: RequestOptions): Promise<Dispatcher.ResponseData> {
    const authorization = await options.authorize?.(ask.scope ?? '')
    return await request(new URL(target, url), {
      method: method as Dispatcher.HttpMethod,
      headers: { ...(authorization === undefined ? {} : { authorization }), ...ask.headers },
      body: ask.body ?? null,
      signal: ask.signal ?? null,
      dispatcher: agent,
    })
  }

  const api: RegistryApi = {
    url,
    async request(method, target, ask = {}) {
      const response = await send(method, target, ask)
      const body = Buffer.from(await response.body.arrayBuffer())
      const digester = createDigester('sha256')
      digester.update(body)
      return { ...headOf(response), body, digest: digester.digest() }
    },
    async drain(target, ask = {}) {
      const startedAt = performance.now()
      const response = await send('GET', target, ask)
      const digester = createDigester('sha256')
      let sizeBytes = 0
      let firstByteMs = Number.NaN
      let cut: Error | undefined
      try {
        for await (const chunk of response.body) {
          if (sizeBytes === 0) firstByteMs = performance.now() - startedAt
          sizeBytes += chunk.length
          digester.update(chunk)
        }
      } catch (error) {
        cut = error instanceof Error ? error : new Error(String(error))
      }
      const totalMs = performance.now() - startedAt
      return { ...headOf(response), digest: digester.digest(), sizeBytes, firstByteMs, totalMs, cut }
    },
    async open(target, ask = {}) {
      const response = await send('GET', target, ask)
      return { ...headOf(response), body: response.body }
    },
    getManifest: (name, reference, headers = {}) =>
      api.request('GET', `/v2/${name}/manifests/${reference}`, {
        headers: { accept: FULL_ACCEPT, ...headers },
        scope: pull(name),
      }),
    headManifest: (name, reference, headers = {}) =>
      api.request('HEAD', `/v2/${name}/manifests/${reference}`, {
        headers: { accept: FULL_ACCEPT, ...headers },
        scope: pull(name),
      }),
    putManifest: (name, reference, body, mediaType) =>
      api.request('PUT', `/v2/${name}/manifests/${reference}`, {
        headers: { 'content-type': mediaType },
        body,
        scope: push(name),
      }),
    deleteManifest: (name, reference) =>
      api.request('DELETE', `/v2/${name}/manifests/${reference}`, { scope: remove(name) }),
    getBlob: (name, digest, headers = {}) =>
      api.drain(`/v2/${name}/blobs/${digest}`, { headers, scope: pull(name) }),
    headBlob: (name, digest, headers = {}) =>
      api.request('HEAD', `/v2/${name}/blobs/${digest}`, { headers, scope: pull(name) }),
    deleteBlob: (name, digest) =>
      api.request('DELETE', `/v2/${name}/blobs/${digest}`, { scope: remove(name) }),
    startUpload: (name, query = '') =>
      api.request('POST', `/v2/${name}/blobs/uploads/${query}`, {
        headers: { 'content-length': '0' },
        scope: push(name),
      }),
    patchUpload: (name, location, body, { start, end } = {}) =>
      api.request('PATCH', location, {
        headers: {
          'content-type': 'application/octet-stream',
          ...(start === undefined ? {} : { 'content-range': `${start}-${end ?? ''}` }),
        },
        body,
        scope: push(name),
      }),
    finishUpload: (name, location, digest, body) =>
      api.request('PUT', withQuery(location, `digest=${encodeURIComponent(digest)}`), {
        headers: { 'content-type': 'application/octet-stream', 'content-length': String(body?.length ?? 0) },
        ...(body && { body }),
        scope: push(name),
      }),
    async pushBlob(name, content) {
      const started = await api.startUpload(name)
      if (started.status !== 202) return started
      const patched = await api.patchUpload(name, locationOf(started), Readable.from(content.read()))
      if (patched.status !== 202) return patched
      return await api.finishUpload(name, locationOf(patched), content.digest)
    },
    tags: (name, query = '') => api.request('GET', `/v2/${name}/tags/list${query}`, { scope: pull(name) }),
    [Symbol.asyncDispose]: () => agent.destroy(),
  }
  return api
}

/** The Location of an answer; throws when it has none. */
export function locationOf(answer: Pick<Answer, 'status' | 'headers'>): string {
  const location = answer.headers['location']
  if (location === undefined) throw new Error(`an answer with status ${answer.status} has no Location`)
  return location
}

/** Upload locations carry signed queries, so ours is appended to the text and nothing is encoded again. */
function withQuery(location: string, query: string): string {
  return `${location}${location.includes('?') ? '&' : '?'}${query}`
}

function headOf(response: Dispatcher.ResponseData): Pick<Answer, 'status' | 'headers'> {
  const headers = Object.entries(response.headers).map(([name, value]) => [
    name,
    [value ?? []].flat().join(', '),
  ])
  return { status: response.statusCode, headers: Object.fromEntries(headers) }
}

const pull = (name: string) => `repository:${name}:pull`
const push = (name: string) => `repository:${name}:pull,push`
const remove = (name: string) => `repository:${name}:delete`
