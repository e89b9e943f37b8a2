/**
 * How a site asks a relay for its log: one request at a time on one connection that is kept open. Every question is an
 * address of its own, so that nothing between the two can answer it with what it remembers: an old page would make its
 * watermark look younger than it is.
 */
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import { getCACertificates } from 'node:tls'
import { promisify } from 'node:util'
import { gunzip } from 'node:zlib'
import type { LogGone, LogPage } from './relay/page.ts'
import { RelayAnswerError, readLogGone, readLogPage } from './relay-answer.ts'

/** Where a site stands in a log. */
export interface LogPosition {
  readonly log: string
  readonly number: number
}

export interface LogQuestion {
  /** Undefined: the site has read none, and only wants to know where the log ends. */
  readonly after: LogPosition | undefined
  /** Begin further back, with what was received within the last minute. */
  readonly settled: boolean
  /** The watermark it has: the relay answers as soon as there is a newer one. */
  readonly seen: { readonly epoch: string; readonly round: number } | undefined
  /** How long the relay may hold the question while there is nothing new. */
  readonly waitMs: number
}

export type RelayAnswer =
  | {
      readonly kind: 'page'
      readonly page: LogPage
      /** By `now`: before anything of the question was sent, and when all of the answer was here. */
      readonly sentAtMs: number
      readonly answeredAtMs: number
    }
  | { readonly kind: 'gone'; readonly gone: LogGone }

export interface RelayClient extends Disposable {
  readonly url: string
  /** Throws `RelayAwayError`, `RelayAnswerError` and the `signal`'s reason. */
  ask(question: LogQuestion, signal: AbortSignal): Promise<RelayAnswer>
  /** Reads the certificates again; the next question takes a new connection. Throws when they cannot be read. */
  renew(): void
}

export interface RelayClientOptions {
  /** The relay's origin, and whatever path a reverse proxy has put before it. */
  readonly url: string
  /** Asked for at each request, since its file may change. */
  readonly token: () => string
  /** PEM, trusted beside the system's certificates. */
  readonly caFile?: string | undefined
  /** How long beyond the wait the answer may take to begin; default 5000. */
  readonly headGraceMs?: number | undefined
  /** How long it may take to arrive once it has begun; default 30 000. */
  readonly bodyTimeoutMs?: number | undefined
  /** Unpacked; default 8 MiB. */
  readonly maxBytes?: number | undefined
  /** Milliseconds that only go forward; default `performance.now`. */
  readonly now?: (() => number) | undefined
}

/** The relay did not answer, or would not; the message says what to look at. */
export class RelayAwayError extends Error {
  override readonly name = 'RelayAwayError'
}

const unpack = promisify(gunzip)

/** Throws when `caFile` cannot be read. */
export function createRelayClient(options: RelayClientOptions): RelayClient {
  const { token, caFile, headGraceMs = 5_000, bodyTimeoutMs = 30_000 } = options
  const { maxBytes = 8 * 1024 * 1024, now = () => performance.now() } = options
  const base = new URL(options.url)
  const secure = base.protocol === 'https:'
  let agent = newAgent()

  function newAgent(): HttpAgent | HttpsAgent {
    const common = { keepAlive: true, maxSockets: 1 }
    if (!secure) return new HttpAgent(common)
    const ca = caFile && [...getCACertificates('default'), readFileSync(caFile, 'utf8')]
    return new HttpsAgent({ ...common, ...(ca && { ca }) })
  }

  function addressOf({ after, settled, seen, waitMs }: LogQuestion): URL {
    const url = new URL(`${base.pathname.replace(/\/$/, '')}/log`, base)
    const query = {
      ...(after && { after: String(after.number), log: after.log }),
      ...(seen && { epoch: seen.epoch, round: String(seen.round) }),
      wait: String(waitMs),
      ...(settled && { settled: '1' }),
      question: randomUUID(),
    }
    url.search = new URLSearchParams(query).toString()
    return url
  }

  /** Resolves with the head. `signal` ends the whole exchange, the body too. */
  function send(url: URL, signal: AbortSignal): Promise<IncomingMessage> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
    const headers = {
      authorization: `Bearer ${token()}`,
      accept: 'application/json',
      'accept-encoding': 'gzip',
      'cache-control': 'no-store',
    }
    const ask = secure ? httpsRequest : httpRequest
    ask(url, { agent, headers, signal }, resolve).on('error', reject).end()
    return promise
  }

  async function textOf(message: IncomingMessage): Promise<string> {
    const chunks: Buffer[] = []
    let size = 0
    for await (const chunk of message as AsyncIterable<Buffer>) {
      size += chunk.length
      if (size > maxBytes) throw tooLarge()
      chunks.push(chunk)
    }
    const bytes = Buffer.concat(chunks)
    const encoding = message.headers['content-encoding'] ?? 'identity'
    if (encoding === 'identity') return bytes.toString('utf8')
    if (encoding !== 'gzip') throw new RelayAnswerError(`the relay answered in ${encoding}: expected gzip`)
    try {
      return (await unpack(bytes, { maxOutputLength: maxBytes })).toString('utf8')
    } catch (cause) {
      const isLarge = cause instanceof Error && 'code' in cause && cause.code === 'ERR_BUFFER_TOO_LARGE'
      throw isLarge ? tooLarge() : new RelayAnswerError("the relay's gzip cannot be unpacked", { cause })
    }
  }

  function tooLarge(): RelayAnswerError {
    return new RelayAnswerError(
      `the relay's answer is larger than ${maxBytes} bytes: no relay sends such pages`,
    )
  }

  async function ask(question: LogQuestion, signal: AbortSignal): Promise<RelayAnswer> {
    const late = new AbortController()
    const within = (limitMs: number) =>
      setTimeout(() => late.abort(new RelayAwayError(`the relay gave no answer in time`)), limitMs)
    let timer = within(question.waitMs + headGraceMs)
    const sentAtMs = now()
    try {
      const message = await send(addressOf(question), AbortSignal.any([signal, late.signal]))
      clearTimeout(timer)
      timer = within(bodyTimeoutMs)
      const text = await textOf(message)
      const { statusCode = 0 } = message
      if (statusCode === 410 && question.after) return { kind: 'gone', gone: readLogGone(text) }
      if (statusCode !== 200) throw new RelayAwayError(refusal(statusCode))
      return { kind: 'page', page: readLogPage(text), sentAtMs, answeredAtMs: now() }
    } catch (error) {
      signal.throwIfAborted()
      if (late.signal.aborted) throw late.signal.reason
      if (error instanceof RelayAwayError || error instanceof RelayAnswerError) throw error
      throw new RelayAwayError(`the relay cannot be reached (${reasonOf(error)})${hintFor(error)}`, {
        cause: error,
      })
    } finally {
      clearTimeout(timer)
    }
  }

  return {
    url: options.url,
    ask,
    renew() {
      const before = agent
      agent = newAgent()
      before.destroy()
    },
    [Symbol.dispose]: () => agent.destroy(),
  }
}

function refusal(status: number): string {
  switch (status) {
    case 401:
    case 403:
      return `the relay does not know this site's token (${status}): relay.token here and relay.sites there must agree`
    case 404:
      return 'the relay has no log at this address (404): correct relay.url, which names its relay.addr'
    case 429:
      return 'the relay has too many questions of this site (429): let one replicator follow with one token'
    default:
      return `the relay answered ${status}: see its log`
  }
}

/** A refused connection to a name with several addresses has a code and no message. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error.message || ('code' in error ? String(error.code) : error.name)
}

function hintFor(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? String(error.code) : ''
  return /CERT|SELF_SIGNED|ALTNAME|ISSUER|LEAF_SIGNATURE/.test(code)
    ? ': look at relay.cafile and relay.url'
    : ''
}
