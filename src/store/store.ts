/** Opens the store of a site: a registry's root directory with a folder of our own beside it (law 11). */
import { mkdir, readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { Logger } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import type { Digest } from '../oci/digest.ts'
import type { BlobStore } from './blob-store.ts'
import { createCompleteness } from './completeness.ts'
import { type Coordination, createLocalCoordination } from './coordination.ts'
import { createDurableFiles, ignoring } from './durable-files.ts'
import { createGuard } from './failures.ts'
import { createFsBlobStore } from './fs-blob-store.ts'
import { createFsHoldings } from './fs-holdings.ts'
import { createFsRepositoryIndex } from './fs-repository-index.ts'
import { collectGarbage, type GarbageOptions, type GarbageReport } from './garbage.ts'
import type { Holdings } from './holdings.ts'
import { createStorePaths, type StorePaths } from './paths.ts'
import type { RepositoryIndex } from './repository-index.ts'

/** Format of what lies under `geo-registry/`. A newer program raises it when an older one could not read it. */
const FORMAT_VERSION = 1

export interface StoreOptions {
  /** Part of the filesystem (0 to 1) below which nothing new is kept; default 0.05 (`storage.minfree`). */
  readonly minFreeFraction?: number | undefined
  /** Descriptors kept open for the next reader; default 256. */
  readonly maxIdleDescriptors?: number | undefined
  /** Links remembered; default 50 000. */
  readonly maxLinks?: number | undefined
  /** Tags remembered; default 20 000. */
  readonly maxTags?: number | undefined
  /** Wall clock in milliseconds; default `Date.now`. */
  readonly now?: (() => number) | undefined
  /** Of all processes on this store; default: this is the only one. Closed by whoever made it, after the store. */
  readonly coordination?: Coordination | undefined
  /**
   * A blob was removed, replaced or quarantined: the other processes must be told, and call their `forgetBlob`. Must not
   * throw.
   */
  readonly onForgotten?: ((digest: Digest) => void) | undefined
}

export interface StoreDeps {
  readonly log: Logger
  readonly metrics: Metrics
}

export interface Store {
  readonly blobs: BlobStore
  readonly index: RepositoryIndex
  readonly holdings: Holdings
  readonly paths: StorePaths
  /** Another process removed or replaced the blob: the next reader opens it anew. */
  forgetBlob(digest: Digest): void
  /** The same of every blob, when it is not known which. */
  forgetBlobs(): void
  /** Throws when a collection is running already in this process, and what the filesystem throws. */
  collectGarbage(options?: GarbageOptions): Promise<GarbageReport>
  /** Resolves when what was begun has ended; blobs still open close with their readers. */
  close(): Promise<void>
}

/** Throws when the folder cannot be used: not writable, or written by a newer geo-registry. */
export async function openStore(
  rootDirectory: string,
  options: StoreOptions,
  { log, metrics }: StoreDeps,
): Promise<Store> {
  const root = resolve(rootDirectory)
  await mkdir(root, { recursive: true })
  const paths = createStorePaths(root)
  const files = createDurableFiles(root, paths.incoming)
  const written = await readFile(paths.version, 'utf8').catch(ignoring('ENOENT'))
  if (written !== undefined) checkVersion(written, paths)
  for (const folder of [paths.incoming, paths.spools, paths.confirmations, paths.hidden, paths.quarantine]) {
    await files.ensureFolder(folder)
  }
  if (written === undefined) await files.write(paths.version, `${FORMAT_VERSION}\n`)
  await files.write(paths.inUseMarker, '')

  const guard = createGuard(metrics)
  const coordination = options.coordination ?? createLocalCoordination({ now: options.now })
  const { shared } = coordination
  const blobs = createFsBlobStore({ paths, files, guard, log, metrics }, { ...options, shared })
  const completeness = createCompleteness(paths, files, coordination)
  const index = createFsRepositoryIndex(
    { paths, files, blobs, coordination, completeness, guard, log },
    options,
  )
  const holdings = createFsHoldings({ paths, files, blobs, index, completeness, guard })
  let collecting = false
  return {
    blobs,
    index,
    holdings,
    paths,
    forgetBlob: blobs.forget,
    forgetBlobs: blobs.forgetAll,
    collectGarbage: async (garbageOptions) => {
      if (collecting) throw new Error('a garbage collection is running already: wait for it to end')
      collecting = true
      try {
        return await collectGarbage({ paths, blobs, now: options.now }, garbageOptions)
      } finally {
        collecting = false
      }
    },
    close: async () => {
      await holdings.close()
      await index.close()
      await blobs.close()
    },
  }
}

function checkVersion(written: string, paths: StorePaths): void {
  if (written.trim() === String(FORMAT_VERSION)) return
  throw new Error(
    `${paths.version} says format ${JSON.stringify(written.trim().slice(0, 20))}, and this geo-registry knows ` +
      `format ${FORMAT_VERSION}: start the version of geo-registry that wrote it, or set ` +
      'storage.filesystem.rootdirectory to another folder',
  )
}
