/**
 * One file of the log: a header, then records with rising numbers. Its name is the number before its first, so that the
 * order of files is the order of records.
 */
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import {
  type LogEntry,
  RelayLogDamagedError,
  readEntry,
  readHeader,
  type SegmentHeader,
} from './log-format.ts'
import { type Line, type ReadableFile, readLines } from './log-lines.ts'

export interface Segment {
  readonly path: string
  readonly header: SegmentHeader
  /** Of its records; that of the header where there are none. */
  last: number
  lastAtMs: number
  /** Of what is on disk for good. */
  bytes: number
  /** Where and when some of the records begin, so that a page does not read the file from its start. */
  readonly marks: Mark[]
}

interface Mark {
  readonly number: number
  readonly atMs: number
  readonly offset: number
}

export interface PageLimits {
  readonly limitRecords: number
  /** Of the records' JSON; a single record may be more. */
  readonly limitBytes: number
}

/** A place where the records end although the file does not. */
export interface Fault {
  readonly offset: number
  /** The number that should stand there. */
  readonly number: number
  /** A record behind it says that everything up to here had been on disk. */
  readonly durable: number
}

const MARK_EVERY_BYTES = 64 * 1024
const MARK_EVERY_MS = 10_000
const NAME = /^(\d{16})\.log$/

export function segmentPath(folder: string, after: number): string {
  return join(folder, `${String(after).padStart(16, '0')}.log`)
}

export function isSegmentName(name: string): boolean {
  return NAME.test(name)
}

export function emptySegment(path: string, header: SegmentHeader, bytes: number): Segment {
  return { path, header, last: header.after, lastAtMs: header.atMs, bytes, marks: [] }
}

/** A record that begins at `offset` has become part of the segment. */
export function markRecord(segment: Segment, { number, atMs }: LogEntry, offset: number): void {
  const previous = segment.marks.at(-1)
  const isFar = previous === undefined || offset - previous.offset >= MARK_EVERY_BYTES
  if (isFar || atMs - previous.atMs >= MARK_EVERY_MS) segment.marks.push({ number, atMs, offset })
  segment.last = number
  segment.lastAtMs = atMs
}

/** The nearest mark at or before a record of the segment. */
export function markBefore({ marks }: Segment, number: number): Mark | undefined {
  let low = 0
  let high = marks.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((marks[middle]?.number ?? Number.POSITIVE_INFINITY) <= number) low = middle + 1
    else high = middle
  }
  return marks[low - 1]
}

/** Reads a segment whole and checks every record. Throws `RelayLogDamagedError` where it has no header. */
export async function scanSegment(
  path: string,
  onEntry: (entry: LogEntry) => void,
): Promise<{ readonly segment: Segment; readonly fault: Fault | undefined }> {
  await using file = await open(path, 'r')
  const { size } = await file.stat()
  let segment: Segment | undefined
  let fault: Fault | undefined
  for await (const lines of readLines(file, 0, size)) {
    for (const line of lines) {
      if (segment === undefined) {
        segment = headed(path, line)
        continue
      }
      const entry = line.isWhole ? readEntry(line.bytes) : undefined
      if (fault === undefined && entry?.number === segment.last + 1) {
        markRecord(segment, entry, line.offset)
        segment.bytes = line.end
        onEntry(entry)
        continue
      }
      fault ??= { offset: line.offset, number: segment.last + 1, durable: 0 }
      fault = { ...fault, durable: Math.max(fault.durable, entry?.durable ?? 0) }
    }
  }
  if (segment === undefined) throw new RelayLogDamagedError(`${path} is empty`)
  return { segment, fault }
}

function headed(path: string, line: Line): Segment {
  const header = line.isWhole ? readHeader(line.bytes) : undefined
  if (header === undefined) throw new RelayLogDamagedError(`${path} does not begin as a segment of it does`)
  return emptySegment(path, header, line.end)
}

/** What follows a number in this segment, within the limits: at least one record where there is one. */
export async function readSegment(segment: Segment, after: number, limits: PageLimits): Promise<LogEntry[]> {
  await using file = await open(segment.path, 'r')
  return await readEntries(file, segment, after, limits)
}

async function readEntries(
  file: ReadableFile,
  segment: Segment,
  after: number,
  { limitRecords, limitBytes }: PageLimits,
): Promise<LogEntry[]> {
  const entries: LogEntry[] = []
  const start = markBefore(segment, after + 1)
  if (start === undefined) return entries
  let expected = start.number
  let bytes = 0
  for await (const lines of readLines(file, start.offset, segment.bytes)) {
    for (const line of lines) {
      const entry = line.isWhole ? readEntry(line.bytes) : undefined
      if (entry?.number !== expected) {
        throw new RelayLogDamagedError(
          `record ${expected} can no longer be read at byte ${line.offset} of ${segment.path}`,
        )
      }
      expected += 1
      if (entry.number <= after) continue
      bytes += entry.text.length
      if (entries.length > 0 && bytes > limitBytes) return entries
      entries.push(entry)
      if (entries.length >= limitRecords) return entries
    }
  }
  return entries
}
