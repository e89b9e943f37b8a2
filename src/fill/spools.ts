/**
 * The folder of spools (`<root>/geo-registry/spools`), which the capture of pushes shares: only `<alg>-<hex>.data` and
 * `.json` are the fill's. A spool can be resumed for a day, also by another process after this one was killed.
 */
import { access, mkdir, open } from 'node:fs/promises'
import { join } from 'node:path'
import type { Digest } from '../oci/digest.ts'
import { isAbsent, isErrorCode } from '../store/durable-files.ts'
import { createKeyedMutex } from '../store/keyed-mutex.ts'
import type { FillState } from './fill-state.ts'
import { createSpool, removeSpool, type Spool, spoolError } from './spool.ts'
import { readSpoolMap, spoolName, sweepSpools } from './spool-files.ts'

export interface Spools {
  /** An empty spool, to be given its size; whatever lay in its place is gone. Throws `StoreError`. */
  create(digest: Digest): Promise<(sizeBytes: number) => Spool>
  /** Whether there may be one to resume. */
  isKept(digest: Digest): Promise<boolean>
  /**
   * The spool an interrupted flight left, or undefined. `left`: what the process that was lost with it had told of it.
   * Throws `StoreError`.
   */
  resume(digest: Digest, left?: FillState): Promise<Spool | undefined>
  /** Removes what nobody can resume any more, except what `isInUse`. */
  sweep(isInUse: (digest: Digest) => boolean): Promise<void>
}

/** Creates the folder when it is missing. */
export async function openSpools(folder: string): Promise<Spools> {
  await mkdir(folder, { recursive: true })
  const syncs = createKeyedMutex()
  const inTurn = <T>(work: () => Promise<T>) => syncs.run('sync', work)

  function pathsOf(digest: Digest): { dataPath: string; mapPath: string } {
    const name = join(folder, spoolName(digest))
    return { dataPath: `${name}.data`, mapPath: `${name}.json` }
  }

  return {
    async create(digest) {
      const paths = pathsOf(digest)
      try {
        const file = await open(paths.dataPath, 'wx+').catch(async (error: unknown) => {
          if (!isErrorCode(error, 'EEXIST')) throw error
          // Left by a process that was killed. Not written over: a follower of a failed flight may still read it.
          await removeSpool(paths)
          return open(paths.dataPath, 'wx+')
        })
        return (sizeBytes) => createSpool(file, { digest, ...paths, inTurn, sizeBytes, segments: [] })
      } catch (error) {
        throw spoolError(`spool of ${digest}`, error)
      }
    },

    // What else is wrong with it, `resume` finds out.
    isKept: (digest) =>
      access(pathsOf(digest).mapPath).then(
        () => true,
        (error: unknown) => !isAbsent(error),
      ),

    async resume(digest) {
      const paths = pathsOf(digest)
      try {
        const map = await readSpoolMap(paths, digest)
        if (!map) return undefined
        const file = await open(paths.dataPath, 'r+')
        return createSpool(file, {
          digest,
          ...paths,
          inTurn,
          sizeBytes: map.sizeBytes,
          segments: map.segments,
        })
      } catch (error) {
        throw spoolError(`spool of ${digest}`, error)
      }
    },

    // Also what several processes left here before this one had the folder to itself.
    sweep: (isInUse) => sweepSpools(folder, isInUse, async () => false),
  }
}
