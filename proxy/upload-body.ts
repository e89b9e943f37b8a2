/**
 * A client's body on its way to the primary: seen chunk by chunk, never held (law 6). It stands between the two
 * connections, so that the primary's end of it can break without taking the client's, which still needs an answer.
 */
import { type Readable, Transform } from 'node:stream'
import { finished } from 'node:stream/promises'
import { gatherBytes } from '../src/gathered-bytes.ts'
import { OciError } from '../src/oci/errors.ts'
import { UpstreamError } from '../src/upstream/errors.ts'
import type { Exchange } from './exchange.ts'

export interface UploadBodyOptions {
  /** No byte for this long ends the request. */
  readonly idleMs: number
  /** Sees every chunk before it goes on; a promise holds the body back, a throw ends the request with that error. */
  readonly onBytes: (bytes: Buffer) => Promise<void> | undefined
}

/**
 * The request's body for `forward()`; undefined when it has none. It fails with an `OciError` of ours (a limit, a client
 * that stalls), an `UpstreamError` (a primary that stalls), or because the client left; it ends with the exchange.
 */
export function uploadBody(exchange: Exchange, options: UploadBodyOptions): Readable | undefined {
  const { request, response } = exchange
  const { 'transfer-encoding': chunked, 'content-length': length = '0' } = request.headers
  if (chunked === undefined && length === '0') return undefined
  const body = new Transform({
    transform(bytes: Buffer, _encoding, done) {
      idle.refresh()
      try {
        const held = options.onBytes(bytes)
        // Clients choose how small their chunks are, so one that is not held back costs no turn of the loop.
        if (held !== undefined) held.then(() => done(null, bytes), done)
        else done(null, bytes)
      } catch (error) {
        done(asError(error))
      }
    },
  })
  const idle = setTimeout(() => body.destroy(stalled(body, options.idleMs)), options.idleMs)
  idle.unref()
  response.once('close', () => {
    if (request.complete) body.destroy()
    else body.destroy(new UpstreamError('aborted', 'the client left in the middle of its body'))
  })
  // Its reader learns of the failure too; this listener only keeps a late one from ending the process.
  body.on('error', () => undefined)
  body.once('close', () => {
    clearTimeout(idle)
    request.unpipe(body)
  })
  return request.pipe(body)
}

/** A whole body of at most `limitBytes`. Throws what `tooLarge` makes, and as `uploadBody` fails. */
export async function wholeBody(
  exchange: Exchange,
  options: { readonly limitBytes: number; readonly idleMs: number; readonly tooLarge: () => OciError },
): Promise<Buffer> {
  const { request, response } = exchange
  const gathered = gatherBytes(options.limitBytes)
  const onBytes = (bytes: Buffer): undefined => {
    if (!gathered.add(bytes)) throw options.tooLarge()
  }
  try {
    if (Number(request.headers['content-length']) > options.limitBytes) throw options.tooLarge()
    const body = uploadBody(exchange, { idleMs: options.idleMs, onBytes })
    if (body) await finished(body.resume(), { cleanup: true })
  } catch (error) {
    // What is left of the body is never read, so the connection cannot be used again.
    response.shouldKeepAlive = false
    throw error
  }
  return gathered.whole()
}

function asError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown))
}

function stalled(body: Transform, idleMs: number): Error {
  const seconds = Math.round(idleMs / 1000)
  // Bytes wait to be read exactly when it is the primary that does not take them.
  if (body.readableLength > 0) {
    return new UpstreamError('unavailable', `the primary took no byte of an upload for ${seconds} s`, {
      timedOut: true,
    })
  }
  return new OciError('BLOB_UPLOAD_INVALID', {
    status: 408,
    message: `no byte of the body came for ${seconds} s`,
  })
}
