/** How a command asks the running process: through its admin listener, with the token of the same configuration. */
import { type IncomingMessage, request } from 'node:http'
import { text } from 'node:stream/consumers'
import { formatAddress, isWildcard, type ListenAddress } from './config/addresses.ts'
import type { AdminConfig } from './config/slices.ts'

export interface AdminAnswer {
  readonly status: number
  readonly body: string
}

export interface AdminLines {
  readonly status: number
  /** The body line by line, as it comes. Throws `AdminUnreachable` when it is cut. */
  readonly lines: AsyncIterable<string>
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
  const address = addressToAsk(admin)
  try {
    const response = await send(address, admin, method, path)
    return { status: response.statusCode ?? 0, body: await text(response) }
  } catch (cause) {
    throw unreachable(address, cause)
  }
}

/** As `askAdmin`, for an answer that comes in lines. Leaving the loop over them early ends the connection. */
export async function streamAdmin(admin: AdminConfig, method: string, path: string): Promise<AdminLines> {
  const address = addressToAsk(admin)
  try {
    const response = await send(address, admin, method, path)
    return { status: response.statusCode ?? 0, lines: linesOf(response, address) }
  } catch (cause) {
    throw unreachable(address, cause)
  }
}

/** Who listens on every address also listens on the loopback one. */
function addressToAsk({ listen }: AdminConfig): ListenAddress {
  if (listen.host !== undefined && !isWildcard(listen)) return listen
  return { host: listen.host?.includes(':') ? '::1' : '127.0.0.1', port: listen.port }
}

async function send(
  { host, port }: ListenAddress,
  { token }: AdminConfig,
  method: string,
  path: string,
): Promise<IncomingMessage> {
  const headers = token === undefined ? {} : { authorization: `Bearer ${token.reveal()}` }
  const answer = Promise.withResolvers<IncomingMessage>()
  const asked = request({ host, port, method, path, headers, agent: false }, answer.resolve)
  asked.on('error', answer.reject)
  asked.end()
  return await answer.promise
}

async function* linesOf(response: IncomingMessage, address: ListenAddress): AsyncGenerator<string> {
  let rest = ''
  try {
    for await (const chunk of response.setEncoding('utf8')) {
      const lines = (rest + String(chunk)).split('\n')
      rest = lines.pop() ?? ''
      yield* lines
    }
  } catch (cause) {
    throw unreachable(address, cause)
  }
  if (rest !== '') yield rest
}

function unreachable(address: ListenAddress, cause: unknown): AdminUnreachable {
  const where = `http.admin.addr ${formatAddress(address)}`
  const refused = cause instanceof Error && 'code' in cause && cause.code === 'ECONNREFUSED'
  const message = refused
    ? `nothing listens on ${where}.
The process that serves does the work: start it (geo-registry serve, or relay) with this configuration, or name its
configuration with --config.`
    : `cannot ask ${where}: ${cause instanceof Error ? cause.message : String(cause)}`
  return new AdminUnreachable(message, { cause })
}
