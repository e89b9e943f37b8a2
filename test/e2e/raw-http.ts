/** Requests byte by byte, for what no HTTP client would send, and everything that comes back. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { errorCodesOf } from '../../src/oci/errors.ts'
import { until } from '../support/wait.ts'

export interface RawConnection extends AsyncDisposable {
  readonly socket: Socket
  /** All that has come so far. */
  received(): string
  /** Status lines so far. */
  statuses(): number[]
  readonly isClosed: boolean
}

export async function openRaw(port: number): Promise<RawConnection> {
  const socket = connect({ host: '127.0.0.1', port, noDelay: true })
  const chunks: Buffer[] = []
  let isClosed = false
  socket.on('data', (chunk: Buffer) => chunks.push(chunk))
  socket.on('error', () => {}) // A reset; 'close' follows.
  socket.once('close', () => {
    isClosed = true
  })
  await once(socket, 'connect')
  const received = () => Buffer.concat(chunks).toString('latin1')
  return {
    socket,
    received,
    statuses: () => [...received().matchAll(/^HTTP\/1\.1 (\d{3}) /gm)].map(([, status]) => Number(status)),
    get isClosed() {
      return isClosed
    },
    async [Symbol.asyncDispose]() {
      if (isClosed) return
      const closed = once(socket, 'close')
      socket.destroy()
      await closed
    },
  }
}

export interface RawAnswer {
  readonly statuses: number[]
  readonly text: string
  /** Of the last answer's body, where it is an OCI error. */
  readonly code: string
}

/** Sends these bytes and resolves when the server has closed the connection, which it must within `deadlineMs` (5 s). */
export async function sendRaw(port: number, bytes: string, deadlineMs = 5000): Promise<RawAnswer> {
  await using connection = await openRaw(port)
  connection.socket.write(Buffer.from(bytes, 'latin1'))
  await until(() => connection.isClosed, { what: `the connection to be closed by the server`, deadlineMs })
  const text = connection.received()
  const body = text.slice(text.lastIndexOf('\r\n\r\n') + 4)
  return { text, statuses: connection.statuses(), code: errorCodesOf(Buffer.from(body)).join() }
}

/** A request that asks for the connection to be closed after it. */
export function rawRequest(
  method: string,
  target: string,
  headers: Readonly<Record<string, string>> = {},
): string {
  const lines = Object.entries({ host: 'registry', connection: 'close', ...headers })
  return [`${method} ${target} HTTP/1.1`, ...lines.map((line) => line.join(': ')), '', ''].join('\r\n')
}
