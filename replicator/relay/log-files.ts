/**
 * The segments of an open log. Records are appended to the newest at a known place and synced; a write that fails leaves
 * what was there, and is undone before anything else is written.
 */
import { type FileHandle, open, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { ignoring, isAbsent, syncFolder } from '../../src/store/durable-files.ts'
import { entryLine, LINE_LIMIT_BYTES, type LogEntry } from './log-format.ts'
import { createSegment } from './log-recovery.ts'
import { markBefore, markRecord, type PageLimits, readSegment, type Segment } from './log-segment.ts'

/** The part of an open file that is written with; tests put a failing disk in its place. */
export type WritableFile = Pick<FileHandle, 'write' | 'datasync' | 'truncate' | 'stat' | 'close'>
export type OpenFile = (path: string) => Promise<WritableFile>

export interface LogFiles {
  readonly first: number
  readonly last: number
  readonly bytes: number
  /** Durable when it resolves with the bytes written; when it rejects nothing of it is in the log. One at a time. */
  append(entries: readonly LogEntry[]): Promise<number>
  /** Undefined when what follows `after` is not here any longer. Throws `RelayLogDamagedError`. */
  read(after: number, limits: PageLimits): Promise<readonly LogEntry[] | undefined>
  /** Log time at which the record was taken, or shortly before; undefined when nothing is known of it. */
  atMs(number: number): number | undefined
  /** Removes the oldest segment as long as it is not the newest and `isUnneeded`. One at a time. */
  retain(isUnneeded: (segment: Segment, totalBytes: number) => boolean): Promise<void>
  close(): Promise<void>
}

export interface LogFilesOptions {
  readonly segmentBytes: number
  readonly openFile?: OpenFile | undefined
}

/** The folder's files are no longer this log's alone: nothing is written any more until the relay starts again. */
class ForeignChangeError extends Error {
  override readonly name = 'ForeignChangeError'
}

const openForWriting: OpenFile = (path) => open(path, 'r+')

/** `segments` is what was recovered; it is owned from here on. */
export function createLogFiles(
  folder: string,
  segments: Segment[],
  { segmentBytes, openFile = openForWriting }: LogFilesOptions,
): LogFiles {
  let file: WritableFile | undefined
  let isSuspect = false
  let foreignChange: ForeignChangeError | undefined

  const oldest = () => segmentAt(segments, 0)
  const newest = () => segmentAt(segments, segments.length - 1)
  const totalBytes = () => segments.reduce((sum, { bytes }) => sum + bytes, 0)

  async function append(entries: readonly LogEntry[]): Promise<number> {
    if (foreignChange) throw foreignChange
    if (isSuspect) await undo(newest())
    if (newest().bytes >= segmentBytes && newest().last > newest().header.after) await beginSegment()
    const segment = newest()
    const lines = entries.map((entry) => Buffer.from(entryLine({ ...entry, durable: segment.last })))
    const bytes = Buffer.concat(lines)
    file ??= await openFile(segment.path)
    await expectOurs(segment, file)
    try {
      await writeWhole(file, bytes, segment.bytes)
      await file.datasync()
    } catch (error) {
      isSuspect = true
      // Room that is missing is given back at once; what cannot be undone now is tried again by the next append.
      await undo(segment).catch(() => undefined)
      throw error
    }
    for (const [index, entry] of entries.entries()) {
      markRecord(segment, entry, segment.bytes)
      segment.bytes += lines[index]?.length ?? 0
    }
    return bytes.length
  }

  async function beginSegment(): Promise<void> {
    const { header, last, lastAtMs } = newest()
    const next = await createSegment(folder, { log: header.log, after: last, atMs: lastAtMs })
    const previous = file
    file = undefined
    segments.push(next)
    await previous?.close()
  }

  /** By the file opened anew: an old descriptor may have had its say about an error already. */
  async function undo(segment: Segment): Promise<void> {
    await file?.close().catch(() => undefined)
    file = undefined
    const again = await openFile(segment.path)
    file = again
    await again.truncate(segment.bytes)
    await again.datasync()
    isSuspect = false
  }

  async function expectOurs(segment: Segment, writable: WritableFile): Promise<void> {
    const { size, nlink } = await writable.stat()
    if (nlink > 0 && size === segment.bytes) return
    foreignChange = new ForeignChangeError(
      `${segment.path} was changed by somebody else: is another relay running on this folder? ` +
        'Let only one run, and start it again: the log is checked then',
    )
    throw foreignChange
  }

  async function read(after: number, limits: PageLimits): Promise<readonly LogEntry[] | undefined> {
    const segment = segments.findLast(({ header }) => header.after <= after)
    if (segment === undefined || after > newest().last) return undefined
    // A page ends with its segment: the next one is asked for soon enough.
    const holding = after === segment.last ? segments[segments.indexOf(segment) + 1] : segment
    if (holding === undefined) return []
    try {
      return await readSegment(holding, after, limits)
    } catch (error) {
      if (isAbsent(error) && holding !== newest()) return undefined
      throw error
    }
  }

  async function retain(isUnneeded: (segment: Segment, totalBytes: number) => boolean): Promise<void> {
    while (segments.length > 1 && isUnneeded(oldest(), totalBytes())) {
      const { path } = oldest()
      // One by one, and only then the next: a hole in the row after a crash would be taken for damage.
      await unlink(path).catch(ignoring('ENOENT'))
      await syncFolder(dirname(path))
      segments.shift()
    }
  }

  return {
    get first() {
      return oldest().header.after + 1
    },
    get last() {
      return newest().last
    },
    get bytes() {
      return totalBytes()
    },
    append,
    read,
    atMs: (number) => {
      const segment = segments.findLast(({ header }) => header.after < number)
      return segment && markBefore(segment, number)?.atMs
    },
    retain,
    close: async () => {
      await file?.close()
      file = undefined
    },
  }
}

function segmentAt(segments: readonly Segment[], index: number): Segment {
  const segment = segments[index]
  if (segment === undefined) throw new Error('a log always has a segment')
  return segment
}

async function writeWhole(file: WritableFile, bytes: Buffer, position: number): Promise<void> {
  let written = 0
  while (written < bytes.length) {
    const { bytesWritten } = await file.write(bytes, written, bytes.length - written, position + written)
    if (bytesWritten === 0) throw new Error('the disk takes no more bytes')
    written += bytesWritten
  }
}

/** Whether a notice of this JSON fits into a line; longer ones could not be read back. */
export function fitsLine(notice: string): boolean {
  return Buffer.byteLength(notice) < LINE_LIMIT_BYTES - 256
}
