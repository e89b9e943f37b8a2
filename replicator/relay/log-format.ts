/**
 * The lines of the relay's log: JSON, each with a version and, as its first field, a checksum of all that follows. A line
 * that does not match its checksum says nothing; what is read back is what was written.
 */
import { crc32 } from 'node:zlib'

/** Of every line. Another one is another program's: nothing of it is read, and nothing of it is overwritten. */
const VERSION = 1
/** `{"crc":"01234567",` */
const SEAL_BYTES = 18
const SEAL = /^\{"crc":"([0-9a-f]{8})",$/
const RECORD = /^"v":1,"atMs":(\d{1,15}),"durable":(\d{1,15}),"record":(\{"number":(\d{1,15}),.+\})\}$/
const HEADER = /^"v":(\d+),"log":"([0-9a-f-]{36})","after":(\d{1,15}),"atMs":(\d{1,15})\}$/
const CLOCK = /^"v":1,"clock":"([0-9a-f-]{36})","atMs":(\d{1,15}),"last":(\d{1,15})\}$/

/** No line is longer: what is, is garbage. A notice is at most a tenth of it. */
export const LINE_LIMIT_BYTES = 64 * 1024

/** The log cannot be used as it lies; the message says where, and what to do. */
export class RelayLogDamagedError extends Error {
  override readonly name = 'RelayLogDamagedError'

  constructor(what: string, options: ErrorOptions = {}) {
    super(
      `the relay's log is damaged: ${what}. Bring back the folder as it was, or move it away: ` +
        'the relay then begins another log, and every site compares everything once',
      options,
    )
  }
}

/** One record as it is kept. */
export interface LogEntry {
  readonly number: number
  /** Log time when it was taken. */
  readonly atMs: number
  /** The `LogRecord` as JSON, as it is sent to sites. */
  readonly text: string
}

export interface StoredEntry extends LogEntry {
  /** Up to here all was on disk when this was written: what stands behind it was acknowledged. */
  readonly durable: number
}

/** The first line of every segment. */
export interface SegmentHeader {
  readonly log: string
  /** The last number of the segments before. */
  readonly after: number
  /** Log time when it was begun. */
  readonly atMs: number
}

/** What is written every second beside the segments: a hint, but a true one. */
export interface SavedClock {
  readonly log: string
  readonly atMs: number
  /** The last number that was acknowledged by then. */
  readonly last: number
}

export function recordText(number: number, notice: string): string {
  return `{"number":${number},"notice":${notice}}`
}

export function entryLine({ atMs, durable, text }: StoredEntry): string {
  return seal(`"v":${VERSION},"atMs":${atMs},"durable":${durable},"record":${text}}`)
}

export function headerLine({ log, after, atMs }: SegmentHeader): string {
  return seal(`"v":${VERSION},"log":"${log}","after":${after},"atMs":${atMs}}`)
}

export function clockLine({ log, atMs, last }: SavedClock): string {
  return seal(`"v":${VERSION},"clock":"${log}","atMs":${atMs},"last":${last}}`)
}

/** Of a line without its end; undefined when it is no whole record. */
export function readEntry(line: Buffer): StoredEntry | undefined {
  const [, atMs, durable, text, number] = RECORD.exec(unseal(line)) ?? []
  if (text === undefined) return undefined
  return { number: Number(number), atMs: Number(atMs), durable: Number(durable), text }
}

/** Undefined when it is none. Throws where another version wrote it. */
export function readHeader(line: Buffer): SegmentHeader | undefined {
  const body = unseal(line)
  const version = /^"v":(\d+),/.exec(body)?.[1]
  if (version !== undefined && Number(version) !== VERSION) {
    throw new Error(
      `the relay's log was written by another version of geo-registry (format ${version}, this one knows ${VERSION}): ` +
        'start that version, or move the folder away: the relay then begins another log, and every site compares everything once',
    )
  }
  const [, , log, after, atMs] = HEADER.exec(body) ?? []
  return log === undefined ? undefined : { log, after: Number(after), atMs: Number(atMs) }
}

export function readClock(line: Buffer): SavedClock | undefined {
  const [, log, atMs, last] = CLOCK.exec(unseal(line)) ?? []
  return log === undefined ? undefined : { log, atMs: Number(atMs), last: Number(last) }
}

function seal(fields: string): string {
  return `{"crc":"${checksum(fields)}",${fields}\n`
}

/** What the checksum stands for; empty when it does not match. */
function unseal(line: Buffer): string {
  const said = SEAL.exec(line.toString('latin1', 0, SEAL_BYTES))?.[1]
  if (said === undefined || said !== checksum(line.subarray(SEAL_BYTES))) return ''
  return line.toString('utf8', SEAL_BYTES)
}

function checksum(of: string | Buffer): string {
  return crc32(of).toString(16).padStart(8, '0')
}
