/** Whether an answer brings the part of a blob that was asked for, and how much of it. */
import { type HeaderFields, headerValue } from '../oci/headers.ts'
import { parseContentRange } from '../oci/ranges.ts'
import { UpstreamError } from './errors.ts'
import type { ArrivingBlob, ForwardAnswer } from './upstream.ts'

export interface AskedBytes {
  readonly startByte: number
  /** Inclusive; to the end when undefined. */
  readonly endByte: number | undefined
}

/** The body of a 200 or 206 with its place in the blob. Throws `faulty`, and cuts the body, where they contradict. */
export function arrivingBlob(answer: ForwardAnswer, asked: AskedBytes | undefined): ArrivingBlob {
  const { body } = answer
  const place = answer.status === 206 ? partial(answer.headers, asked) : whole(answer.headers)
  if (typeof place !== 'string') return { ...place, body }
  const fault = new UpstreamError('faulty', place, { status: answer.status })
  body.destroy(fault)
  throw fault
}

type Place = Omit<ArrivingBlob, 'body'>

function whole(headers: HeaderFields): Place | string {
  const sizeBytes = contentLength(headers)
  if (sizeBytes === undefined) return 'a blob without a Content-Length'
  return { offset: 0, endOffset: sizeBytes, sizeBytes }
}

function partial(headers: HeaderFields, asked: AskedBytes | undefined): Place | string {
  const range = parseContentRange(headerValue(headers, 'content-range'))
  if (!asked || !range) return 'a partial answer without a range'
  if (range.start !== asked.startByte || (asked.endByte !== undefined && range.end > asked.endByte)) {
    return `asked for bytes ${asked.startByte}-${asked.endByte ?? ''}, got ${range.start}-${range.end}`
  }
  const endOffset = range.end + 1
  // The length is what the connection is held to, so it must be there and fit the range.
  if (contentLength(headers) !== endOffset - range.start) return 'a range and a Content-Length that differ'
  return { offset: range.start, endOffset, sizeBytes: range.sizeBytes }
}

/** Undefined where it is not told or is no number. */
export function contentLength(headers: HeaderFields): number | undefined {
  const text = headerValue(headers, 'content-length')
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined
}
