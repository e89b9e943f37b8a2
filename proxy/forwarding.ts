/**
 * What every request sent on to the primary carries, and how its answer reaches the client: heads at once, bodies with
 * back pressure, a body that breaks off never ended cleanly (law 6).
 */
import { once } from 'node:events'
import type { IncomingMessage } from 'node:http'
import type { Readable } from 'node:stream'
import { endToEndHeaders, type HeaderFields, headerValue } from '../src/oci/headers.ts'
import { UpstreamError } from '../src/upstream/errors.ts'
import type { ForwardAnswer } from '../src/upstream/upstream.ts'
import { type Exchange, writeHead } from './exchange.ts'

/**
 * Request headers that are this site's to say. `Forwarded` too: Distribution believes it before `X-Forwarded-Host`, so
 * a client could choose the host of its Locations with it.
 */
const SITE_HEADERS: ReadonlySet<string> = new Set([
  'authorization',
  'expect',
  'forwarded',
  'host',
  'x-real-ip',
  'x-request-id',
])

/** Answer headers that would speak for the wrong host (`Alt-Svc`) or that `writeHead` sets. */
const ANSWER_HEADERS_DROPPED: readonly string[] = ['alt-svc', 'geo-registry-source', 'x-request-id']

/** An early answer's connection stays open this long for a client that is still sending, so that it can read it. */
const LINGER_MS = 5000

/** The authority and scheme under which the client knows this site: `http.host`, else what it asked, over http. */
export function siteAddress(
  exchange: Exchange,
  publicUrl: string | undefined,
): { readonly scheme: string; readonly host: string | undefined } {
  const [, scheme, host] = /^(https?):\/\/([^/]+)/i.exec(publicUrl ?? '') ?? []
  return scheme ? { scheme, host } : { scheme: 'http', host: exchange.request.headers.host }
}

/**
 * End-to-end headers for the primary, where `Host` is the upstream's own: an NGINX with several server names would
 * choose another site's otherwise (facts/gitlab.md 8a).
 */
export function forwardedHeaders(
  exchange: Exchange,
  publicUrl: string | undefined,
): Record<string, string | string[]> {
  const { scheme, host } = siteAddress(exchange, publicUrl)
  return {
    ...plainHeaders(exchange),
    ...(host === undefined ? {} : { 'x-forwarded-host': host }),
    'x-forwarded-proto': scheme,
    'x-forwarded-for': exchange.forwardedFor,
    'x-request-id': exchange.requestId,
  }
}

/** What another origin may see of a request: nothing that names or vouches for the caller. */
export function foreignHeaders(exchange: Exchange): Record<string, string | string[]> {
  const { cookie, referer, origin, ...headers } = plainHeaders(exchange)
  return headers
}

function plainHeaders(exchange: Exchange): Record<string, string | string[]> {
  const headers = endToEndHeaders(exchange.request.headers)
  for (const name of Object.keys(headers)) {
    if (SITE_HEADERS.has(name) || name.startsWith('x-forwarded-')) delete headers[name]
  }
  return headers
}

export interface PassThroughOptions {
  /** No byte for this long ends the transfer. */
  readonly idleMs: number
  /** Rewrites `Location`; as it came by default. */
  readonly location?: ((value: string) => string) | undefined
  /** Rewrites `Link`; as it came by default. */
  readonly link?: ((value: string) => string) | undefined
}

/**
 * Streams an answer of the primary to the client. Rejects when the body broke off after the head had left (the client's
 * connection has been destroyed then, and there is nothing left to answer), and with what a rewriter threw, before
 * anything is written.
 */
export async function passThrough(
  exchange: Exchange,
  answer: ForwardAnswer,
  options: PassThroughOptions,
): Promise<void> {
  const { request, response } = exchange
  const headers = answerHeaders(answer, options)
  const bodiless = request.method === 'HEAD' || answer.status === 204 || answer.status === 304
  const early = !request.complete
  if (early) headers['connection'] = 'close'
  writeHead(exchange, answer.status, headers)
  if (bodiless) {
    // Nothing can come, and the connection is free for the next request once that is known.
    answer.body.on('error', () => undefined).resume()
    response.end()
    return
  }
  if (headers['content-length'] !== '0') response.flushHeaders()
  // With a length the client knows where the answer ends, and its connection can be kept open until it has stopped.
  const lingers = early && 'content-length' in headers
  response.setTimeout(options.idleMs, () => {
    answer.body.destroy(new UpstreamError('aborted', `no byte moved for ${options.idleMs} ms`))
    response.destroy()
  })
  try {
    await sendBody(exchange, answer.body)
  } catch (error) {
    response.destroy()
    throw error
  }
  if (lingers) await discardRest(request)
  response.end()
}

/** Not `pipeline`, which would put more listeners on the response than node thinks healthy. */
async function sendBody(exchange: Exchange, body: Readable): Promise<void> {
  const { response, signal } = exchange
  for await (const bytes of body as AsyncIterable<Buffer>) {
    exchange.writtenBytes += bytes.length
    if (!response.write(bytes)) await once(response, 'drain', { signal })
  }
}

function answerHeaders(
  answer: ForwardAnswer,
  options: PassThroughOptions,
): Record<string, string | string[]> {
  const headers = endToEndHeaders(answer.headers)
  for (const name of ANSWER_HEADERS_DROPPED) delete headers[name]
  const location = headerValue(headers, 'location')
  const links = headerValues(headers, 'link')
  try {
    if (location !== undefined && options.location) headers['location'] = options.location(location)
    if (links.length > 0) headers['link'] = links.map((value) => options.link?.(value) ?? value)
  } catch (error) {
    answer.body.destroy()
    throw error
  }
  return headers
}

/** Every value of a header that may be repeated. */
export function headerValues(headers: HeaderFields, name: string): string[] {
  return [headers[name] ?? []].flat()
}

/**
 * Reads on, for a while, what a client still sends after it has been answered.
 *
 * Closing a socket with unread bytes in it resets the connection, and over a lossy link the reset overtakes the answer.
 * https://www.rfc-editor.org/rfc/rfc9112#section-9.6
 */
export async function discardRest(request: IncomingMessage): Promise<void> {
  if (request.complete || request.destroyed) return
  request.unpipe()
  const { promise, resolve } = Promise.withResolvers<void>()
  const timer = setTimeout(resolve, LINGER_MS)
  timer.unref()
  request.once('end', resolve).once('close', resolve).resume()
  await promise
  clearTimeout(timer)
}
