/**
 * A blob on its way: a sparse file, and beside it a segment map that says which bytes of it are on the disk. The map
 * is written only after the data was synced, so after a kill or a power cut it never claims a byte that is not there;
 * what it does not claim is fetched again, at most `SYNC_BYTES` of it.
 */
import { access, type FileHandle, rename, unlink, writeFile } from 'node:fs/promises'
import type { Digest } from '../oci/digest.ts'
import { StoreError } from '../store/blob-store.ts'
import { ignoring, isAbsent, isErrorCode } from '../store/durable-files.ts'
import { Segments } from './segments.ts'

/**
 * What an interruption may cost at most: writes wait for the sync under way rather than let more than this be unsaved.
 * A sync begins at half of it, so that on a disk faster than the line no write ever waits.
 */
export const SYNC_BYTES: number = 64 * 1024 * 1024

export interface SpoolMap {
  readonly version: 1
  readonly digest: string
  readonly sizeBytes: number
  /** First byte, and one past the last; ascending. */
  readonly segments: readonly (readonly [number, number])[]
  readonly updatedAt: string
}

/** What followers see of a spool. */
export interface ReadableSpool {
  readonly digest: Digest
  readonly sizeBytes: number
  /** What can be read. */
  readonly held: Segments
  /** At least one byte of what is held. Throws `StoreError`. */
  read(buffer: Buffer, length: number, position: number): Promise<number>
  /** Keeps the file open until the returned function is called, once. Whoever made the spool retains it already. */
  retain(): () => void
}

/** `held` is what has been written; only `write` adds to it. */
export interface Spool extends ReadableSpool {
  /** The data file. */
  readonly path: string
  /** Throws `StoreError`, also for a sync in the background that failed: what it was to keep may be lost. */
  write(position: number, chunks: readonly Buffer[]): Promise<void>
  /** Makes everything written so far survive the process. Throws `StoreError`. */
  save(): Promise<void>
  /** The same, and leaves it to whoever resumes it: it must not be written any more. */
  keep(): Promise<void>
  /** As `keep`, where it is not so already: it was resumed and nothing came of it. */
  putBack(): Promise<void>
  /** Removes both files' names; whoever retains the spool can still read it. */
  discard(): Promise<void>
  release(): void
}

export interface SpoolOptions {
  readonly digest: Digest
  readonly sizeBytes: number
  readonly dataPath: string
  readonly mapPath: string
  /** Where the map lies once the spool is kept for others; undefined: where it lies already. */
  readonly keptPath?: string | undefined
  readonly segments: Iterable<readonly [number, number]>
  /** Runs syncs one after the other: more at a time would occupy the threads that readers are served by. */
  readonly inTurn: <T>(work: () => Promise<T>) => Promise<T>
}

/** Takes over the open file. */
export function createSpool(file: FileHandle, options: SpoolOptions): Spool {
  const { digest, sizeBytes, dataPath, mapPath } = options
  const held = new Segments(options.segments)
  let users = 1
  let writtenBytes = 0
  /** Of `writtenBytes`, what the map on the disk claims. */
  let savedBytes = 0
  let saving: Promise<void> | undefined
  let broken: StoreError | undefined
  let discarded = false

  async function writeMap(segments: SpoolMap['segments']): Promise<void> {
    const map: SpoolMap = { version: 1, digest, sizeBytes, segments, updatedAt: new Date().toISOString() }
    const temporary = temporaryOf(mapPath)
    await writeFile(temporary, JSON.stringify(map), { flush: true })
    await rename(temporary, mapPath)
  }

  async function save(): Promise<void> {
    while (saving !== undefined) await saving.catch(() => undefined) // Its failure is in `broken`, thrown below.
    if (broken) throw broken
    if (discarded) return
    saving = options.inTurn(async () => {
      // Taken before the sync: what is written while it runs is the next map's.
      const segments = held.list()
      const coveredBytes = writtenBytes
      await file.datasync()
      if (!discarded) await writeMap(segments)
      savedBytes = coveredBytes
    })
    try {
      await saving
    } catch (error) {
      broken = spoolError(`sync of the spool of ${digest}`, error)
      throw broken
    } finally {
      saving = undefined
    }
  }

  function release(): void {
    users -= 1
    // Waits for reads under way by itself. A descriptor that fails to close has nothing left that could be lost.
    if (users === 0) void file.close().catch(() => undefined)
  }

  async function keep(): Promise<void> {
    await save()
    if (!options.keptPath) return
    // One rename: another process sees it whole or not at all. Gone: another one has copied it meanwhile.
    await rename(mapPath, options.keptPath).catch(ignoring('ENOENT'))
    const isThere = await access(dataPath).then(
      () => true,
      (error: unknown) => !isAbsent(error),
    )
    if (!isThere) await removeSpool(options)
  }

  return {
    digest,
    sizeBytes,
    path: dataPath,
    held,
    save,
    keep,
    putBack: async () => {
      if (options.keptPath) await keep()
    },
    release,
    async write(position, chunks) {
      if (writtenBytes - savedBytes >= SYNC_BYTES) await saving?.catch(() => undefined) // In `broken`.
      if (broken) throw broken
      let end = position
      try {
        end = await writeWhole(file, chunks, position)
      } catch (error) {
        throw spoolError(`write to the spool of ${digest}`, error)
      }
      held.add(position, end)
      writtenBytes += end - position
      if (writtenBytes - savedBytes >= SYNC_BYTES / 2 && saving === undefined) {
        save().catch(() => undefined) // In `broken`: the next write throws it.
      }
    },
    async read(buffer, length, position) {
      try {
        const { bytesRead } = await file.read(buffer, 0, length, position)
        if (bytesRead > 0) return bytesRead
      } catch (error) {
        throw spoolError(`read of the spool of ${digest}`, error)
      }
      throw new StoreError('io', `spool of ${digest} is shorter than what was written to it`)
    },
    async discard() {
      discarded = true
      await saving?.catch(() => undefined) // Whatever it failed with, the files go.
      await removeSpool({ dataPath, mapPath })
    },
    retain() {
      users += 1
      return release
    },
  }
}

export type SpoolPaths = Pick<SpoolOptions, 'dataPath' | 'mapPath' | 'keptPath'>

/** Its files, and what a map that was being written left. */
export async function removeSpool({ dataPath, mapPath, keptPath }: SpoolPaths): Promise<void> {
  const paths = [dataPath, mapPath, temporaryOf(mapPath), ...(keptPath ? [keptPath] : [])]
  await Promise.all(paths.map((path) => unlink(path).catch(ignoring('ENOENT'))))
}

function temporaryOf(mapPath: string): string {
  return `${mapPath}.tmp`
}

/** Returns the position behind the last byte. A disk that fills up mid-write takes a part first and fails then. */
async function writeWhole(file: FileHandle, chunks: readonly Buffer[], position: number): Promise<number> {
  let rest = [...chunks]
  let at = position
  while (rest.length > 0) {
    let { bytesWritten } = await file.writev(rest, at)
    if (bytesWritten === 0) throw new Error('the file takes no bytes')
    at += bytesWritten
    rest = rest.flatMap((chunk) => {
      const written = Math.min(bytesWritten, chunk.length)
      bytesWritten -= written
      return written < chunk.length ? [chunk.subarray(written)] : []
    })
  }
  return at
}

/** What the filesystem threw, as a `StoreError`. */
export function spoolError(doing: string, error: unknown): StoreError {
  if (error instanceof StoreError) return error
  const kind = isErrorCode(error, 'ENOSPC', 'EDQUOT') ? 'full' : 'io'
  return new StoreError(kind, `${doing}: ${error instanceof Error ? error.message : String(error)}`, {
    cause: error,
  })
}
