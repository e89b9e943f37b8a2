/**
 * A primary that takes uploads as the specification asks, chunk order and resumption included (Distribution 2.8 takes
 * chunks in any order), in memory, and that a test can make answer in other ways.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { digestOf, parseDigest } from '../../src/oci/digest.ts'
import { parseUploadRange } from '../../src/oci/ranges.ts'
import { listenHttp } from '../support/http-listener.ts'

export interface UploadPrimary extends AsyncDisposable {
  readonly url: string
  /** Every request, oldest first. */
  readonly seen: {
    readonly method: string
    readonly url: string
    readonly headers: IncomingMessage['headers']
  }[]
  /** Of the one session. */
  taken: Buffer
  /** Makes the Location of a session from its path. */
  location: (path: string) => string
  /** Answers in its place when it returns true. */
  instead: (request: IncomingMessage, response: ServerResponse) => boolean
}

const SESSION = '/v2/team/app/blobs/uploads/u-1'

export async function startUploadPrimary(): Promise<UploadPrimary> {
  const listener = await listenHttp((request, response) => {
    const { method = '', url = '', headers } = request
    primary.seen.push({ method, url, headers })
    if (!primary.instead(request, response)) void serve(request, response)
  })
  const primary: UploadPrimary = {
    url: listener.url,
    seen: [],
    taken: Buffer.alloc(0),
    location: (path) => path,
    instead: () => false,
    [Symbol.asyncDispose]: listener[Symbol.asyncDispose],
  }

  function answer(response: ServerResponse, status: number): void {
    response.writeHead(status, {
      location: primary.location(`${SESSION}?_state=${encodeURIComponent(`n+${primary.taken.length}=`)}`),
      range: `0-${Math.max(0, primary.taken.length - 1)}`,
      'content-length': '0',
    })
    response.end()
  }

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.method === 'POST') primary.taken = Buffer.alloc(0)
    const range = parseUploadRange(request.headers['content-range'])
    if (range && range.start !== primary.taken.length) return answer(response, 416)
    try {
      for await (const chunk of request) primary.taken = Buffer.concat([primary.taken, chunk])
    } catch {
      return // The sender broke off; what came is kept, as the specification has it.
    }
    if (request.method !== 'PUT') return answer(response, request.method === 'GET' ? 204 : 202)
    const digest = parseDigest(new URL(request.url ?? '', 'http://x').searchParams.get('digest') ?? '')
    answer(response, digest !== undefined && digestOf(primary.taken) === digest ? 201 : 400)
  }

  return primary
}
