/** A client's own read, sent to the primary as it stands and answered with what comes back. */
import type { Upstream } from '../src/upstream/upstream.ts'
import type { Exchange } from './exchange.ts'
import { passThrough } from './forwarding.ts'
import { judgeRead } from './judge-read.ts'
import type { Locations } from './locations.ts'
import { parseRoute } from './routes.ts'
import type { WriteSender } from './write-sender.ts'

export interface ForwardedReadDeps {
  readonly upstream: Pick<Upstream, 'origin'>
  readonly send: WriteSender
  readonly locations: Pick<Locations, 'link'>
}

export interface ForwardedReadOptions {
  /** No byte for this long ends the transfer. */
  readonly idleMs: number
  /** Longest wait for the whole of an error's body. */
  readonly errorBodyMs: number
}

/** `judged` (the default): what is no registry's word is an outage instead of an answer. */
export type ForwardRead = (exchange: Exchange, options?: { readonly judged: boolean }) => Promise<void>

export function createForwardedReads(
  deps: ForwardedReadDeps,
  { idleMs, errorBodyMs }: ForwardedReadOptions,
): ForwardRead {
  return async function forwardRead(exchange, { judged } = { judged: true }) {
    const { request, path, query } = exchange
    // What the client holds is compared here, never there: by digest registries answer 304 for what does not exist.
    delete request.headers['if-none-match']
    const target = { url: deps.upstream.origin + path + (query && `?${query}`), foreign: false }
    const answer = await deps.send(exchange, { target, scope: scopeOf(path) })
    if (judged) await judgeRead(request.method, answer, errorBodyMs)
    await passThrough(exchange, answer, { idleMs, link: deps.locations.link })
  }
}

/** For the site's own credential, where the primary wants one of callers who have none. */
function scopeOf(path: string): string {
  const route = parseRoute(path)
  return 'name' in route ? `repository:${route.name}:pull` : 'registry:catalog:*'
}
