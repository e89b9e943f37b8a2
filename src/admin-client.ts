/** How a command asks the running process: through its admin listener, with the token of the same configuration. */
import { request } from 'node:http'
import { text } from 'node:stream/consumers'
import { formatAddress, isWildcard } from './config/addresses.ts'
import type { AdminConfig } from './config/slices.ts'

export interface AdminAnswer {
  readonly status: number
  readonly body: string
}

/** The running process could not be asked; the message says why and what to do. */
export class AdminUnreachable extends Error {
  override readonly name = 'AdminUnreachable'
}

/**
 * Waits as long as the answer takes, since a garbage collection can take an hour (`fetch` gives up after five
 * minutes). Throws `AdminUnreachable`.
 */
export async function askAdmin(admin: AdminConfig, method: string, path: string): Promise<AdminAnswer> {
  const { listen, token } = admin
  const host = listen.host === undefined || isWildcard(listen) ? loopbackOf(listen.host) : listen.host
  const headers = token === undefined ? {} : { authorization: `Bearer ${token.reveal()}` }
  const answer = Promise.withResolvers<AdminAnswer>()
  try {
    const asked = request({ host, port: listen.port, method, path, headers, agent: false }, (response) => {
      text(response).then(
        (body) => answer.resolve({ status: response.statusCode ?? 0, body }),
        (error) => answer.reject(error),
      )
    })
    asked.on('error', answer.reject)
    asked.end()
    return await answer.promise
  } catch (cause) {
    const where = `http.admin.addr ${formatAddress({ host, port: listen.port })}`
    const refused = cause instanceof Error && 'code' in cause && cause.code === 'ECONNREFUSED'
    const message = refused
      ? `nothing listens on ${where}.
The process that serves does the work: start it (geo-registry serve) with this configuration, or name its
configuration with --config.`
      : `cannot ask ${where}: ${cause instanceof Error ? cause.message : String(cause)}`
    throw new AdminUnreachable(message, { cause })
  }
}

/** Who listens on every address also listens on this one. */
function loopbackOf(wildcard: string | undefined): string {
  return wildcard?.includes(':') ? '::1' : '127.0.0.1'
}
