/**
 * A primary that serves blobs from memory over real sockets, records what it was asked and as whom, and can be told
 * how to answer: refuse, cut, stall, lie, ignore ranges.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { errorBody } from '../../src/oci/errors.ts'
import { parseAskedRanges, resolveRanges } from '../../src/oci/ranges.ts'
import type { RepositoryName } from '../../src/oci/reference.ts'
import { listenHttp } from '../support/http-listener.ts'

export interface BlobRequest {
  readonly method: string
  readonly name: string
  readonly digest: string
  readonly authorization: string | undefined
  /** First and last byte asked for, where a range was. */
  readonly range: readonly [number, number] | undefined
  /** How many requests came before it. */
  readonly number: number
}

export interface Manner {
  /** Answered with this status and OCI code, and nothing else. */
  readonly refuse?: readonly [status: number, code: string]
  /** The whole blob with 200, whatever range was asked for. */
  readonly ignoreRange?: boolean
  /** The connection is reset after this many bytes of the body. */
  readonly cutAfter?: number
  /** The body pauses after this many bytes until the promise resolves. */
  readonly pause?: { readonly after: number; readonly until: Promise<unknown> }
  /** The head is sent only when this resolves. */
  readonly before?: Promise<unknown>
  /** The byte at this position of the blob is inverted. */
  readonly wrongByteAt?: number
}

export interface BlobPrimary extends AsyncDisposable {
  readonly origin: string
  readonly requests: readonly BlobRequest[]
  /** GETs of the blob. */
  gets(digest?: Digest): readonly BlobRequest[]
  hold(names: readonly RepositoryName[], bytes: Buffer, algorithm?: 'sha256' | 'sha512'): Digest
  /** How requests are answered from now on; undefined: honestly. */
  answer(manner: (request: BlobRequest) => Manner | undefined): void
  /** The body of the first GET from now on stops after so many bytes, for good or until the returned function is called. */
  pauseFirst(after: number): () => void
  stop(): Promise<void>
  start(): Promise<void>
}

export async function startBlobPrimary(): Promise<BlobPrimary> {
  const held = new Map<string, Buffer>()
  const requests: BlobRequest[] = []
  let mannerOf: (request: BlobRequest) => Manner | undefined = () => undefined
  const listener = await listenHttp((request, response) => void serve(request, response))

  async function serve(message: IncomingMessage, response: ServerResponse): Promise<void> {
    const [, name = '', digest = ''] = /^\/v2\/(.+)\/blobs\/([^/]+)$/.exec(message.url ?? '') ?? []
    const bytes = held.get(`${name} ${digest}`)
    const asked = parseAskedRanges(message.headers.range)
    const wanted = resolveRanges(asked, bytes?.length ?? 0)
    const only = wanted.kind === 'ranges' ? wanted.ranges[0] : undefined
    const request: BlobRequest = {
      method: message.method ?? '',
      name,
      digest,
      authorization: message.headers.authorization,
      range: only && [only.start, only.end],
      number: requests.length,
    }
    requests.push(request)
    const manner = mannerOf(request) ?? {}
    await manner.before
    if (manner.refuse) return refuse(response, ...manner.refuse)
    if (!bytes) return refuse(response, 404, 'BLOB_UNKNOWN')
    if (wanted.kind === 'unsatisfiable' && !manner.ignoreRange) {
      return void response.writeHead(416, { 'content-length': '0' }).end()
    }
    const [start, end] = only && !manner.ignoreRange ? [only.start, only.end + 1] : [0, bytes.length]
    const isPart = only && !manner.ignoreRange
    response.writeHead(isPart ? 206 : 200, {
      'content-length': String(end - start),
      'docker-content-digest': digest,
      ...(isPart && { 'content-range': `bytes ${start}-${end - 1}/${bytes.length}` }),
    })
    if (request.method === 'HEAD') return void response.end()
    await sendBody(response, lied(bytes, manner.wrongByteAt).subarray(start, end), manner)
  }

  return {
    origin: listener.url,
    requests,
    gets: (digest) => requests.filter((one) => one.method === 'GET' && (!digest || one.digest === digest)),
    hold(names, bytes, algorithm) {
      const digest = digestOf(bytes, algorithm)
      for (const name of names) held.set(`${name} ${digest}`, bytes)
      return digest
    },
    answer(manner) {
      mannerOf = manner
    },
    pauseFirst(after) {
      const gate = Promise.withResolvers<void>()
      let isFirst = true
      mannerOf = ({ method }) => {
        if (method !== 'GET' || !isFirst) return undefined
        isFirst = false
        return { pause: { after, until: gate.promise } }
      }
      return gate.resolve
    },
    stop: listener.stop,
    start: listener.start,
    [Symbol.asyncDispose]: listener.stop,
  }
}

async function sendBody(response: ServerResponse, body: Buffer, { pause, cutAfter }: Manner): Promise<void> {
  if (pause) {
    response.write(body.subarray(0, pause.after))
    await pause.until
    response.end(body.subarray(pause.after))
  } else if (cutAfter !== undefined && cutAfter < body.length) {
    // Ended by FIN and not by a reset, which would take what is still on its way.
    response.flushHeaders()
    response.write(body.subarray(0, cutAfter), () => response.socket?.end())
    if (cutAfter === 0) response.socket?.end()
  } else {
    response.end(body)
  }
}

function lied(bytes: Buffer, wrongByteAt: number | undefined): Buffer {
  if (wrongByteAt === undefined) return bytes
  const copy = Buffer.from(bytes)
  copy.writeUInt8(copy.readUInt8(wrongByteAt) ^ 0xff, wrongByteAt)
  return copy
}

function refuse(response: ServerResponse, status: number, code: string): void {
  const body = errorBody(code, code.toLowerCase())
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': String(body.length) })
  response.end(body)
}
