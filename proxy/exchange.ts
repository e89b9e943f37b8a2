/** One request being answered, as every handler sees it. The listener makes it; handlers only write the response. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Logger } from '../src/log.ts'
import type { Source } from '../src/metrics.ts'
import { API_VERSION, HEADERS, type HeaderFields } from '../src/oci/headers.ts'
import { EXPIRED_AT_MS } from '../src/store/expiries.ts'
import type { Credential } from '../src/upstream/upstream.ts'

/** What was found out about the caller before any handler ran (access.ts). */
export interface Access {
  /** Carried by every request to the primary on this caller's behalf. */
  readonly credential: Credential
  /** The caller could upload to this repository: a HEAD of it decides that, so the primary answers it (law 4). */
  readonly mayWrite: boolean
  /** Wall-clock time from which the caller's token is no longer taken; undefined when there is none. */
  readonly expiresAtMs?: number
  /** The token names an older project under this path: only the primary can answer it. */
  readonly onlyPrimary: boolean
}

export interface Exchange {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  /** Of the request; `X-Request-Id` of the answer and of what is sent to the primary. */
  readonly requestId: string
  /** Raw path without the query, and the raw query without its question mark (empty when there is none). */
  readonly path: string
  readonly query: string
  /** The client's true address: `X-Forwarded-For` is believed from `http.trustedproxies` only. */
  readonly clientAddress: string
  /** `X-Forwarded-For` for the primary: the believed chain and the client's own address. */
  readonly forwardedFor: string
  /** Aborted when the client has gone or the drain time is over. */
  readonly signal: AbortSignal
  readonly log: Logger
  /** Shorthand for `access.credential`. */
  readonly credential: Credential
  access: Access
  /** Where the answer came from; handlers set it before they write the head. */
  source: Source
  /** Body bytes written, for the access log. */
  writtenBytes: number
}

/**
 * Sets the head of an answer: common headers (`X-Request-Id`, `Geo-Registry-Source`, API version) are added here, so
 * no handler can forget one. It leaves with the first body byte, or by `flushHeaders`.
 */
export function writeHead(exchange: Exchange, status: number, headers: HeaderFields): void {
  const { response } = exchange
  response.statusCode = status
  response.setHeader(HEADERS.apiVersion, API_VERSION)
  response.setHeader('x-content-type-options', 'nosniff')
  response.setHeader(HEADERS.requestId, exchange.requestId)
  response.setHeader(HEADERS.source, exchange.source)
  for (const name in headers) {
    const value = headers[name]
    if (value !== undefined) response.setHeader(name, value)
  }
}

/** A whole answer with a small body, or none for HEAD. A text is written in `encoding`, default UTF-8. */
export function answer(
  exchange: Exchange,
  status: number,
  headers: HeaderFields,
  body?: string | Buffer,
  encoding: 'utf8' | 'latin1' = 'utf8',
): void {
  writeHead(exchange, status, headers)
  const { request, response } = exchange
  if (body === undefined || request.method === 'HEAD') {
    response.end()
    return
  }
  exchange.writtenBytes += Buffer.byteLength(body, encoding)
  response.end(body, encoding)
}

/** The one warn-code OCI allows; shown when held content stands in for the primary's answer (law 5). */
export function staleWarning(confirmedAtMs: number): string {
  const since =
    confirmedAtMs === EXPIRED_AT_MS
      ? 'not confirmed since it was said to be deleted there'
      : `last confirmed ${new Date(confirmedAtMs).toISOString()}`
  return `299 - "the primary registry cannot be reached; ${since}"`
}
