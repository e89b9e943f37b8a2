/** Sends a client's write to the primary as it stands, once (DESIGN "Writing"): no buffering, no retry. */
import { Readable } from 'node:stream'
import type { Freshness, Observation } from '../src/freshness/freshness.ts'
import type { RepositoryName, Tag } from '../src/oci/reference.ts'
import type { Credential, ForwardAnswer, Upstream } from '../src/upstream/upstream.ts'
import type { Exchange } from './exchange.ts'
import { foreignHeaders, forwardedHeaders } from './forwarding.ts'
import type { UploadTarget } from './locations.ts'

export interface WriteAsk {
  readonly target: UploadTarget
  /** For a site whose own credential writes (`auth.none` with `upstream.auth`). */
  readonly scope: string
  /** A stream has the length the request declares; bytes were read whole. */
  readonly body?: Readable | Buffer | undefined
}

/** Resolves at the head of the answer, whatever its status. Throws `UpstreamError`, or what the body failed with. */
export type WriteSender = (exchange: Exchange, ask: WriteAsk) => Promise<ForwardAnswer>

const NO_CREDENTIAL: Credential = { kind: 'caller', authorization: undefined }

export function createWriteSender(
  upstream: Upstream,
  options: { readonly publicUrl: string | undefined },
): WriteSender {
  return async function send(exchange, { target, scope, body }) {
    const { request, response } = exchange
    const method = request.method ?? 'GET'
    const headers = target.foreign ? foreignHeaders(exchange) : forwardedHeaders(exchange, options.publicUrl)
    if (body === undefined) delete headers['content-length']
    else if (Buffer.isBuffer(body)) headers['content-length'] = String(body.length)
    const stream = Buffer.isBuffer(body) ? Readable.from(body, { objectMode: false }) : body
    // A body that fails while the primary takes nothing of it would be noticed only when it is read again.
    const broken = new AbortController()
    stream?.once('error', (error) => broken.abort(error))
    try {
      const answer = await upstream.forward({
        method,
        url: target.url,
        headers,
        body: stream,
        operation: method === 'GET' || method === 'HEAD' ? 'read' : 'write',
        credential: target.foreign ? NO_CREDENTIAL : exchange.credential,
        scope,
        signal: AbortSignal.any([exchange.signal, broken.signal]),
      })
      exchange.source = 'primary'
      return answer
    } catch (error) {
      // What is left of the client's body is never read, so its connection cannot be used again.
      if (!request.complete) response.shouldKeepAlive = false
      throw stream?.errored ?? error
    }
  }
}

/**
 * Runs a write of `tags` (none: the whole repository's) between two renewals of what makes them confirmed. The
 * observations are those under which the write's own outcome may be recorded.
 */
export async function duringWrite(
  freshness: Freshness,
  name: RepositoryName,
  tags: readonly Tag[],
  send: () => Promise<ForwardAnswer>,
): Promise<{ readonly answer: ForwardAnswer; readonly observations: ReadonlyMap<Tag, Observation> }> {
  const write = await freshness.beginWrite(name, tags)
  try {
    const answer = await send()
    return { answer, observations: await freshness.endWrite(write) }
  } catch (error) {
    await freshness.endWrite(write)
    throw error
  }
}
