/** One request as bytes and the one answer to it, read to the letter of HTTP: what is no answer is told as such. */
import { connect } from 'node:net'

export interface RawAnswer {
  readonly status: number
  /** Lower-case names; the values of a repeated one are joined by a comma. */
  readonly headers: Readonly<Record<string, string | undefined>>
  readonly body: Buffer
  /** False: the connection was cut in the middle of the body. */
  readonly isWhole: boolean
}

/** Longest wait for an answer. */
const DEADLINE_MS = 12_000

/** Undefined: the connection was closed without a byte. Throws where it takes too long or is no HTTP. */
export async function exchangeRaw(
  port: number,
  request: string | Buffer,
  method: string,
): Promise<RawAnswer | undefined> {
  const { promise, resolve, reject } = Promise.withResolvers<RawAnswer | undefined>()
  const socket = connect({ host: '127.0.0.1', port, noDelay: true })
  const timer = setTimeout(() => {
    reject(new Error(`no whole answer within ${DEADLINE_MS} ms; so far: ${received.toString('latin1')}`))
    socket.destroy()
  }, DEADLINE_MS)
  let received: Buffer = Buffer.alloc(0)
  const look = (isClosed: boolean): void => {
    try {
      const answer = readAnswer(received, method, isClosed)
      if (!answer && !isClosed) return
      resolve(answer)
      socket.destroy()
    } catch (error) {
      reject(error)
      socket.destroy()
    }
  }
  socket.on('connect', () =>
    socket.write(typeof request === 'string' ? Buffer.from(request, 'latin1') : request),
  )
  socket.on('data', (bytes: Buffer) => {
    received = Buffer.concat([received, bytes])
    look(false)
  })
  socket.on('error', () => undefined) // A reset; 'close' follows.
  socket.on('close', () => look(true))
  try {
    return await promise
  } finally {
    clearTimeout(timer)
  }
}

/** Undefined while there is no whole answer yet. Informational ones are passed over. */
function readAnswer(bytes: Buffer, method: string, isClosed: boolean): RawAnswer | undefined {
  const end = bytes.indexOf('\r\n\r\n')
  if (end === -1) {
    if (isClosed && bytes.length > 0) throw new Error(`no whole head: ${bytes.toString('latin1')}`)
    return undefined
  }
  const [line = '', ...fields] = bytes.subarray(0, end).toString('latin1').split('\r\n')
  const status = Number(/^HTTP\/1\.1 ([1-9]\d\d) [\t\x20-\x7e\x80-\xff]*$/.exec(line)?.[1])
  if (!status) throw new Error(`no status line: ${line}`)
  const rest = bytes.subarray(end + 4)
  if (status < 200) return readAnswer(rest, method, isClosed)
  const headers = readFields(fields)
  const head = { status, headers }
  if (method === 'HEAD' || status === 204 || status === 304) return { ...head, body: EMPTY, isWhole: true }
  if (headers['transfer-encoding'] === 'chunked') {
    const body = unchunked(rest)
    if (body) return { ...head, body, isWhole: true }
    return isClosed ? { ...head, body: rest, isWhole: false } : undefined
  }
  const length = headers['content-length']
  if (length === undefined) return isClosed ? { ...head, body: rest, isWhole: true } : undefined
  if (!/^\d+$/.test(length)) throw new Error(`no Content-Length: ${length}`)
  const isWhole = rest.length >= Number(length)
  if (!isWhole && !isClosed) return undefined
  return { ...head, body: rest.subarray(0, Number(length)), isWhole }
}

const EMPTY = Buffer.alloc(0)

function readFields(fields: readonly string[]): RawAnswer['headers'] {
  const headers = new Map<string, string>()
  for (const field of fields) {
    const match = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[\t ]*([\t\x20-\x7e\x80-\xff]*)$/.exec(field)
    if (!match) throw new Error(`no header field: ${field}`)
    const name = (match[1] ?? '').toLowerCase()
    const known = headers.get(name)
    headers.set(name, known === undefined ? (match[2] ?? '') : `${known}, ${match[2]}`)
  }
  return Object.fromEntries(headers)
}

function unchunked(bytes: Buffer): Buffer | undefined {
  const parts: Buffer[] = []
  for (let at = 0; ; ) {
    const end = bytes.indexOf('\r\n', at)
    if (end === -1) return undefined
    const size = Number.parseInt(bytes.subarray(at, end).toString('latin1'), 16)
    if (Number.isNaN(size)) throw new Error('no chunk size')
    const start = end + 2
    if (bytes.length < start + size + 2) return undefined
    if (size === 0) return Buffer.concat(parts)
    parts.push(bytes.subarray(start, start + size))
    at = start + size + 2
  }
}

export interface RawRequest {
  readonly method: string
  /** As it shall stand in the request line. */
  readonly target: string
  readonly headers?: readonly (readonly [name: string, value: string])[]
  /** Sent with its length. */
  readonly body?: Buffer | undefined
}

/** As latin1, so that every byte can be said. The answer is asked to be the last of its connection. */
export function requestBytes({ method, target, headers = [], body }: RawRequest): Buffer {
  const fields = [['host', 'registry.test'], ['connection', 'close'], ...headers]
  if (body) fields.push(['content-length', String(body.length)])
  const lines = fields.map(([name, value]) => `${name}: ${value}`)
  const head = [`${method} ${target} HTTP/1.1`, ...lines, '', ''].join('\r\n')
  return Buffer.concat([Buffer.from(head, 'latin1'), body ?? EMPTY])
}
