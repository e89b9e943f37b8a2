/**
 * The pooled connections to the primary and to where it sends us: TLS, egress proxies, deadlines, keep-alive. Keeps a
 * connection to the primary open, so that a tag check costs one round trip.
 */
import { readFileSync } from 'node:fs'
import { createSecureContext, getCACertificates, type SecureContext } from 'node:tls'
import { Agent, EnvHttpProxyAgent, Pool, type Dispatcher as UndiciDispatcher } from 'undici'
import type { Logger } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import { UpstreamError } from './errors.ts'
import { type ExchangeRequest, exchange } from './exchange.ts'
import { discard, refusal, wasClosedEarly } from './failure.ts'
import type { ForwardAnswer } from './upstream.ts'

export interface UpstreamTimeouts {
  /** Until a connection is open, TLS and proxy included; default 2000. */
  readonly connectMs: number
  /** Until the head of an answer to a read, and until the end of a body read whole; default 30 000. */
  readonly headMs: number
  /** Until the head of an answer to a write, from its last byte: a primary may take long to commit; default 900 000. */
  readonly writeMs: number
  /** Until the head of an answer to a tag check, from when it is written on an open connection; default 900. */
  readonly tagMs: number
  /** Without a byte of a body; default 60 000. */
  readonly bodyIdleMs: number
}

const DEFAULT_TIMEOUTS: UpstreamTimeouts = {
  connectMs: 2000,
  headMs: 30_000,
  writeMs: 900_000,
  tagMs: 900,
  bodyIdleMs: 60_000,
}

export interface DispatcherOptions {
  /** Of the primary, without a trailing slash. */
  readonly origin: string
  readonly timeouts?: Partial<UpstreamTimeouts> | undefined
  /** Paths of PEM files. The CAs are trusted besides the system's; the certificate is shown to the primary alone. */
  readonly tls?:
    | {
        readonly cafile?: string | undefined
        readonly certificatefile?: string | undefined
        readonly keyfile?: string | undefined
      }
    | undefined
  /** Values of `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`; each scheme has its own, as in Go and curl. */
  readonly proxy?:
    | {
        readonly https?: string | undefined
        readonly http?: string | undefined
        readonly no?: string | undefined
      }
    | undefined
}

/** What a request is for: the label of its metric, and what the breaker goes by. */
export type UpstreamOperation =
  | 'tag-check'
  | 'manifest'
  | 'confirm'
  | 'blob'
  | 'read'
  | 'write'
  | 'token'
  | 'ping'

export interface OutgoingRequest
  extends Omit<ExchangeRequest, 'connectMs' | 'bodyIdleMs' | 'onBytes' | 'body'> {
  readonly operation: UpstreamOperation
  readonly body?: ExchangeRequest['body']
  /** Sent again once when its connection was closed before an answer began; only for a GET or HEAD of our own. */
  readonly repeatable?: boolean | undefined
}

export interface Dispatcher {
  readonly origin: string
  readonly timeouts: UpstreamTimeouts
  /** Resolves at the head of the answer, whatever its status. Throws `UpstreamError`; the body errors with it. */
  send(request: OutgoingRequest): Promise<ForwardAnswer>
  /** `GET /v2/`; any answer below 500 will do. Throws `UpstreamError`. */
  ping(): Promise<void>
  /** Opens a connection and keeps one open from now on, with a ping every 20 s. */
  warm(): void
  /** Reads the TLS files again; requests under way end on the old ones. Throws, and changes nothing, if they are bad. */
  reload(): void
  /** Ends every connection at once. */
  close(): Promise<void>
}

/** Under NGINX's 65 s and a cloud balancer's 60 s, over the 20 s between two pings; undici's own default is 4 s. */
const KEEP_ALIVE_MS = 55_000
const PING_EVERY_MS = 20_000
const MAX_HEADER_BYTES = 32 * 1024

export interface DispatcherDeps {
  readonly metrics: Metrics
  readonly log: Logger
  /** Told the size of every piece of a body that arrives. */
  readonly onBytes?: ((bytes: number) => void) | undefined
}

/** Throws when a TLS file cannot be read or used. */
export function createDispatcher(deps: DispatcherDeps, options: DispatcherOptions): Dispatcher {
  const timeouts = { ...DEFAULT_TIMEOUTS, ...options.timeouts }
  const origin = new URL(options.origin).origin
  let agents = createAgents(options, timeouts.connectMs)
  let warming: NodeJS.Timeout | undefined

  const attempt = async (request: OutgoingRequest): Promise<ForwardAnswer> => {
    const count = (code: string) => deps.metrics.upstreamRequests.inc({ operation: request.operation, code })
    try {
      const answer = await exchange(agents.agentFor(new URL(request.url)), {
        ...request,
        connectMs: timeouts.connectMs,
        bodyIdleMs: timeouts.bodyIdleMs,
        onBytes(bytes) {
          deps.metrics.upstreamBytes.inc(bytes)
          deps.onBytes?.(bytes)
        },
      })
      count(String(answer.status))
      return answer
    } catch (error) {
      count(error instanceof UpstreamError && error.timedOut ? 'timeout' : 'error')
      throw error
    }
  }

  const send = async (request: OutgoingRequest): Promise<ForwardAnswer> => {
    try {
      return await attempt(request)
    } catch (error) {
      // A kept connection that the other end closed just now (RFC 9112, 9.3.1) says nothing about the primary.
      if (request.repeatable && wasClosedEarly(error)) return attempt(request)
      throw error
    }
  }

  const ping = async (): Promise<void> => {
    const answer = await send({
      operation: 'ping',
      method: 'GET',
      url: `${origin}/v2/`,
      headers: {},
      headMs: timeouts.tagMs,
      repeatable: true,
    })
    if (answer.status >= 500) throw await refusal(answer, { what: 'ping', deadlineMs: timeouts.tagMs })
    await discard(answer, timeouts.tagMs)
  }

  const keepWarm = (): void => {
    ping().catch((error: unknown) => deps.log.debug({ error }, 'no warm connection to the primary'))
  }

  return {
    origin,
    timeouts,
    send,
    ping,
    warm() {
      if (warming) return
      keepWarm()
      warming = setInterval(keepWarm, PING_EVERY_MS).unref()
    },
    reload() {
      const former = agents
      agents = createAgents(options, timeouts.connectMs)
      former.end('close').catch((error: unknown) => deps.log.warn({ error }, 'former connections'))
    },
    async close() {
      clearInterval(warming)
      await agents.end('destroy')
    },
  }
}

interface Agents {
  agentFor(url: URL): UndiciDispatcher
  end(how: 'close' | 'destroy'): Promise<void>
}

function createAgents(options: DispatcherOptions, connectMs: number): Agents {
  const { origin: primary } = new URL(options.origin)
  const { cafile, certificatefile, keyfile } = options.tls ?? {}
  const ca =
    cafile === undefined ? undefined : [...getCACertificates('default'), readFileSync(cafile, 'utf8')]
  const withoutCertificate = createSecureContext({ ca })
  const withCertificate = createSecureContext({
    ca,
    cert: certificatefile && readFileSync(certificatefile),
    key: keyfile && readFileSync(keyfile),
  })
  const agents = new Map<string, UndiciDispatcher>()
  return {
    agentFor(url) {
      const key = url.origin === primary ? 'primary' : url.protocol
      let agent = agents.get(key)
      if (!agent) {
        const proxy = url.protocol === 'https:' ? options.proxy?.https : options.proxy?.http
        const secureContext = key === 'primary' ? withCertificate : withoutCertificate
        agent = createAgent(
          { connectMs, secureContext, proxyContext: withoutCertificate },
          proxy,
          options.proxy?.no,
        )
        agents.set(key, agent)
      }
      return agent
    },
    async end(how) {
      await Promise.all([...agents.values()].map((agent) => agent[how]()))
    },
  }
}

function createAgent(
  tls: { connectMs: number; secureContext: SecureContext; proxyContext: SecureContext },
  proxy: string | undefined,
  noProxy: string | undefined,
): UndiciDispatcher {
  const connect = { timeout: tls.connectMs, secureContext: tls.secureContext }
  const pool = {
    // One request at a time on a connection: a tag check must never queue behind a blob.
    allowH2: false,
    pipelining: 1,
    maxHeaderSize: MAX_HEADER_BYTES,
    keepAliveTimeout: KEEP_ALIVE_MS,
  }
  // undici's wrapper for plain http through a proxy hands on none of the options, so the factory adds them.
  const factory = (origin: string | URL, given: object) => new Pool(origin, { ...given, ...pool })
  if (!proxy) return new Agent({ connect, factory })
  return new EnvHttpProxyAgent({
    connect,
    connectTimeout: tls.connectMs,
    requestTls: connect,
    proxyTls: { secureContext: tls.proxyContext },
    factory,
    // All three are given, so that undici never looks at the environment.
    httpProxy: proxy,
    httpsProxy: proxy,
    noProxy: noProxy ?? '',
  })
}
