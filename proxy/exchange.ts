/** One request being answered, as every handler sees it. The listener makes it; handlers only write the response. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Logger } from '../src/log.ts'
import type { Source } from '../src/metrics.ts'
import type { HeaderFields } from '../src/oci/headers.ts'
import type { Credential } from '../src/upstream/upstream.ts'

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
  /** Aborted when the client has gone or the drain time is over. */
  readonly signal: AbortSignal
  readonly log: Logger
  /** What a request to the primary on this caller's behalf carries. */
  readonly credential: Credential
  /** Where the answer came from; handlers set it before they write the head. */
  source: Source
  /** Body bytes written, for the access log. */
  writtenBytes: number
}

/**
 * Writes the head of an answer: common headers (`X-Request-Id`, `Geo-Registry-Source`, API version) are added here, so
 * no handler can forget one.
 */
export function writeHead(exchange: Exchange, status: number, headers: HeaderFields): void {
  const { response } = exchange
  response.statusCode = status
  response.setHeader('docker-distribution-api-version', 'registry/2.0')
  response.setHeader('x-content-type-options', 'nosniff')
  response.setHeader('x-request-id', exchange.requestId)
  response.setHeader('geo-registry-source', exchange.source)
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined) response.setHeader(name, value as string | string[])
  }
}

/** A whole answer with a small body, or none for HEAD. */
export function answer(
  exchange: Exchange,
  status: number,
  headers: HeaderFields,
  body?: string | Buffer,
): void {
  writeHead(exchange, status, headers)
  const { request, response } = exchange
  if (body === undefined || request.method === 'HEAD') {
    response.end()
    return
  }
  exchange.writtenBytes += Buffer.byteLength(body)
  response.end(body)
}
