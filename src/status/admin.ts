/**
 * The admin listener: health, metrics, garbage collection, status. It knows the site only through the functions it is
 * given, so that liveness depends on nothing and readiness on exactly what it is told.
 */
import { createServer } from 'node:http'
import { isIP } from 'node:net'
import { getRequestListener } from '@hono/node-server'
import { Hono, type MiddlewareHandler } from 'hono'
import { type HttpListener, listen, sameSecret } from '../http-listener.ts'
import type { Logger } from '../log.ts'
import { createReplicationApi } from './api.ts'
import type { ReplicationControl } from './replication-control.ts'

export interface AdminPorts {
  /** Why the site cannot serve, undefined when it can. */
  ready(): Promise<string | undefined>
  /** The text of `/metrics`. */
  metrics(): Promise<string>
  /** Resolves with the counts to show, when all is done. `dryRun`: count only. Undefined where there is no store. */
  readonly collectGarbage?: ((options: { readonly dryRun: boolean }) => Promise<object>) | undefined
  /** What `GET /status` answers where no replicator does; undefined while the process starts. */
  readonly status?: (() => object | undefined) | undefined
  /** Undefined where no replicator runs: there is no status then, and nothing of `api.ts`. */
  readonly replication?: ReplicationControl | undefined
}

export interface AdminOptions {
  readonly log: Logger
  /** Asked for at each request, since its file may change. Undefined: everybody who can connect may do everything. */
  readonly token: () => string | undefined
}

const BODY_LIMIT_BYTES = 64 * 1024
/** What Prometheus' text format is called; prom-client writes it. */
const METRICS_TYPE = 'text/plain; version=0.0.4; charset=utf-8'

export function createAdminApp(ports: AdminPorts, options: AdminOptions): Hono {
  const { log, token } = options
  const app = new Hono()
  let collecting = false

  app.onError(function hideError(error, context) {
    log.error({ error, path: context.req.path }, 'admin request failed')
    return context.json({ error: 'internal error: see the log' }, 500)
  })
  app.notFound((context) => context.json({ error: 'no such path' }, 404))

  app.get('/-/liveness', (context) => context.json({ status: 'ok' }))
  app.get('/-/readiness', async (context) => {
    const reason = await readiness(ports, log)
    return reason === undefined
      ? context.json({ status: 'ok' })
      : context.json({ status: 'failed', reason }, 503)
  })

  app.use(requireToken(token), refuseOtherNames(token), refuseOtherSites, refuseLargeBodies)
  app.get('/metrics', async (context) =>
    context.body(await ports.metrics(), 200, { 'content-type': METRICS_TYPE }),
  )
  const { collectGarbage, status } = ports
  if (status) {
    app.get('/status', (context) => {
      const report = status()
      return report
        ? context.json(report)
        : context.json({ error: 'the process is starting: ask again' }, 503)
    })
  }
  app.post('/gc', async (context) => {
    if (!collectGarbage) return context.notFound()
    const asked = context.req.query('dryrun') ?? 'false'
    if (asked !== 'true' && asked !== 'false') {
      return context.json({ error: 'dryrun: expected true or false' }, 400)
    }
    if (collecting) return context.json({ error: 'a garbage collection is already running' }, 409)
    collecting = true
    try {
      return context.json(await collectGarbage({ dryRun: asked === 'true' }))
    } finally {
      collecting = false
    }
  })
  if (ports.replication) app.route('/', createReplicationApi(ports.replication, { log }))
  return app
}

/** Resolves once it listens; rejects when it cannot (the address is taken, or is none of this machine). */
export async function startAdmin(
  address: { readonly host: string | undefined; readonly port: number },
  ports: AdminPorts,
  options: AdminOptions,
): Promise<HttpListener> {
  const app = createAdminApp(ports, options)
  // The adaptor's faster Request and Response would replace those of the whole process.
  const server = createServer(getRequestListener(app.fetch, { overrideGlobalObjects: false }))
  const onError = (error: Error) => options.log.error({ error }, 'admin listener failed')
  return await listen(server, { ...address, onError })
}

async function readiness(ports: AdminPorts, log: Logger): Promise<string | undefined> {
  try {
    return await ports.ready()
  } catch (error) {
    log.error({ error }, 'readiness could not be told')
    return 'readiness could not be told: see the log'
  }
}

function requireToken(token: () => string | undefined): MiddlewareHandler {
  return async function requireToken(context, next) {
    const expected = token()
    if (expected === undefined) return await next()
    const presented = /^Bearer +(.+)$/i.exec(context.req.header('authorization') ?? '')?.[1]
    if (presented !== undefined && sameSecret(presented, expected)) return await next()
    const headers = { 'www-authenticate': 'Bearer realm="geo-registry admin"' }
    return context.json({ error: 'expected the admin token as a bearer token' }, 401, headers)
  }
}

/**
 * A name that such a page's owner has lead to this machine makes the page one of this site, to a browser. Who needs no
 * token comes by the loopback address, as itself or as `localhost`; with a token no browser adds it by itself.
 */
function refuseOtherNames(token: () => string | undefined): MiddlewareHandler {
  return async function refuseOtherNames(context, next) {
    const name = new URL(context.req.url).hostname.replace(/^\[|\]$/g, '')
    if (token() !== undefined || name === 'localhost' || isIP(name) !== 0) return await next()
    return context.json(
      { error: 'expected localhost or an address as Host, since http.admin.token is not set' },
      403,
    )
  }
}

/**
 * A page of another site, open in a browser on this machine, can make it send requests to a loopback address that needs
 * no token. Browsers say so: https://www.w3.org/TR/fetch-metadata/
 */
const refuseOtherSites: MiddlewareHandler = async function refuseOtherSites(context, next) {
  const site = context.req.header('sec-fetch-site') ?? 'none'
  if (site === 'none' || site === 'same-origin') return await next()
  return context.json({ error: 'requests from other sites are refused' }, 403)
}

/**
 * Nothing here needs a body. Hono's own limit makes a new Request of one in chunks, which the adaptor's Request does not
 * let it.
 */
const refuseLargeBodies: MiddlewareHandler = async function refuseLargeBodies(context, next) {
  let length = Number(context.req.header('content-length') ?? 0)
  const { body } = context.req.raw
  if (body && length === 0) {
    for await (const piece of body) {
      length += piece.length
      if (length > BODY_LIMIT_BYTES) break
    }
  }
  if (length <= BODY_LIMIT_BYTES) return await next()
  return context.json({ error: 'the body is too large' }, 413)
}
