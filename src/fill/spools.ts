/**
 * The folder of spools (`<root>/geo-registry/spools`), which the capture of pushes shares: only `<alg>-<hex>.data` and
 * `.json` are the fill's. A spool can be resumed for a day, also by another process after this one was killed.
 */
import { access, mkdir, open, readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { type Digest, parseDigest } from '../oci/digest.ts'
import { ignoring, isAbsent, isErrorCode } from '../store/durable-files.ts'
import { createKeyedMutex } from '../store/keyed-mutex.ts'
import { createSpool, removeSpool, type Spool, type SpoolMap, spoolError } from './spool.ts'

/** Longer than any pull that is still tried again, short enough that given-up content does not fill the disk. */
const MAX_AGE_MS = 24 * 60 * 60 * 1000

const FILE_NAME = /^(sha256|sha512)-([0-9a-f]+)\.(?:data|json|json\.tmp)$/

const MAP = z.object({
  version: z.literal(1),
  digest: z.string(),
  sizeBytes: z.int().nonnegative(),
  segments: z.array(z.tuple([z.int().nonnegative(), z.int().positive()])),
  updatedAt: z.iso.datetime(),
})

export interface Spools {
  /** An empty spool, to be given its size; whatever lay in its place is gone. Throws `StoreError`. */
  create(digest: Digest): Promise<(sizeBytes: number) => Spool>
  /** Whether there may be one to resume. */
  isKept(digest: Digest): Promise<boolean>
  /** The spool an interrupted flight left, or undefined. */
  resume(digest: Digest): Promise<Spool | undefined>
  /** Removes what nobody can resume any more, except what `isInUse`. */
  sweep(isInUse: (digest: Digest) => boolean): Promise<void>
}

/** Creates the folder when it is missing. */
export async function openSpools(folder: string): Promise<Spools> {
  await mkdir(folder, { recursive: true })
  const syncs = createKeyedMutex()
  const inTurn = <T>(work: () => Promise<T>) => syncs.run('sync', work)

  function pathsOf(digest: Digest): { dataPath: string; mapPath: string } {
    const name = join(folder, digest.replace(':', '-'))
    return { dataPath: `${name}.data`, mapPath: `${name}.json` }
  }

  /** The map of a spool that can be resumed. */
  async function readMap(digest: Digest): Promise<SpoolMap | undefined> {
    const { dataPath, mapPath } = pathsOf(digest)
    let text: string
    let dataBytes: number
    try {
      text = await readFile(mapPath, 'utf8')
      dataBytes = (await stat(dataPath)).size
    } catch (error) {
      if (isAbsent(error)) return undefined
      throw error
    }
    const map = parseMap(text)
    if (!map || map.digest !== digest) return undefined
    if (Date.now() - Date.parse(map.updatedAt) > MAX_AGE_MS) return undefined
    const end = map.segments.at(-1)?.[1] ?? 0
    return end <= Math.min(dataBytes, map.sizeBytes) ? map : undefined
  }

  return {
    async create(digest) {
      const paths = pathsOf(digest)
      try {
        const file = await open(paths.dataPath, 'wx+').catch(async (error: unknown) => {
          if (!isErrorCode(error, 'EEXIST')) throw error
          // Left by a process that was killed. Not written over: a follower of a failed flight may still read it.
          await removeSpool(paths.dataPath, paths.mapPath)
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
        const map = await readMap(digest)
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

    async sweep(isInUse) {
      const names = (await readdir(folder).catch(ignoring('ENOENT'))) ?? []
      const digests = new Set(
        names.flatMap((name) => {
          const [, algorithm, hex] = FILE_NAME.exec(name) ?? []
          return parseDigest(`${algorithm}:${hex}`) ?? []
        }),
      )
      for (const digest of digests) {
        if (isInUse(digest) || (await readMap(digest))) continue
        // Asked again: a flight may have begun while the map was read.
        const { dataPath, mapPath } = pathsOf(digest)
        if (!isInUse(digest)) await removeSpool(dataPath, mapPath)
      }
    },
  }
}

function parseMap(text: string): SpoolMap | undefined {
  try {
    const { data } = MAP.safeParse(JSON.parse(text))
    if (!data) return undefined
    const bounds = data.segments.flat()
    return bounds.every((bound, index) => index === 0 || bound > (bounds[index - 1] ?? 0)) ? data : undefined
  } catch {
    return undefined // Not JSON: cut short by a crash, so the spool cannot be resumed.
  }
}
