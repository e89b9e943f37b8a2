/** Servers that stand in for a primary and lie as told, on free loopback ports, and the client under test. */
import { once } from 'node:events'
import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http'
import {
  type AddressInfo,
  createServer as createTcpServer,
  type Socket,
  type Server as TcpServer,
} from 'node:net'
import { createLogger } from '../../src/log.ts'
import { createMetrics, type Metrics } from '../../src/metrics.ts'
import type { Breaker } from '../../src/upstream/breaker.ts'
import { createDispatcher, type Dispatcher, type DispatcherOptions } from '../../src/upstream/dispatcher.ts'
import { createRegistryClient } from '../../src/upstream/registry-client.ts'
import { createNoTokenSource, type TokenSource } from '../../src/upstream/token-source.ts'
import type { Upstream } from '../../src/upstream/upstream.ts'

/** What is closed when a test ends, last made first. */
export function releasers(): { add(release: () => unknown): void; release(): Promise<void> } {
  const owed: (() => unknown)[] = []
  return {
    add: (release) => void owed.push(release),
    async release() {
      for (let next = owed.pop(); next; next = owed.pop()) await next()
    },
  }
}

export interface HttpPrimary {
  readonly origin: string
  /** Every request that came, in order. */
  readonly requests: IncomingMessage[]
  readonly server: Server
  close(): Promise<void>
}

export async function httpPrimary(answer: RequestListener, host = '127.0.0.1'): Promise<HttpPrimary> {
  const requests: IncomingMessage[] = []
  const server = createServer((request, response) => {
    requests.push(request)
    answer(request, response)
  })
  server.listen(0, host)
  await once(server, 'listening')
  return {
    origin: `http://${host.includes(':') ? `[${host}]` : host}:${portOf(server)}`,
    requests,
    server,
    async close() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

export interface TcpPrimary {
  readonly origin: string
  readonly sockets: Set<Socket>
  close(): Promise<void>
}

/** A server that says whatever `talk` writes, HTTP or not. */
export async function tcpPrimary(talk: (socket: Socket) => void): Promise<TcpPrimary> {
  const sockets = new Set<Socket>()
  const server = createTcpServer((socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => {}) // The client cutting a lie short is what is tested.
    talk(socket)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    origin: `http://127.0.0.1:${portOf(server)}`,
    sockets,
    async close() {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}

export function portOf(server: Server | TcpServer): number {
  return (server.address() as AddressInfo).port
}

export interface Client {
  readonly upstream: Upstream
  readonly dispatcher: Dispatcher
  readonly metrics: Metrics
  /** What the breaker was told. */
  readonly reports: { failed: unknown[]; succeeded: number }
}

/** A client of the primary at `origin`, with deadlines short enough for tests unless told otherwise. */
export function clientOf(
  origin: string,
  options: Partial<DispatcherOptions> & { tokens?: (dispatcher: Dispatcher) => TokenSource } = {},
): Client {
  const { tokens, ...rest } = options
  const metrics = createMetrics()
  const dispatcher = createDispatcher(
    { metrics, log: createLogger({ level: 'silent' }) },
    { origin, ...rest },
  )
  const reports = { failed: [] as unknown[], succeeded: 0 }
  const breaker: Pick<Breaker, 'failed' | 'succeeded'> = {
    failed: (error, operation) => void reports.failed.push([operation, error]),
    succeeded: () => void reports.succeeded++,
  }
  const upstream = createRegistryClient({
    dispatcher,
    tokens: tokens ? tokens(dispatcher) : createNoTokenSource(),
    breaker,
  })
  return { upstream, dispatcher, metrics, reports }
}
