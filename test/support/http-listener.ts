/**
 * A node HTTP server on one port of 127.0.0.1 that can go away and come back on the same port, as the servers that the
 * tests take down must.
 */
import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import { onFreePort } from './port.ts'

export interface HttpListener extends AsyncDisposable {
  readonly port: number
  /** `http://127.0.0.1:<port>` */
  readonly url: string
  /** Closes the listening socket and every connection: the next connect is refused. */
  stop(): Promise<void>
  /** Listens again on the same port. */
  start(): Promise<void>
}

/** Listens when it resolves. Rejections of `onRequest` are not caught: they end the process, as a fault of a test. */
export async function listenHttp(onRequest: RequestListener): Promise<HttpListener> {
  const server = createServer({ keepAliveTimeout: 30_000, requestTimeout: 0 }, onRequest)
  async function listen(port: number): Promise<number> {
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
    return port
  }
  const port = await onFreePort(listen)
  async function stop(): Promise<void> {
    if (!server.listening) return
    const closed = once(server, 'close')
    server.close()
    server.closeAllConnections()
    await closed
  }
  return {
    port,
    url: `http://127.0.0.1:${port}`,
    stop,
    start: async () => void (server.listening || (await listen(port))),
    [Symbol.asyncDispose]: stop,
  }
}
