/**
 * A kept connection to one process of the registry: to its own address, under the name of its origin. Apart from the
 * client of the primary, whose pool may go through a balancer or an egress proxy: a canary must reach this process.
 */
import { Agent, type IncomingHttpHeaders, type RequestOptions, request as sendHttp } from 'node:http'
import { request as sendHttps, Agent as TlsAgent } from 'node:https'
import { isIP } from 'node:net'
import type { SecureContextOptions } from 'node:tls'
import type { InstanceAddress } from './instances.ts'

export interface InstanceRequest {
  readonly method: 'HEAD' | 'POST' | 'PUT'
  /** With its query. */
  readonly path: string
  readonly headers: Readonly<Record<string, string | undefined>>
  readonly body?: Buffer | undefined
  /** Until the end of the answer. */
  readonly timeoutMs: number
}

export interface InstanceAnswer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  /** The beginning of the body, to be shown. */
  readonly text: string
}

export interface InstanceConnection {
  /** Rejects when no whole answer came in time. */
  send(request: InstanceRequest): Promise<InstanceAnswer>
  /** Requests under way reject. */
  close(): void
}

/** `ca` replaces the system's authorities, as in Node. */
export type InstanceTls = Pick<SecureContextOptions, 'ca' | 'cert' | 'key'>

const SHOWN_CHARACTERS = 300

export function openInstanceConnection(
  { origin, ip }: Pick<InstanceAddress, 'origin' | 'ip'>,
  tls: InstanceTls = {},
): InstanceConnection {
  const url = new URL(origin)
  const isTls = url.protocol === 'https:'
  const kept = { keepAlive: true, maxSockets: 1 }
  const agent = isTls ? new TlsAgent({ ...kept, ...tls }) : new Agent(kept)
  const closing = new AbortController()

  function attempt(request: InstanceRequest, signal: AbortSignal): Promise<InstanceAnswer> {
    const { promise, resolve, reject } = Promise.withResolvers<InstanceAnswer>()
    const headers = Object.entries(request.headers).filter(([, value]) => value !== undefined)
    const options: RequestOptions & { servername?: string } = {
      agent,
      host: ip,
      port: url.port === '' ? (isTls ? 443 : 80) : url.port,
      method: request.method,
      path: request.path,
      headers: {
        ...Object.fromEntries(headers),
        host: url.host,
        ...(request.method !== 'HEAD' && { 'content-length': String(request.body?.length ?? 0) }),
      },
      signal,
      ...(isTls && isIP(url.hostname) === 0 && { servername: url.hostname }),
    }
    const sent = (isTls ? sendHttps : sendHttp)(options, (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (piece: string) => {
        if (text.length < SHOWN_CHARACTERS) text += piece.slice(0, SHOWN_CHARACTERS - text.length)
      })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }))
      response.on('error', reject)
    })
    sent.on('error', (error) => {
      reject(signal.aborted ? new Error(`no answer within ${request.timeoutMs} ms`, { cause: error }) : error)
    })
    sent.end(request.body)
    // A kept connection that the other end closed just now says nothing about the registry.
    return promise.catch((error: unknown) => {
      if (!sent.reusedSocket || signal.aborted || request.method === 'POST') throw error
      return attempt(request, signal)
    })
  }

  return {
    send: (request) =>
      attempt(request, AbortSignal.any([closing.signal, AbortSignal.timeout(request.timeoutMs)])),
    close() {
      closing.abort()
      agent.destroy()
    },
  }
}
