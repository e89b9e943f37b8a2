/** What the listeners beside the public one have in common: bound or not at all, closed with a little grace. */
import { createHash, timingSafeEqual } from 'node:crypto'
import type { Server } from 'node:http'

export interface HttpListener extends AsyncDisposable {
  /** The address that was bound: the port is the true one where 0 was asked for. */
  readonly address: { readonly host: string; readonly port: number }
}

export interface ListenOptions {
  /** Undefined: every address. */
  readonly host: string | undefined
  readonly port: number
  /** Told what goes wrong with the listener itself later on. */
  readonly onError: (error: Error) => void
}

/** How long requests under way may take to end once the listener is given back. */
const CLOSE_GRACE_MS = 1_000

/** Resolves once it listens; rejects when it cannot (the address is taken, or is none of this machine). */
export async function listen(server: Server, { host, port, onError }: ListenOptions): Promise<HttpListener> {
  const listening = Promise.withResolvers<void>()
  server.once('error', listening.reject)
  server.listen({ port, ...(host !== undefined && { host }) }, () => listening.resolve())
  await listening.promise
  server.off('error', listening.reject)
  server.on('error', onError)

  const bound = server.address()
  if (bound === null || typeof bound === 'string') throw new Error('the listener has no port')
  return {
    address: { host: bound.address, port: bound.port },
    async [Symbol.asyncDispose]() {
      const closed = Promise.withResolvers<void>()
      server.close(() => closed.resolve())
      const cut = setTimeout(() => server.closeAllConnections(), CLOSE_GRACE_MS)
      await closed.promise
      clearTimeout(cut)
    },
  }
}

/**
 * Whether a header's value is the secret, byte by byte, in a time that depends on neither, their lengths included. Node
 * reads header bytes as latin1.
 */
export function sameSecret(presented: string, expected: string): boolean {
  const one = createHash('sha256').update(presented, 'latin1').digest()
  const other = createHash('sha256').update(expected, 'utf8').digest()
  return timingSafeEqual(one, other)
}
