/** A public listener in this process with an app of the test's own behind it: what every request gets, and nothing else. */
import pino from 'pino'
import type { App } from '../../proxy/app.ts'
import { createClientQuota } from '../../proxy/client-quota.ts'
import { type Listener, type ListenerOptions, startListener } from '../../proxy/listener.ts'
import { createMetrics, type Metrics } from '../../src/metrics.ts'
import { OciError } from '../../src/oci/errors.ts'

export interface Listening extends AsyncDisposable {
  readonly url: string
  readonly port: number
  readonly listener: Listener
  /** What it has logged. */
  readonly lines: readonly Record<string, unknown>[]
  readonly metrics: Metrics
}

/** `connections`: requests of one client at once; default 100. */
export async function listen(
  app: App,
  { connections = 100, ...options }: Partial<ListenerOptions> & { connections?: number } = {},
): Promise<Listening> {
  const lines: Record<string, unknown>[] = []
  const log = pino({ base: null }, { write: (line) => void lines.push(JSON.parse(line)) })
  const metrics = createMetrics()
  const listener = await startListener(
    {
      app,
      log,
      metrics,
      quota: createClientQuota('connections', connections, metrics),
      challenge: () => new OciError('UNAUTHORIZED'),
    },
    { host: '127.0.0.1', port: 0, trustedProxies: [], ...options },
  )
  const { port } = listener.address
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    listener,
    lines,
    metrics,
    [Symbol.asyncDispose]: () => listener.close(AbortSignal.abort()),
  }
}
