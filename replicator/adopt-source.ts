/**
 * The folder that is adopted: which registry's it is, and the blobs in it by their digests. Only ever read; a symbolic
 * link is followed as long as it stays in the folder.
 */
import { lstat, realpath, stat } from 'node:fs/promises'
import { join, resolve, sep } from 'node:path'
import type { Digest } from '../src/oci/digest.ts'
import { ignoring, isErrorCode } from '../src/store/durable-files.ts'
import { blobIn, blobsUnder, type StorePaths } from '../src/store/paths.ts'
import { storedDigests } from '../src/store/walk.ts'

export interface Source {
  readonly blobs: string
  /** Real path that no symbolic link is followed out of. */
  readonly bounds: string
}

export interface SourceBlob {
  readonly digest: Digest
  readonly path: string
  readonly sizeBytes: number
}

/**
 * `damaged`: not what its digest says. `unreadable`: no file, not permitted, or gone since. `outside`: a symbolic link
 * leads out of the folder.
 */
export type SkipReason = 'damaged' | 'unreadable' | 'outside'

/** What may keep one file from being read; anything else would keep all of them. */
export const UNREADABLE = ['EACCES', 'EPERM', 'EIO', 'ELOOP']

const V2 = join(sep, 'docker', 'registry', 'v2')

/** The folder cannot be adopted; the message says why. */
export class AdoptError extends Error {
  override readonly name = 'AdoptError'
}

/** Throws `AdoptError` when the folder is no registry's, or the store's own. */
export async function registryAt(folder: string, paths: StorePaths): Promise<Source> {
  const given = resolve(folder)
  const candidates = [blobsUnder(given), ...(given.endsWith(V2) ? [join(given, 'blobs')] : [])]
  for (const blobs of candidates) {
    const stats = await stat(blobs).catch(ignoring('ENOENT', 'ENOTDIR'))
    if (!stats?.isDirectory()) continue
    // By inode: it may be reached by another path, through a link or a mount.
    const own = await stat(paths.blobs).catch(ignoring('ENOENT', 'ENOTDIR'))
    if (own && own.ino === stats.ino && own.dev === stats.dev) {
      throw new AdoptError(`${folder} is this site’s own store: there is nothing to adopt`)
    }
    return { blobs, bounds: await realpath(given) }
  }
  throw new AdoptError(
    `${folder} is no registry's root directory: there is no ${candidates.join(' and no ')}`,
  )
}

/** In the order of digests; what is not yielded is told to `skip`. */
export async function* blobsOf(
  source: Source,
  skip: (digest: Digest, reason: SkipReason) => void,
): AsyncGenerator<SourceBlob> {
  for await (const digest of storedDigests(source.blobs)) {
    try {
      const path = await realpath(blobIn(source.blobs, digest))
      const stats = await lstat(path)
      if (!path.startsWith(join(source.bounds, sep))) skip(digest, 'outside')
      else if (!stats.isFile()) skip(digest, 'unreadable')
      else yield { digest, path, sizeBytes: stats.size }
    } catch (error) {
      // A folder without data is what a registry leaves of a blob that it removed.
      if (isErrorCode(error, ...UNREADABLE)) skip(digest, 'unreadable')
      else if (!isErrorCode(error, 'ENOENT', 'ENOTDIR')) throw error
    }
  }
}
