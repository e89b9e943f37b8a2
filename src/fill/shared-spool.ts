/**
 * What followers in this process read of a blob that another one fetches: the spool of whoever fetches it now, and the
 * blob itself once it is published. The file may be another one by the next read; a reader notices nothing.
 */

import { read as readFd } from 'node:fs'
import { type FileHandle, open } from 'node:fs/promises'
import { promisify } from 'node:util'
import type { Digest } from '../oci/digest.ts'
import { type OpenBlob, StoreError } from '../store/blob-store.ts'
import { isAbsent } from '../store/durable-files.ts'
import { Segments } from './segments.ts'
import { type ReadableSpool, spoolError } from './spool.ts'

export interface SpoolSource {
  readonly held: Segments
  read(buffer: Buffer, length: number, position: number): Promise<number>
  /** Reads under way end first. */
  close(): void
}

export interface SharedSpool extends ReadableSpool {
  /** Everything is read from there from now on; the source before is closed. */
  use(source: SpoolSource): void
  release(): void
}

export function createSharedSpool(digest: Digest, sizeBytes: number): SharedSpool {
  let source: SpoolSource | undefined
  let users = 1

  function release(): void {
    users -= 1
    if (users === 0) source?.close()
  }

  return {
    digest,
    sizeBytes,
    release,
    get held() {
      return source?.held ?? new Segments()
    },
    async read(buffer, length, position) {
      if (!source) throw new StoreError('io', `spool of ${digest} is not open`)
      return source.read(buffer, length, position)
    },
    retain() {
      users += 1
      return release
    },
    use(next) {
      const before = source
      source = next
      before?.close()
    },
  }
}

/** The file of another process, with what it is told to hold. */
export interface TheirSpool extends SpoolSource {
  held: Segments
}

/** Undefined when it is not there: published or removed meanwhile. Throws `StoreError`. */
export async function openTheirSpool(digest: Digest, path: string): Promise<TheirSpool | undefined> {
  let file: FileHandle
  try {
    file = await open(path, 'r')
  } catch (error) {
    if (isAbsent(error)) return undefined
    throw spoolError(`spool of ${digest}`, error)
  }
  return {
    held: new Segments(),
    async read(buffer, length, position) {
      try {
        const { bytesRead } = await file.read(buffer, 0, length, position)
        if (bytesRead > 0) return bytesRead
      } catch (error) {
        throw spoolError(`read of the spool of ${digest}`, error)
      }
      throw new StoreError('io', `spool of ${digest} is shorter than what was said of it`)
    },
    // Waits for reads under way by itself. A descriptor that fails to close has nothing left that could be lost.
    close: () => void file.close().catch(() => undefined),
  }
}

const readAt = promisify(readFd)

/** The published blob, which is the source's from here on. */
export function blobSource(blob: OpenBlob): SpoolSource {
  const { fd, digest, sizeBytes } = blob
  let reads = 0
  let closed = false
  const closeWhenUnread = () => {
    if (closed && reads === 0) blob.close()
  }
  return {
    held: new Segments([[0, sizeBytes]]),
    async read(buffer, length, position) {
      reads += 1
      try {
        const { bytesRead } = await readAt(fd, buffer, 0, length, position)
        if (bytesRead > 0) return bytesRead
      } catch (error) {
        throw spoolError(`read of blob ${digest}`, error)
      } finally {
        reads -= 1
        closeWhenUnread()
      }
      throw new StoreError('io', `blob ${digest} is shorter than it was`)
    },
    close() {
      closed = true
      closeWhenUnread()
    },
  }
}
