/**
 * The listener that sites read the relay's log from: `GET /log` and nothing else, by a token for each site. A question is
 * answered when there is something to say, so that one round trip tells a site how old its watermark is.
 */
import {
  createServer,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  type Server,
  type ServerResponse,
} from 'node:http'
import { createServer as createTlsServer, Server as TlsServer } from 'node:https'
import type { Socket } from 'node:net'
import { promisify } from 'node:util'
import { gzip } from 'node:zlib'
import { type HttpListener, listen } from '../../src/http-listener.ts'
import type { Logger } from '../../src/log.ts'
import type { RelayLog } from './log.ts'
import { composePage, type PageSources, type RelayWatermark } from './page-answer.ts'
import { type PageRequest, readPageRequest } from './page-request.ts'
import { createSites, type KnownSite, type SiteAccess, type SiteStatus } from './sites.ts'

export interface SitesListenerDeps {
  readonly relayLog: RelayLog
  readonly watermark: () => RelayWatermark | undefined
  /** Why there is no watermark, or why the last epoch ended. */
  readonly note: () => string | undefined
  /** Told when `watermark` or `note` may say something else. */
  readonly onChange: (listener: () => void) => unknown
  readonly log: Logger
}

export interface Certificate {
  /** PEM. */
  readonly cert: Buffer
  readonly key: Buffer
}

export interface SitesListenerOptions {
  /** Undefined: every address. */
  readonly host: string | undefined
  readonly port: number
  readonly sites: readonly SiteAccess[]
  /** The listener speaks TLS when set. */
  readonly tls?: Certificate | undefined
  /** The longest a question is held, whatever is asked for; default 25 000. */
  readonly maxWaitMs?: number | undefined
  /** How long others are waited for after a record ended a wait; default 20. */
  readonly gatherMs?: number | undefined
  /** Questions of one site at once; default 4. */
  readonly maxRequestsPerSite?: number | undefined
  /** Default 1000. */
  readonly maxConnections?: number | undefined
  /** Of one page; default 1000. */
  readonly limitRecords?: number | undefined
  /** Of the records of one page before they are compressed; default 512 KiB. */
  readonly limitBytes?: number | undefined
  /** How long a site may leave an answer, or the line, without moving; default 60 000. */
  readonly idleTimeoutMs?: number | undefined
  /** Monotonic milliseconds, the clock of the watermark's `sentAtMs`; default `performance.now`. */
  readonly now?: (() => number) | undefined
}

export interface SitesListener extends HttpListener {
  /** How far each site is, in the order they were given. */
  sites(): SiteStatus[]
  /** Certificates were renewed: new connections get them. */
  renewTls(tls: Certificate): void
}

const SERVER_OPTIONS = {
  requestTimeout: 30_000,
  headersTimeout: 10_000,
  connectionsCheckingInterval: 5_000,
  /** Longer than balancers keep an idle connection; a site asks again at once anyway. */
  keepAliveTimeout: 120_000,
  maxHeaderSize: 16 * 1024,
  noDelay: true,
}
const GZIP_FROM_BYTES = 1024
/** Requests that a connection may send, in all its life, before the one before is answered: Node keeps them in memory. */
const MAX_SENT_AHEAD = 128
const compress = promisify(gzip)

/** Resolves once it listens; rejects when it cannot (the address is taken, or is none of this machine). */
export async function startSitesListener(
  { relayLog, watermark, note, onChange, log }: SitesListenerDeps,
  options: SitesListenerOptions,
): Promise<SitesListener> {
  const { maxWaitMs = 25_000, gatherMs = 20, maxRequestsPerSite = 4, maxConnections = 1000 } = options
  const { limitRecords = 1000, limitBytes = 512 * 1024, idleTimeoutMs = 60_000 } = options
  const now = options.now ?? (() => performance.now())
  const sites = createSites(options.sites, relayLog, now)
  const sources: PageSources = { relayLog, watermark, note, limits: { limitRecords, limitBytes }, now }
  const waiting = new Set<() => void>()
  let isClosing = false
  const wake = () => {
    for (const look of [...waiting]) look()
  }
  const stopListening = relayLog.onAppended(wake)
  onChange(wake)

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const arrivedAtMs = now()
    const url = URL.parse(request.url ?? '/', 'http://relay')
    if (request.method !== 'GET' || url?.pathname !== '/log') return refuse(response, 404, 'no such path')
    const site = sites.admit(request.headers.authorization)
    if (site === undefined) {
      log.warn({ client: request.socket.remoteAddress }, 'a question for the log was refused: no known token')
      const reason = 'expected "Authorization: Bearer" with the token that the relay knows this site by'
      return refuse(response, 401, reason, { 'www-authenticate': 'Bearer' })
    }
    const asked = readPageRequest(url.searchParams)
    if (typeof asked === 'string') return refuse(response, 400, asked)
    if (bringsBody(request)) return refuse(response, 413, 'expected no body', { connection: 'close' })
    if (site.asking >= maxRequestsPerSite) {
      const reason = `expected at most ${maxRequestsPerSite} questions of ${site.name} at once`
      return refuse(response, 429, reason, { 'retry-after': '1' })
    }
    site.asking += 1
    response.once('close', () => {
      site.asking -= 1
    })
    site.seenAtMs = arrivedAtMs
    site.through = isHere(asked) ? asked.after : undefined
    if (isHere(asked)) await waitForNews(asked, site, response)
    if (response.destroyed) return
    if (isClosing) response.setHeader('connection', 'close')
    const page = await composePage(sources, asked, arrivedAtMs)
    site.seenAtMs = now()
    if ('gone' in page) return await sendJson(request, response, 410, page.gone)
    site.note = page.note
    await sendJson(request, response, 200, page.text)
  }

  /** What is asked after is a place in this log, so that it may be waited there. */
  function isHere({ after, log: id }: PageRequest): boolean {
    return after !== undefined && id === relayLog.id && after >= relayLog.first - 1 && after <= relayLog.last
  }

  function hasRecords({ after = 0, settled }: PageRequest): boolean {
    return relayLog.last > (settled ? Math.min(after, relayLog.settledThrough) : after)
  }

  function hasWord({ epoch, round }: PageRequest, site: KnownSite): boolean {
    const mark = watermark()
    return (mark && (mark.epoch !== epoch || mark.round > round)) || note() !== site.note
  }

  async function waitForNews(asked: PageRequest, site: KnownSite, response: ServerResponse): Promise<void> {
    const isDue = () => isClosing || response.destroyed || hasRecords(asked) || hasWord(asked, site)
    if (isDue()) return
    await until(isDue, Math.min(asked.waitMs, maxWaitMs), response)
    const isAlone = hasRecords(asked) && gatherMs > 0
    if (isAlone) await until(() => isClosing || response.destroyed, gatherMs, response)
  }

  /** Ends when the condition holds, when the time is over, and when the site hangs up. */
  async function until(condition: () => boolean, waitMs: number, response: ServerResponse): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    const look = () => condition() && resolve()
    const timer = setTimeout(resolve, waitMs)
    waiting.add(look)
    response.once('close', resolve)
    look()
    try {
      await promise
    } finally {
      clearTimeout(timer)
      waiting.delete(look)
      response.off('close', resolve)
    }
  }

  const begin = (request: IncomingMessage, response: ServerResponse) => {
    answer(request, response).catch((error: unknown) => {
      log.error({ error }, "a question for the relay's log could not be answered")
      if (response.headersSent) response.destroy()
      else refuse(response, 500, "internal error: see the relay's log")
    })
  }
  const sentAhead = new WeakMap<Socket, number>()
  const mayWait = (socket: Socket): boolean => {
    const count = (sentAhead.get(socket) ?? 0) + 1
    sentAhead.set(socket, count)
    return count <= MAX_SENT_AHEAD
  }
  const onRequest = (request: IncomingMessage, response: ServerResponse) => {
    // One that was sent ahead waits for its turn, until the one before it is counted no more.
    if (response.socket) begin(request, response)
    else if (mayWait(request.socket)) response.once('socket', () => setImmediate(begin, request, response))
    else request.socket.destroy()
  }
  const server: Server | TlsServer = options.tls
    ? createTlsServer({ ...SERVER_OPTIONS, ...options.tls }, onRequest)
    : createServer(SERVER_OPTIONS, onRequest)
  server.setTimeout(Math.max(idleTimeoutMs, 2 * maxWaitMs))
  server.maxConnections = maxConnections
  const listener = await listen(server, {
    host: options.host,
    port: options.port,
    onError: (error) => log.error({ error }, 'sites listener failed'),
  })
  return {
    address: listener.address,
    sites: sites.status,
    renewTls(tls) {
      if (server instanceof TlsServer) server.setSecureContext(tls)
    },
    async [Symbol.asyncDispose]() {
      isClosing = true
      wake()
      stopListening()
      await listener[Symbol.asyncDispose]()
    },
  }
}

function bringsBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || (headers['content-length'] ?? '0') !== '0'
}

function refuse(
  response: ServerResponse,
  status: number,
  reason: string,
  headers: OutgoingHttpHeaders = {},
): void {
  response
    .writeHead(status, { 'content-type': 'application/json', ...headers })
    .end(JSON.stringify({ error: reason }))
}

async function sendJson(
  request: IncomingMessage,
  response: ServerResponse,
  status: number,
  text: string,
): Promise<void> {
  const plain = Buffer.from(text)
  const isGzip = plain.length > GZIP_FROM_BYTES && takesGzip(request.headers['accept-encoding'])
  const body = isGzip ? await compress(plain) : plain
  response
    .writeHead(status, {
      'content-type': 'application/json',
      'content-length': body.length,
      vary: 'accept-encoding',
      ...(isGzip && { 'content-encoding': 'gzip' }),
    })
    .end(body)
}

function takesGzip(accepted: string | string[] | undefined): boolean {
  return String(accepted ?? '')
    .split(',')
    .some((each) => /^\s*(?:gzip|\*)\s*(?:$|;\s*q=(?!0(?:\.0*)?\s*$))/i.test(each))
}
