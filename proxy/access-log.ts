/** What each request leaves behind: one line with GitLab's (LabKit's) field names, and the registry's metrics. */
import type { Logger } from '../src/log.ts'
import { logPlain, withoutQuery } from '../src/log.ts'
import type { Metrics } from '../src/metrics.ts'
import type { Exchange } from './exchange.ts'
import type { Route } from './routes.ts'

/** Called once per request, when its connection is done with it. */
export function logAccess(
  { log, metrics }: { readonly log: Logger; readonly metrics: Metrics },
  exchange: Exchange & { readonly startedAtMs: number },
  route: Route | undefined,
): void {
  const { request, response, source } = exchange
  const { headers, method = '' } = request
  const durationMs = performance.now() - exchange.startedAtMs
  const status = response.headersSent ? response.statusCode : 499 // NGINX's number for a client that left first.
  const labels = { route: route?.kind ?? 'unknown', method, code: String(status) }
  metrics.httpRequests.inc(labels)
  metrics.httpDurationSeconds.observe(labels, durationMs / 1000)
  if (status < 400 && isRead(route, method)) metrics.reads.inc({ source })
  if (exchange.writtenBytes > 0) metrics.servedBytes.inc({ source }, exchange.writtenBytes)
  logPlain(
    log,
    {
      correlation_id: exchange.requestId,
      duration_ms: Math.round(durationMs * 10) / 10,
      host: headers.host,
      method,
      proto: `HTTP/${request.httpVersion}`,
      referrer: headers.referer,
      remote_addr: `${request.socket.remoteAddress ?? ''}:${request.socket.remotePort ?? ''}`,
      remote_ip: exchange.clientAddress,
      source,
      status,
      system: 'http',
      uri: withoutQuery(request.url ?? ''),
      user_agent: headers['user-agent'],
      written_bytes: exchange.writtenBytes,
    },
    'access',
  )
}

function isRead(route: Route | undefined, method: string): boolean {
  return (route?.kind === 'manifest' || route?.kind === 'blob') && (method === 'GET' || method === 'HEAD')
}
