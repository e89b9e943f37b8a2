/**
 * The public listener: one node HTTP server, whose limits are a registry's rather than node's, and around each request
 * the exchange, the access log, the metrics and the error answer.
 */
import { randomUUID } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createTlsServer, Server as TlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { Logger } from '../src/log.ts'
import type { Metrics, Source } from '../src/metrics.ts'
import { OciError } from '../src/oci/errors.ts'
import { headerValue } from '../src/oci/headers.ts'
import { UpstreamError } from '../src/upstream/errors.ts'
import type { Credential } from '../src/upstream/upstream.ts'
import { logAccess } from './access-log.ts'
import type { App } from './app.ts'
import { createClientAddress } from './client-address.ts'
import type { ClientQuota } from './client-quota.ts'
import { watchConnections } from './connections.ts'
import type { Access, Exchange } from './exchange.ts'
import { answerError, isUncoordinated } from './on-error.ts'
import { parseRoute, type Route } from './routes.ts'

export interface ListenerDeps {
  readonly app: App
  readonly log: Logger
  readonly metrics: Metrics
  /** Requests of one client at once (`http.limits.connections`). */
  readonly quota: ClientQuota
  /** The 401 for a token that verified here and that the primary did not take. */
  readonly challenge: (exchange: Exchange, route: Route | undefined) => OciError
}

export interface ListenerOptions {
  /** Undefined: every address of the machine. */
  readonly host: string | undefined
  readonly port: number
  /** Addresses or CIDR ranges whose `X-Forwarded-For` is believed. */
  readonly trustedProxies: readonly string[]
  /** How long a client may leave the rest of an answer untaken; default 5 minutes (`http.idletimeout`). */
  readonly idleTimeoutMs?: number
  /** Connections at once; default as many as leave room for files. */
  readonly maxConnections?: number
  /** PEM; the public listener speaks TLS when set. */
  readonly tls?: { readonly cert: Buffer; readonly key: Buffer } | undefined
}

export interface Listener {
  readonly address: AddressInfo
  /** Certificates were renewed: new connections get them. */
  renewTls(tls: { readonly cert: Buffer; readonly key: Buffer }): void
  /** Stops accepting and lets what is in flight end; what has not by `deadline` is cut. */
  close(deadline: AbortSignal): Promise<void>
}

const SERVER_OPTIONS = {
  /** Node's default of 5 minutes would cut a long upload; bodies have idle limits of their own. */
  requestTimeout: 0,
  /** Node's default of 30 s would let a client take twice as long. */
  connectionsCheckingInterval: 1_000,
  /** Longer than any balancer's (Google's keeps idle connections 600 s), so that the balancer closes first. */
  keepAliveTimeout: 620_000,
  /** A GitLab token with many scopes passes node's 16 KiB. */
  maxHeaderSize: 64 * 1024,
  noDelay: true,
}

/** How long the head of a request may take to arrive, a TLS handshake before it too; less with a shorter idle timeout. */
const HEAD_MS = 30_000

/** How soon a connection that becomes idle while the site drains is closed. */
const IDLE_LOOK_MS = 50

/** Before access has been decided nothing is sent on anybody's behalf. */
const NO_ACCESS: Access = {
  credential: { kind: 'caller', authorization: undefined },
  mayWrite: false,
  onlyPrimary: false,
}

export async function startListener(deps: ListenerDeps, options: ListenerOptions): Promise<Listener> {
  const { idleTimeoutMs = 300_000 } = options
  const clientAddress = createClientAddress(options.trustedProxies)
  const shutdown = new AbortController()
  let draining = false

  const begin = (request: IncomingMessage, response: ServerResponse) => {
    const exchange = new HttpExchange(request, response, deps.log, clientAddress, shutdown.signal)
    if (draining) response.setHeader('connection', 'close')
    // A handler that has said all has nobody left to watch over what the client has yet to take.
    response.once('prefinish', () => {
      if (response.writableLength > 0) response.setTimeout(idleTimeoutMs, () => request.socket.destroy())
    })
    void answerRequest(deps, exchange)
  }
  const onRequest = (request: IncomingMessage, response: ServerResponse) => {
    connections.inTurn(request, response, () => begin(request, response))
  }
  const headersTimeout = Math.min(HEAD_MS, idleTimeoutMs)
  const limits = { ...SERVER_OPTIONS, headersTimeout }
  const server: Server | TlsServer = options.tls
    ? createTlsServer({ ...limits, handshakeTimeout: headersTimeout, ...options.tls }, onRequest)
    : createServer(limits, onRequest)
  const connections = watchConnections(server, { log: deps.log, maxConnections: options.maxConnections })

  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen({ port: options.port, ...(options.host !== undefined && { host: options.host }) }, () => {
      server.off('error', reject)
      resolve()
    })
  })
  const address = server.address()
  if (address === null || typeof address === 'string')
    throw new Error('the public listener has no TCP address')

  return {
    address,
    renewTls(tls) {
      if (server instanceof TlsServer) server.setSecureContext(tls)
    },
    async close(deadline) {
      draining = true
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      // Node closes the connections that are idle when closing begins; one that becomes so later would be kept.
      const idling = setInterval(() => server.closeIdleConnections(), IDLE_LOOK_MS)
      const cut = () => {
        shutdown.abort(new Error('the site is shutting down'))
        server.closeAllConnections()
      }
      if (deadline.aborted) cut()
      deadline.addEventListener('abort', cut, { once: true })
      await closed
      clearInterval(idling)
    },
  }
}

async function answerRequest(deps: ListenerDeps, exchange: HttpExchange): Promise<void> {
  const { request, response } = exchange
  let route: Route | undefined
  let leave: (() => void) | undefined
  response.once('close', () => {
    leave?.()
    if (route) deps.metrics.httpInFlight.dec({ route: route.kind, method: request.method ?? '' })
    logAccess(deps, exchange, route)
  })
  try {
    leave = deps.quota.enter(exchange.clientAddress)
    route = parseRoute(exchange.path, request.method)
    deps.metrics.httpInFlight.inc({ route: route.kind, method: request.method ?? '' })
    await deps.app(exchange, route)
  } catch (error) {
    logFailure(exchange, error)
    try {
      answerError(exchange, error, route, () => deps.challenge(exchange, route))
    } catch (unanswerable) {
      exchange.log.error({ error: unanswerable }, 'an error could not be answered')
      response.destroy()
    }
  }
}

/** Logged once, here at the boundary; what the client caused is its own business and only shows in the access log. */
function logFailure(exchange: HttpExchange, error: unknown): void {
  if (error instanceof OciError && error.status < 500) return
  const isAborted = error instanceof UpstreamError && error.kind === 'aborted'
  if (isAborted || exchange.signal.aborted) {
    exchange.log.debug({ error }, 'the client left before its answer was complete')
  } else if (error instanceof UpstreamError) {
    if (error.kind === 'unavailable' || error.kind === 'faulty') {
      exchange.log.warn({ error, status: error.status }, 'the primary did not answer as it should')
    }
  } else if (isUncoordinated(error)) {
    exchange.log.warn(
      { error },
      'refused: what the processes of this site share (redis.url) cannot be reached',
    )
  } else exchange.log.error({ error }, 'a request failed')
}

const REQUEST_ID = /^[\w.:-]{1,128}$/

/** Made for every request, so what is rarely needed is made when it is. */
class HttpExchange implements Exchange {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly requestId: string
  readonly path: string
  readonly query: string
  readonly clientAddress: string
  readonly forwardedFor: string
  readonly startedAtMs: number = performance.now()
  access: Access = NO_ACCESS
  source: Source = 'local'
  writtenBytes = 0
  readonly #rootLog: Logger
  readonly #shutdown: AbortSignal
  #log: Logger | undefined
  #signal: AbortSignal | undefined

  constructor(
    request: IncomingMessage,
    response: ServerResponse,
    log: Logger,
    clientAddress: ReturnType<typeof createClientAddress>,
    shutdown: AbortSignal,
  ) {
    this.request = request
    this.response = response
    this.#rootLog = log
    this.#shutdown = shutdown
    const url = request.url ?? '/'
    const mark = url.indexOf('?')
    this.path = mark === -1 ? url : url.slice(0, mark)
    this.query = mark === -1 ? '' : url.slice(mark + 1)
    const given = headerValue(request.headers, 'x-request-id')
    this.requestId = given !== undefined && REQUEST_ID.test(given) ? given : randomUUID()
    const client = clientAddress(
      request.socket.remoteAddress,
      headerValue(request.headers, 'x-forwarded-for'),
    )
    this.clientAddress = client.address
    this.forwardedFor = client.forwardedFor
  }

  get credential(): Credential {
    return this.access.credential
  }

  get log(): Logger {
    this.#log ??= this.#rootLog.child({ correlation_id: this.requestId })
    return this.#log
  }

  get signal(): AbortSignal {
    if (!this.#signal) {
      const gone = new AbortController()
      const { response } = this
      const abort = () => gone.abort(new UpstreamError('aborted', 'the client left'))
      if (response.destroyed) abort()
      else response.once('close', () => response.writableFinished || abort())
      if (this.#shutdown.aborted) abort()
      // Listened to by one controller per request, and let go with it: AbortSignal.any would leave one per request.
      this.#shutdown.addEventListener('abort', abort, { once: true })
      response.once('close', () => this.#shutdown.removeEventListener('abort', abort))
      this.#signal = gone.signal
    }
    return this.#signal
  }
}
