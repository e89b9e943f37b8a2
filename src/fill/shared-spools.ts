/**
 * The folder of spools when several processes share it. A file is written by one process only, ever: whoever made it, or
 * whoever claimed it, by one rename of its map, after it was put away. A process that holds the lease of a digest and
 * finds a file whose process is gone copies it, since that process may only be asleep.
 */
import { randomBytes } from 'node:crypto'
import { constants, copyFile, type FileHandle, mkdir, open, rename, unlink } from 'node:fs/promises'
import type { Digest } from '../oci/digest.ts'
import { ignoring, isAbsent, isErrorCode } from '../store/durable-files.ts'
import { createKeyedMutex } from '../store/keyed-mutex.ts'
import type { Segment } from './segments.ts'
import { createSpool, removeSpool, type Spool, spoolError } from './spool.ts'
import {
  listSpools,
  readSpoolMap,
  type SpoolFiles,
  sharedPaths,
  spoolName,
  sweepSpools,
} from './spool-files.ts'
import type { Spools } from './spools.ts'

const COPY_BYTES = 1024 * 1024

/** What of a file can be believed. */
interface Claimed {
  readonly sizeBytes: number
  readonly segments: readonly Segment[]
}

/**
 * Creates the folder when it is missing. `create` and `resume` are for the process that holds the digest's lease; that a
 * spool `isKept` only `resume` can tell.
 */
export async function openSharedSpools(
  folder: string,
  isTaken: (digest: Digest) => Promise<boolean | undefined>,
): Promise<Spools> {
  await mkdir(folder, { recursive: true })
  const syncs = createKeyedMutex()
  const inTurn = <T>(work: () => Promise<T>) => syncs.run('sync', work)

  function newName(digest: Digest): string {
    return `${spoolName(digest)}.${randomBytes(8).toString('hex')}`
  }

  function spoolOf(file: FileHandle, digest: Digest, name: string, { sizeBytes, segments }: Claimed): Spool {
    return createSpool(file, { digest, ...sharedPaths(folder, name), inTurn, sizeBytes, segments })
  }

  /** Of `mapPath`, undefined where it is none to go by. */
  async function claimedBy(digest: Digest, name: string, mapPath: string): Promise<Claimed | undefined> {
    return readSpoolMap({ dataPath: sharedPaths(folder, name).dataPath, mapPath }, digest)
  }

  /** A spool that was put away. */
  async function claim(digest: Digest, name: string): Promise<Spool | undefined> {
    const { dataPath, mapPath, keptPath } = sharedPaths(folder, name)
    const claimed = await claimedBy(digest, name, keptPath)
    if (!claimed) return undefined
    try {
      await rename(keptPath, mapPath)
      return spoolOf(await open(dataPath, 'r+'), digest, name, claimed)
    } catch (error) {
      if (isAbsent(error)) return undefined
      throw error
    }
  }

  async function copy(digest: Digest, from: string, claimed: Claimed): Promise<Spool | undefined> {
    const { dataPath } = sharedPaths(folder, from)
    const source = await open(dataPath, 'r').catch(ignoring('ENOENT'))
    if (!source) return undefined
    try {
      if ((claimed.segments.at(-1)?.[1] ?? 0) > (await source.stat()).size) return undefined
      const name = newName(digest)
      const paths = sharedPaths(folder, name)
      try {
        return spoolOf(
          await copyOf(source, dataPath, paths.dataPath, claimed.segments),
          digest,
          name,
          claimed,
        )
      } catch (error) {
        await removeSpool(paths)
        throw error
      }
    } finally {
      await source.close()
    }
  }

  /** What a process left behind that was killed, or sleeps. Its map may be `SYNC_BYTES` behind. */
  async function copyLeft(digest: Digest, name: string): Promise<Spool | undefined> {
    const claimed = await claimedBy(digest, name, sharedPaths(folder, name).mapPath)
    return claimed && copy(digest, name, claimed)
  }

  async function remove(found: readonly SpoolFiles[], but: Spool): Promise<void> {
    const others = found
      .map(({ name }) => sharedPaths(folder, name))
      .filter((one) => one.dataPath !== but.path)
    await Promise.all(others.map(removeSpool))
  }

  return {
    async create(digest) {
      const name = newName(digest)
      try {
        const file = await open(sharedPaths(folder, name).dataPath, 'wx+')
        return (sizeBytes) => spoolOf(file, digest, name, { sizeBytes, segments: [] })
      } catch (error) {
        throw spoolError(`spool of ${digest}`, error)
      }
    },

    isKept: async () => true,

    async resume(digest, left) {
      try {
        const found = (await listSpools(folder)).filter(
          (one) => one.digest === digest && one.name.includes('.'),
        )
        const kept = found.filter(({ endings }) => endings.has('kept.json'))
        const leftName = left?.file.replace(/\.data$/, '')
        let spool: Spool | undefined
        for (const { name } of kept) if (name === leftName) spool = await claim(digest, name)
        // What it told is newer than its map, and is what its followers have been reading.
        const told = left && { sizeBytes: left.sizeBytes, segments: left.held }
        if (leftName && told) spool ??= await copy(digest, leftName, told)
        for (const { name } of kept) spool ??= await claim(digest, name)
        for (const { name } of found) spool ??= await copyLeft(digest, name)
        if (!spool) return undefined
        const resumed = spool
        // Until a copy is on the disk the original is what a kill of this process leaves. A sync that fails breaks the
        // spool, whose next write says so.
        resumed
          .save()
          .then(() => remove(found, resumed))
          .catch(() => undefined)
        return resumed
      } catch (error) {
        throw spoolError(`spool of ${digest}`, error)
      }
    },

    sweep: (isInUse) => sweepSpools(folder, isInUse, isTaken),
  }
}

/** Where the filesystem shares blocks between files it takes no time and no room. */
async function copyOf(
  source: FileHandle,
  sourcePath: string,
  targetPath: string,
  segments: readonly Segment[],
): Promise<FileHandle> {
  try {
    await copyFile(sourcePath, targetPath, constants.COPYFILE_FICLONE_FORCE | constants.COPYFILE_EXCL)
    return await open(targetPath, 'r+')
  } catch (error) {
    // Whatever the filesystem calls that it cannot; a disk that is full will say so again.
    if (isErrorCode(error, 'EEXIST')) throw error
    await unlink(targetPath).catch(ignoring('ENOENT'))
  }
  const target = await open(targetPath, 'wx+')
  try {
    await copySegments(source, target, segments)
    return target
  } catch (error) {
    await target.close()
    throw error
  }
}

async function copySegments(
  source: FileHandle,
  target: FileHandle,
  segments: readonly Segment[],
): Promise<void> {
  const buffer = Buffer.allocUnsafeSlow(COPY_BYTES)
  for (const [start, end] of segments) {
    for (let position = start; position < end; ) {
      const { bytesRead } = await source.read(buffer, 0, Math.min(COPY_BYTES, end - position), position)
      if (bytesRead === 0) throw new Error('it is shorter than what was written to it')
      for (let done = 0; done < bytesRead; ) {
        const { bytesWritten } = await target.write(buffer, done, bytesRead - done, position + done)
        done += bytesWritten
      }
      position += bytesRead
    }
  }
}
