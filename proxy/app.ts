/** The `/v2/` surface: path and method → access → one handler. Nothing else is decided here. */
import { OciError } from '../src/oci/errors.ts'
import { answer, type Exchange } from './exchange.ts'
import type { Route } from './routes.ts'

type RouteOf<K extends Route['kind']> = Extract<Route, { kind: K }>
type Handler<R extends Route> = (exchange: Exchange, route: R) => Promise<void>

/** One handler per thing a client can do; every one of them may throw, none writes an error itself. */
export interface Handlers {
  readonly readManifest: Handler<RouteOf<'manifest'>>
  readonly putManifest: Handler<RouteOf<'manifest'>>
  readonly deleteManifest: Handler<RouteOf<'manifest'>>
  readonly readBlob: Handler<RouteOf<'blob'>>
  readonly deleteBlob: Handler<RouteOf<'blob'>>
  readonly startUpload: Handler<RouteOf<'uploads'>>
  readonly continueUpload: Handler<RouteOf<'upload'>>
  readonly list: Handler<RouteOf<'catalog' | 'tags' | 'referrers'>>
  readonly token: Handler<RouteOf<'token'>>
}

export interface AppDeps {
  /** Decides whether the caller may, and leaves what was found out on the exchange. Throws `OciError` 401 or 405. */
  readonly authorize: (exchange: Exchange, route: Route) => Promise<void> | undefined
  readonly handlers: Handlers
}

export type App = (exchange: Exchange, route: Route) => Promise<void>

export function createApp({ authorize, handlers }: AppDeps): App {
  return async function app(exchange, route) {
    const handle = select(handlers, exchange.request.method ?? '', route)
    // Undefined when the token was known: the warm path waits for nothing.
    const pending = authorize(exchange, route)
    if (pending !== undefined) await pending
    await handle(exchange)
  }
}

/** Before access: a method that does not exist is 405 to everybody. */
function select(handlers: Handlers, method: string, route: Route): (exchange: Exchange) => Promise<void> {
  const byMethod = methodsOf(handlers, route)
  const handle = byMethod[method === 'HEAD' ? 'GET' : method]
  if (!handle) {
    const allow = Object.keys(byMethod).flatMap((name) => (name === 'GET' ? ['GET', 'HEAD'] : [name]))
    throw new OciError('UNSUPPORTED', { headers: { allow: allow.join(', ') } })
  }
  return handle
}

type MethodTable = Readonly<Record<string, ((exchange: Exchange) => Promise<void>) | undefined>>

function methodsOf(handlers: Handlers, route: Route): MethodTable {
  switch (route.kind) {
    case 'ping':
      return { GET: ping }
    case 'manifest':
      return {
        GET: (exchange) => handlers.readManifest(exchange, route),
        PUT: (exchange) => handlers.putManifest(exchange, route),
        DELETE: (exchange) => handlers.deleteManifest(exchange, route),
      }
    case 'blob':
      return {
        GET: (exchange) => handlers.readBlob(exchange, route),
        DELETE: (exchange) => handlers.deleteBlob(exchange, route),
      }
    case 'uploads':
      return { POST: (exchange) => handlers.startUpload(exchange, route) }
    case 'upload': {
      const handle = (exchange: Exchange) => handlers.continueUpload(exchange, route)
      return { GET: handle, PATCH: handle, PUT: handle, DELETE: handle }
    }
    case 'token': {
      const handle = (exchange: Exchange) => handlers.token(exchange, route)
      return { GET: handle, POST: handle }
    }
    default:
      return { GET: (exchange) => handlers.list(exchange, route) }
  }
}

/** Answered here, so that clients can log in and find the challenge whatever the primary does. */
async function ping(exchange: Exchange): Promise<void> {
  answer(exchange, 200, { 'content-type': 'application/json; charset=utf-8', 'content-length': '2' }, '{}')
}
