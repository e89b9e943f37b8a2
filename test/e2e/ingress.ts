/** What stands before a primary and, when it is ill, answers in its place. */
import { type IncomingMessage, request, type ServerResponse } from 'node:http'
import { pipeline } from 'node:stream/promises'
import { type HttpListener, listenHttp } from '../support/http-listener.ts'

export interface IngressAnswer {
  readonly status: number
  readonly type: string
  readonly body: string
}

export interface Ingress extends HttpListener {
  /** From now on: what it answers itself to a path and query. Undefined: it passes the request on; `silence`: never. */
  answers(own: (target: string) => IngressAnswer | 'silence' | undefined): void
}

export async function startIngress(targetUrl: string): Promise<Ingress> {
  const target = new URL(targetUrl)
  let own: (target: string) => IngressAnswer | 'silence' | undefined = () => undefined

  async function passOn(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>()
    const { method, url: path, headers } = incoming
    const outgoing = request({ host: target.hostname, port: target.port, method, path, headers }, resolve)
    outgoing.on('error', reject)
    incoming.pipe(outgoing)
    const answer = await promise
    response.writeHead(answer.statusCode ?? 502, answer.headers)
    await pipeline(answer, response)
  }

  const listener = await listenHttp((incoming, response) => {
    const answer = own(incoming.url ?? '')
    if (answer === 'silence') return
    if (answer) {
      response.writeHead(answer.status, { 'content-type': answer.type })
      response.end(answer.body)
    } else passOn(incoming, response).catch(() => response.destroy()) // One of both has gone.
  })
  return {
    ...listener,
    answers(said) {
      own = said
    },
  }
}
