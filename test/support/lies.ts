/** What `lying-primary` can be told to answer: each a way that a registry, or what stands in front of it, goes wrong. */
import { gzipSync } from 'node:zlib'
import { errorBody } from '../../src/oci/errors.ts'
import { type Lie, sendHonestly } from './lying-primary.ts'

type Headers = Readonly<Record<string, string>>

/** Any status with an OCI error body. */
export function ociError(status: number, code: string, headers: Headers = {}): Lie {
  return plain(status, 'application/json', errorBody(code, code.toLowerCase()), headers)
}

/** An ingress's or a proxy's page: 404 or 502 of something that is no registry, or a 200 of a sign-in page. */
export function html(status: number): Lie {
  return plain(status, 'text/html', `<html><body><h1>${status}</h1></body></html>`)
}

/** 429 as a registry says it. `retryAfter` in seconds or as a date; default none is sent. */
export function tooManyRequests(retryAfter?: string): Lie {
  return ociError(429, 'TOOMANYREQUESTS', retryAfter === undefined ? {} : { 'retry-after': retryAfter })
}

/** A registry in `storage.maintenance.readonly`. */
export function readOnly(): Lie {
  return ociError(405, 'UNSUPPORTED')
}

/** GitLab's registry while a repository is being renamed: writes wait. */
export function renameInProgress(): Lie {
  return ociError(409, 'RENAME_IN_PROGRESS')
}

/** GitLab in maintenance mode: what is not a pull is denied. */
export function maintenance(): Lie {
  return ociError(403, 'DENIED')
}

/** The honest head, half of the body (or `bytes` of it), then the connection is closed. */
export function shortBody(bytes?: number): Lie {
  return ({ response, honest }) => {
    const part = honest.body.subarray(0, bytes ?? Math.floor(honest.body.length / 2))
    response.writeHead(honest.status, { ...honest.headers, 'content-length': String(honest.body.length) })
    response.flushHeaders()
    if (part.length > 0) response.write(part)
    response.socket?.destroySoon()
  }
}

/** Half of the body, under a Content-Length that fits it: well-formed HTTP, and not what was asked for. */
export function truncatedBody(): Lie {
  return (ask) => {
    const body = ask.honest.body.subarray(0, Math.floor(ask.honest.body.length / 2))
    sendHonestly({ ...ask, honest: { ...ask.honest, body } })
  }
}

/** The right length and headers, one byte of the body inverted (default the last). */
export function wrongBytes(at?: number): Lie {
  return (ask) => {
    const body = Buffer.from(ask.honest.body)
    const offset = at ?? body.length - 1
    body.writeUInt8(body.readUInt8(offset) ^ 0xff, offset)
    sendHonestly({ ...ask, honest: { ...ask.honest, body } })
  }
}

/** The honest answer with headers replaced, such as `docker-content-digest`. */
export function withHeaders(headers: Headers): Lie {
  return (ask) =>
    sendHonestly({ ...ask, honest: { ...ask.honest, headers: { ...ask.honest.headers, ...headers } } })
}

/** A compressed body although `identity` was asked for. */
export function gzipped(): Lie {
  return (ask) => {
    const headers = { ...ask.honest.headers, 'content-encoding': 'gzip' }
    sendHonestly({ ...ask, honest: { ...ask.honest, headers, body: gzipSync(ask.honest.body) } })
  }
}

/** 307 to another place; default to the same one, for ever. */
export function redirect(location?: string): Lie {
  return ({ request, response }) => {
    response.writeHead(307, { location: location ?? request.url ?? '/', 'content-length': '0' })
    response.end()
  }
}

/** A response head that does not end: lines come until the client hangs up, one a millisecond. */
export function endlessHeaders(): Lie {
  return ({ response }) => {
    const { socket } = response
    if (!socket) return
    socket.write('HTTP/1.1 200 OK\r\n')
    const line = `x-endless: ${'a'.repeat(4000)}\r\n`
    const timer = setInterval(() => void socket.write(line), 1).unref()
    socket.once('close', () => clearInterval(timer))
  }
}

/** The head and `bytes` of the body (default half), then nothing until `release` settles; then the rest. */
export function pauseInBody(release: Promise<void>, bytes?: number): Lie {
  return async ({ response, honest }) => {
    const at = bytes ?? Math.floor(honest.body.length / 2)
    response.writeHead(honest.status, { ...honest.headers, 'content-length': String(honest.body.length) })
    response.write(honest.body.subarray(0, at))
    await release
    response.end(honest.body.subarray(at))
  }
}

/** No answer at all, until the client hangs up. */
export function silence(): Lie {
  return () => {}
}

/** The connection is reset instead of an answer. */
export function hangUp(): Lie {
  return ({ response }) => void response.socket?.resetAndDestroy()
}

function plain(status: number, contentType: string, body: string, headers: Headers = {}): Lie {
  return (ask) =>
    sendHonestly({
      ...ask,
      honest: { status, headers: { 'content-type': contentType, ...headers }, body: Buffer.from(body) },
    })
}
