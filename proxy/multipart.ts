/**
 * How a body is cut by the ranges asked for: whole, one range, or `multipart/byteranges`, which podman asks for when it
 * pulls zstd:chunked layers. https://www.rfc-editor.org/rfc/rfc9110#section-14.6
 */
import { randomBytes } from 'node:crypto'
import { type ByteRange, formatContentRange, type RangeRequest } from '../src/oci/ranges.ts'

export interface Part {
  /** Written before the part's bytes. */
  readonly preamble: string
  readonly start: number
  /** Exclusive. */
  readonly end: number
}

export interface Multipart {
  readonly status: 200 | 206
  readonly headers: Readonly<Record<string, string>>
  readonly parts: readonly Part[]
  readonly epilogue: string
}

export function multipartOf(
  wanted: Exclude<RangeRequest, { kind: 'unsatisfiable' }>,
  sizeBytes: number,
): Multipart {
  // Ranges that overlap must not make a short request cost more than the blob (RFC 9110, 14.2 and 17.15).
  if (wanted.kind === 'whole' || lengthOf(wanted.ranges) > sizeBytes) {
    const headers = { 'content-length': String(sizeBytes) }
    return { status: 200, headers, parts: [{ preamble: '', start: 0, end: sizeBytes }], epilogue: '' }
  }
  const [first] = wanted.ranges
  if (first && wanted.ranges.length === 1) {
    const headers = {
      'content-range': formatContentRange(first, sizeBytes),
      'content-length': String(first.end - first.start + 1),
    }
    return {
      status: 206,
      headers,
      parts: [{ preamble: '', start: first.start, end: first.end + 1 }],
      epilogue: '',
    }
  }
  const boundary = randomBytes(16).toString('hex')
  const parts = wanted.ranges.map((range, position) => ({
    preamble:
      `${position === 0 ? '' : '\r\n'}--${boundary}\r\ncontent-type: application/octet-stream\r\n` +
      `content-range: ${formatContentRange(range, sizeBytes)}\r\n\r\n`,
    start: range.start,
    end: range.end + 1,
  }))
  const epilogue = `\r\n--${boundary}--\r\n`
  const length = parts.reduce((sum, { preamble, start, end }) => sum + preamble.length + end - start, 0)
  return {
    status: 206,
    headers: {
      'content-type': `multipart/byteranges; boundary=${boundary}`,
      'content-length': String(length + epilogue.length),
    },
    parts,
    epilogue,
  }
}

function lengthOf(ranges: readonly ByteRange[]): number {
  return ranges.reduce((sum, { start, end }) => sum + end - start + 1, 0)
}
