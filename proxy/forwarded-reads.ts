/** A client's own read, sent to the primary as it stands and answered with what comes back. */
import type { ForwardAnswer, Upstream } from '../src/upstream/upstream.ts'
import type { Exchange } from './exchange.ts'
import { forwardedHeaders, passThrough } from './forwarding.ts'
import { judgeRead } from './judge-read.ts'
import type { Locations } from './locations.ts'
import { parseRoute } from './routes.ts'
import type { WriteSender } from './write-sender.ts'

export interface ForwardedReadDeps {
  readonly upstream: Pick<Upstream, 'origin' | 'forward'>
  readonly send: WriteSender
  readonly locations: Pick<Locations, 'link'>
}

export interface ForwardedReadOptions {
  /** `http.host`; the request's own Host when undefined. */
  readonly publicUrl: string | undefined
  /** No byte for this long ends the transfer. */
  readonly idleMs: number
  /** Longest wait for the whole of an error's body. */
  readonly errorBodyMs: number
}

/** `judged` (the default): what is no registry's word is an outage instead of an answer. */
export type ForwardRead = (exchange: Exchange, options?: { readonly judged: boolean }) => Promise<void>

export function createForwardedReads(
  deps: ForwardedReadDeps,
  { publicUrl, idleMs, errorBodyMs }: ForwardedReadOptions,
): ForwardRead {
  /** The answer to the same request as a GET, if it says that there is something. Throws as `judgeRead`. */
  async function settle(exchange: Exchange, url: string): Promise<ForwardAnswer> {
    const { credential, path, signal } = exchange
    const headers = forwardedHeaders(exchange, publicUrl)
    const ask = {
      method: 'GET',
      url,
      headers,
      operation: 'read',
      credential,
      scope: scopeOf(path),
      signal,
    } as const
    const answer = await deps.upstream.forward(ask)
    await judgeRead('GET', answer, errorBodyMs)
    return answer
  }

  return async function forwardRead(exchange, { judged } = { judged: true }) {
    const { request, path, query } = exchange
    // What the client holds is compared here, never there: by digest registries answer 304 for what does not exist.
    delete request.headers['if-none-match']
    const target = { url: deps.upstream.origin + path + (query && `?${query}`), foreign: false }
    let answer = await deps.send(exchange, { target, scope: scopeOf(path) })
    // For who could upload it is the answer as it is (law 4); elsewhere nothing is called absent without words (law 5).
    if (judged && isWordless(exchange, answer)) answer = await settle(exchange, target.url)
    else if (judged) await judgeRead(request.method, answer, errorBodyMs)
    await passThrough(exchange, answer, { idleMs, link: deps.locations.link })
  }
}

function isWordless({ request, access }: Exchange, { status }: ForwardAnswer): boolean {
  return request.method === 'HEAD' && status === 404 && !access.mayWrite
}

/** For the site's own credential, where the primary wants one of callers who have none. */
function scopeOf(path: string): string {
  const route = parseRoute(path)
  return 'name' in route ? `repository:${route.name}:pull` : 'registry:catalog:*'
}
