/**
 * The events listener: `POST /notifications` and nothing else. A registry sends its events one by one and repeats one
 * until it is answered 2xx, then gives up and loses it: what can be taken is answered 204 and what cannot be stored now
 * 503. It never reads the answer's body, so there is none, and the connection stays alive.
 */
import { createServer, type IncomingMessage } from 'node:http'
import { getRequestListener, type HttpBindings } from '@hono/node-server'
import { type Context, Hono, type MiddlewareHandler } from 'hono'
import { gatherBytes } from '../src/gathered-bytes.ts'
import { type HttpListener, listen, sameSecret } from '../src/http-listener.ts'
import type { Logger } from '../src/log.ts'
import type { Metrics } from '../src/metrics.ts'
import { NotificationError, type ReadNotification, readEnvelope } from './notification.ts'

export interface EventsListenerDeps {
  /** Resolves when the events are stored; rejects when they must come again. */
  readonly accept: (read: ReadNotification) => Promise<void>
  /** A request with the secret was not accepted: its sender may give up and lose what it tells of. */
  readonly onRefused?: ((result: Refusal) => void) | undefined
  readonly log: Logger
  readonly metrics: Metrics
}

export interface EventsListenerOptions {
  readonly host: string | undefined
  readonly port: number
  /**
   * The whole value of `Authorization`, as registries send what they are configured with. Asked for at each request,
   * since its file may change. Undefined: everybody who can connect may post.
   */
  readonly secret: () => string | undefined
  /** Requests with the secret taken per second in the long run, default 500; and at once, default 2000. */
  readonly requestsPerSecond?: number | undefined
  readonly burst?: number | undefined
  /** How long a request may take to arrive; default 30 000. */
  readonly requestTimeoutMs?: number | undefined
}

type Env = { Bindings: HttpBindings }

/** How requests that are not accepted are counted, and what they are answered. */
const REFUSALS = {
  path: 404,
  method: 405,
  unauthorized: 401,
  limited: 429,
  media_type: 415,
  too_large: 413,
  malformed: 400,
  aborted: 400,
  unavailable: 503,
  failed: 500,
} as const
export type Refusal = keyof typeof REFUSALS
/** Refused without a look at the secret, or for it: anybody can cause these. */
const BEFORE_THE_SECRET: ReadonlySet<Refusal> = new Set(['path', 'method', 'unauthorized'])

/**
 * More than any event: one that is refused holds up all behind it, with Distribution for ever, and clients make them long.
 * A User-Agent may have 1 MiB, of which Go's JSON makes up to six; references of a manifest of 4 MiB may be listed.
 */
const BODY_LIMIT_BYTES = 16 * 1024 * 1024
/** Distribution 3 says v2, GitLab's registry and Distribution 2 v1, hand-made senders neither. */
const MEDIA_TYPES = [
  'application/vnd.docker.distribution.events.v1+json',
  'application/vnd.docker.distribution.events.v2+json',
  'application/json',
]
/** Longer than Go's HTTP client keeps an idle connection (90 s): it must never send an event into one we just closed. */
const KEEP_ALIVE_MS = 120_000
const HEADERS_TIMEOUT_MS = 10_000

/** Resolves once it listens; rejects when it cannot (the address is taken, or is none of this machine). */
export async function startEventsListener(
  deps: EventsListenerDeps,
  options: EventsListenerOptions,
): Promise<HttpListener> {
  const { requestTimeoutMs = 30_000 } = options
  const server = createServer(
    {
      requestTimeout: requestTimeoutMs,
      headersTimeout: Math.min(HEADERS_TIMEOUT_MS, requestTimeoutMs),
      connectionsCheckingInterval: Math.min(5_000, requestTimeoutMs),
      keepAliveTimeout: KEEP_ALIVE_MS,
    },
    // The adaptor's faster Request and Response would replace those of the whole process.
    getRequestListener(createApp(deps, options).fetch, { overrideGlobalObjects: false }),
  )
  const onError = (error: Error) => deps.log.error({ error }, 'events listener failed')
  return await listen(server, { host: options.host, port: options.port, onError })
}

function createApp(
  { accept, log, metrics, onRefused }: EventsListenerDeps,
  options: EventsListenerOptions,
): Hono<Env> {
  const { secret, requestsPerSecond = 500, burst = 2000 } = options
  const mayTake = createAllowance(requestsPerSecond, burst)
  const app = new Hono<Env>()

  function refuse(context: Context<Env>, result: Refusal, reason: string, error?: unknown): Response {
    const status = REFUSALS[result]
    metrics.notifications.inc({ result })
    if (!BEFORE_THE_SECRET.has(result)) onRefused?.(result)
    const client = context.env.incoming.socket.remoteAddress
    log.warn({ status, result, client, error }, `notification refused: ${reason}`)
    return context.json({ error: reason }, status, {
      ...(status === 405 && { allow: 'POST' }),
      ...((status === 429 || status === 503) && { 'retry-after': '1' }),
      // What is left of the body is not read: nothing can follow it on this connection.
      ...(status === 413 && { connection: 'close' }),
    })
  }

  const authorize: MiddlewareHandler<Env> = async function authorize(context, next) {
    const expected = secret()
    if (expected !== undefined && !sameSecret(context.req.header('authorization') ?? '', expected)) {
      return refuse(context, 'unauthorized', 'expected the secret as the value of Authorization')
    }
    return await next()
  }
  const limitRate: MiddlewareHandler<Env> = async function limitRate(context, next) {
    if (!mayTake()) return refuse(context, 'limited', 'too many notifications a second')
    return await next()
  }
  const requireMediaType: MiddlewareHandler<Env> = async function requireMediaType(context, next) {
    const mediaType = (context.req.header('content-type') ?? '').split(';', 1)[0]?.trim().toLowerCase() ?? ''
    if (MEDIA_TYPES.includes(mediaType)) return await next()
    return refuse(context, 'media_type', `expected a Content-Type among ${MEDIA_TYPES.join(', ')}`)
  }
  app.post('/notifications', authorize, limitRate, requireMediaType, async (context) => {
    const bytes = await wholeBody(context.env.incoming)
    if (!bytes) return refuse(context, 'too_large', `expected at most ${BODY_LIMIT_BYTES} bytes of events`)
    const read = readEnvelope(bytes)
    try {
      await accept(read)
    } catch (error) {
      return refuse(context, 'unavailable', 'events could not be stored: send them again', error)
    }
    for (const reason of read.ignored) metrics.eventsIgnored.inc({ reason })
    metrics.notifications.inc({ result: 'accepted' })
    return context.body(null, 204)
  })
  app.all('/notifications', (context) => refuse(context, 'method', 'expected POST'))
  app.notFound((context) => refuse(context, 'path', 'no such path'))
  app.onError((error, context) => {
    if (error instanceof NotificationError) return refuse(context, 'malformed', error.message)
    const { destroyed, complete } = context.env.incoming
    if (destroyed && !complete) return refuse(context, 'aborted', 'the body ended early')
    return refuse(context, 'failed', 'internal error: see the log', error)
  })
  return app
}

/**
 * Undefined where it is longer than the limit; what is left of it has not been read then. Hono's own limit makes a new
 * Request of a body in chunks, which the adaptor's Request does not let it.
 */
async function wholeBody(incoming: IncomingMessage): Promise<Buffer | undefined> {
  if (Number(incoming.headers['content-length'] ?? 0) > BODY_LIMIT_BYTES) return undefined
  const gathered = gatherBytes(BODY_LIMIT_BYTES)
  // Left early, it would end the connection before the answer.
  const pieces: AsyncIterable<Buffer> = incoming.iterator({ destroyOnReturn: false })
  for await (const piece of pieces) {
    if (!gathered.add(piece)) return undefined
  }
  return gathered.whole()
}

/** Whether one more may be taken now: `burst` at once, and so many a second in the long run. */
function createAllowance(perSecond: number, burst: number): () => boolean {
  let left = burst
  let countedAtMs = performance.now()
  return () => {
    const atMs = performance.now()
    left = Math.min(burst, left + ((atMs - countedAtMs) / 1000) * perSecond)
    countedAtMs = atMs
    if (left < 1) return false
    left -= 1
    return true
  }
}
