/**
 * Byte ranges: what a client asks of a blob (`Range`), what a registry answers (`Content-Range`, and the `Range` of an
 * upload, which has no unit). https://www.rfc-editor.org/rfc/rfc9110#section-14
 */
export interface ByteRange {
  readonly start: number
  /** Inclusive, as on the wire. */
  readonly end: number
}

/**
 * `whole`: no range, or one that cannot be read and is ignored (RFC 9110, 14.2). `unsatisfiable`: 416. Ranges come back
 * clamped to the size, in the order they were asked for.
 */
export type RangeRequest =
  | { readonly kind: 'whole' }
  | { readonly kind: 'unsatisfiable' }
  | { readonly kind: 'ranges'; readonly ranges: readonly ByteRange[] }

/** One range as asked for, before the size is known. `start` undefined: the last `end` bytes. */
export interface AskedRange {
  readonly start: number | undefined
  readonly end: number | undefined
}

/** More than this is an attack or a mistake; Go's file server also gives up on many small ranges. */
const MAX_RANGES = 64
const SPEC = /^(?:(\d{1,15})-(\d{0,15})|-(\d{1,15}))$/

/** The ranges of a header as written, or undefined when there are none that can be read. */
export function parseAskedRanges(header: string | undefined): AskedRange[] | undefined {
  if (header === undefined || !header.startsWith('bytes=')) return undefined
  const specs = header.slice(6).split(',')
  if (specs.length > MAX_RANGES) return undefined
  const asked: AskedRange[] = []
  for (const spec of specs) {
    const match = SPEC.exec(spec.trim())
    if (!match) return undefined
    const [, first, last, suffix] = match
    if (suffix !== undefined) asked.push({ start: undefined, end: Number(suffix) })
    else asked.push({ start: Number(first), end: last === '' ? undefined : Number(last) })
  }
  return asked
}

/**
 * Whether one of them ends before it begins. RFC 9110 (14.2) lets a server ignore or reject such a header; registries
 * reject it with 416, and conformance suites count the whole blob as a missing feature.
 */
export function isReversed(asked: readonly AskedRange[] | undefined): boolean {
  return asked?.some(({ start, end }) => start !== undefined && end !== undefined && end < start) ?? false
}

export function resolveRanges(asked: readonly AskedRange[] | undefined, sizeBytes: number): RangeRequest {
  if (!asked) return { kind: 'whole' }
  if (isReversed(asked)) return { kind: 'unsatisfiable' }
  const ranges: ByteRange[] = []
  for (const { start, end } of asked) {
    if (start === undefined) {
      const length = Math.min(end ?? 0, sizeBytes)
      if (length > 0) ranges.push({ start: sizeBytes - length, end: sizeBytes - 1 })
    } else if (start < sizeBytes) {
      ranges.push({ start, end: Math.min(end ?? sizeBytes - 1, sizeBytes - 1) })
    }
  }
  return ranges.length === 0 ? { kind: 'unsatisfiable' } : { kind: 'ranges', ranges }
}

/** `bytes 0-99/1000` of an answer; undefined when malformed or the size is not told. */
export function parseContentRange(
  header: string | undefined,
): (ByteRange & { readonly sizeBytes: number }) | undefined {
  const match = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15})$/.exec(header ?? '')
  if (!match) return undefined
  const [start, end, sizeBytes] = [Number(match[1]), Number(match[2]), Number(match[3])]
  return start <= end && end < sizeBytes ? { start, end, sizeBytes } : undefined
}

export function formatContentRange(range: ByteRange, sizeBytes: number): string {
  return `bytes ${range.start}-${range.end}/${sizeBytes}`
}

/** `0-1023` as an upload's `Range` answer or `Content-Range` request has it; undefined when malformed. */
export function parseUploadRange(header: string | undefined): ByteRange | undefined {
  const match = /^(?:bytes[= ])?(\d{1,15})-(\d{1,15})(?:\/(?:\d+|\*))?$/.exec(header ?? '')
  return match ? { start: Number(match[1]), end: Number(match[2]) } : undefined
}
