/**
 * Connections of the public listener, before and beside any request on them: how many there are, how many requests are
 * sent ahead on one, and how one ends that is refused.
 */
import { readFileSync } from 'node:fs'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import type { Logger } from '../src/log.ts'

export interface ConnectionsOptions {
  readonly log: Logger
  /** How long the client of a refused connection has to read why, default 5 s. */
  readonly lingerMs?: number
  /** Connections at once; default three quarters of the files that the process may have open (no limit: undefined). */
  readonly maxConnections?: number | undefined
}

export interface Connections {
  /** Calls `begin` when it is the request's turn on its connection. */
  inTurn(request: IncomingMessage, response: ServerResponse, begin: () => void): void
}

/** No client of a registry sends any ahead, and each takes a kilobyte until its turn comes. */
const MAX_AHEAD = 100
const LINGER_MS = 5000
/** A crowd is logged once in this time. */
const LOG_EVERY_MS = 60_000

/** What node's parser can find wrong with a request, where that is more than a bad one. */
const CLIENT_ERRORS: Readonly<Record<string, string>> = {
  HPE_HEADER_OVERFLOW: '431 Request Header Fields Too Large',
  ERR_HTTP_REQUEST_TIMEOUT: '408 Request Timeout',
}

export function watchConnections(server: Server, options: ConnectionsOptions): Connections {
  const { log, lingerMs = LINGER_MS, maxConnections = mostConnections() } = options
  /** The latest on each connection. */
  const answers = new WeakMap<object, ServerResponse>()
  /** Requests that wait for their turn, by connection. */
  const ahead = new WeakMap<object, number>()

  server.on('clientError', (error: NodeJS.ErrnoException, socket: Duplex) => {
    // A word of ours in the middle of an answer would be taken for a part of it.
    const answer = answers.get(socket)
    const hasBegun = answer?.headersSent && !answer.writableFinished
    if (hasBegun || !socket.writable || error.code === 'ECONNRESET') {
      socket.destroy()
      return
    }
    const status = CLIENT_ERRORS[error.code ?? ''] ?? '400 Bad Request'
    socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`)
    // It stays half open for as long as its client likes; one that never ended its TLS handshake takes no word either.
    const cut = setTimeout(() => socket.destroy(), lingerMs)
    cut.unref()
    socket.once('close', () => clearTimeout(cut))
  })

  if (maxConnections !== undefined) {
    let loggedAtMs = Number.NEGATIVE_INFINITY
    // Over the limit of open files nothing can be opened any more: neither what is held here, nor a way to the primary.
    server.maxConnections = maxConnections
    server.on('drop', () => {
      // Those that are kept for a next request make room for one that has come.
      server.closeIdleConnections()
      if (performance.now() - loggedAtMs < LOG_EVERY_MS) return
      loggedAtMs = performance.now()
      log.warn(
        { maxConnections },
        'connections refused: there are as many as leave room for files (raise LimitNOFILE, or find who holds them)',
      )
    })
  }

  return {
    inTurn(request, response, begin) {
      const { socket } = request
      const run = () => {
        answers.set(socket, response)
        begin()
      }
      if (response.socket) return run()
      const waiting = (ahead.get(socket) ?? 0) + 1
      ahead.set(socket, waiting)
      if (waiting > MAX_AHEAD) {
        socket.destroy()
        return
      }
      // Of what is written before its turn, node never says what became of it when the client leaves.
      response.once('socket', () => {
        ahead.set(socket, (ahead.get(socket) ?? 1) - 1)
        run()
      })
    },
  }
}

/** Three quarters of the open files that Linux allows this process; undefined where that is not known. */
function mostConnections(): number | undefined {
  try {
    const [, files] = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? []
    return files === undefined ? undefined : Math.floor(Number(files) * 0.75)
  } catch {
    return undefined // Another system than Linux, or one without /proc: as node has it, no limit.
  }
}
