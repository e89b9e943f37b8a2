/**
 * Whether a primary's answer to a read may be passed on as it stands (law 5). An ingress's 404 page, a sign-in page
 * with status 200 or a 5xx is not the registry's word, and must not reach a client as if it were.
 */
import type { Readable } from 'node:stream'
import { errorCodesOf, OciError } from '../src/oci/errors.ts'
import { headerValue } from '../src/oci/headers.ts'
import { UpstreamError } from '../src/upstream/errors.ts'
import type { ForwardAnswer } from '../src/upstream/upstream.ts'

/** What the specification lets a registry say when something does not exist. */
const ABSENT_CODES: readonly string[] = ['MANIFEST_UNKNOWN', 'BLOB_UNKNOWN', 'NAME_UNKNOWN']
/** Statuses whose meaning depends on the body; any other is passed on with it. */
const JUDGED: readonly number[] = [401, 403, 404, 429]
const ERROR_BODY_MAX_BYTES = 64 * 1024

/** Throws `UpstreamError` or `OciError` for what must not be passed on; a HEAD's 404 has no body and is passed on (law 4). */
export async function judgeRead(method: string | undefined, answer: ForwardAnswer): Promise<void> {
  const { status } = answer
  const contentType = headerValue(answer.headers, 'content-type') ?? ''
  const retryAfter = headerValue(answer.headers, 'retry-after')
  if (status >= 500) {
    answer.body.destroy()
    throw new UpstreamError('unavailable', `the primary answered ${status}`, { status, retryAfter })
  }
  if (status === 200 && contentType.startsWith('text/')) {
    answer.body.destroy()
    throw new UpstreamError('faulty', `the primary answered with ${contentType}: is upstream.url a registry?`)
  }
  if (status === 416) {
    answer.body.destroy()
    // Distribution 2.8 gives its one line the Content-Length of the whole blob and then hangs up.
    throw new OciError('RANGE_INVALID', { headers: rangeHeaders(answer) })
  }
  if (method === 'HEAD' || !JUDGED.includes(status)) return
  const body = await readLimited(answer.body)
  const options = { status, body, retryAfter }
  switch (status) {
    case 401:
      throw new UpstreamError('unauthorized', 'the primary did not accept the token', options)
    case 403:
      throw new UpstreamError('denied', 'the primary denied it', options)
    case 404:
      throw errorCodesOf(body).some((code) => ABSENT_CODES.includes(code))
        ? new UpstreamError('absent', 'the primary does not have it', options)
        : new UpstreamError('faulty', 'the primary answered 404 in words that are no registry’s', options)
    case 429:
      throw new UpstreamError('limited', 'the primary asks to wait', options)
  }
}

function rangeHeaders(answer: ForwardAnswer): Record<string, string> {
  const size = headerValue(answer.headers, 'content-range')
  return size === undefined ? {} : { 'content-range': size }
}

async function readLimited(body: Readable): Promise<Buffer> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of body as AsyncIterable<Buffer>) {
    length += chunk.length
    if (length > ERROR_BODY_MAX_BYTES) break // Leaving the loop destroys the body.
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}
