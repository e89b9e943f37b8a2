/** A file read line by line, a chunk in memory at a time, whatever stands in it. */
import type { FileHandle } from 'node:fs/promises'
import { LINE_LIMIT_BYTES } from './log-format.ts'

/** What is read of a file; the same of one that is not written to. */
export type ReadableFile = Pick<FileHandle, 'read'>

export interface Line {
  /** Where it begins. */
  readonly offset: number
  /** Without its end. Valid until the next lines are asked for. */
  readonly bytes: Buffer
  /** Where the next one begins. */
  readonly end: number
  /** False: the file ends before the line does, or it is longer than any line of ours. */
  readonly isWhole: boolean
}

const NEWLINE = 0x0a

/**
 * The lines between two offsets, those of a chunk at once. `chunkBytes` (default 128 KiB) is more than the longest line.
 */
export async function* readLines(
  file: ReadableFile,
  from: number,
  to: number,
  chunkBytes: number = 2 * LINE_LIMIT_BYTES,
): AsyncGenerator<readonly Line[]> {
  const buffer = Buffer.allocUnsafe(chunkBytes)
  let held = 0
  let offset = from
  for (;;) {
    const wanted = Math.min(buffer.length - held, to - offset - held)
    const { bytesRead } = wanted > 0 ? await file.read(buffer, held, wanted, offset + held) : { bytesRead: 0 }
    held += bytesRead
    const lines: Line[] = []
    let start = 0
    for (let end = buffer.indexOf(NEWLINE); end !== -1 && end < held; end = buffer.indexOf(NEWLINE, start)) {
      const bytes = buffer.subarray(start, end)
      lines.push({ offset: offset + start, bytes, end: offset + end + 1, isWhole: true })
      start = end + 1
    }
    const isLast = bytesRead === 0
    const isTooLong = start === 0 && held > LINE_LIMIT_BYTES
    if (held > start && (isLast || isTooLong)) {
      const bytes = buffer.subarray(start, held)
      lines.push({ offset: offset + start, bytes, end: offset + held, isWhole: false })
      start = held
    }
    if (lines.length > 0) yield lines
    if (isLast) return
    buffer.copy(buffer, 0, start, held)
    held -= start
    offset += start
  }
}
