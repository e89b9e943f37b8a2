/**
 * Since when no confirmation of a repository's links counts any longer: one small file per repository, so that a rename
 * heard of costs one write however many links there are.
 */
import { LRUCache } from 'lru-cache'
import type { RepositoryName } from '../oci/reference.ts'
import type { DurableFiles } from './durable-files.ts'
import { readSmallFile } from './link-file.ts'
import type { StorePaths } from './paths.ts'

/**
 * When a link that expired counts as confirmed: it still was, so that an outage serves it, and longer ago than any
 * `digests.recheck`.
 */
export const EXPIRED_AT_MS = 1

export interface Expiries {
  /** What was confirmed until then, in wall-clock milliseconds, has expired; 0 when nothing has. */
  read(name: RepositoryName): Promise<number>
  /** Durable when it resolves. */
  write(name: RepositoryName, atMs: number): Promise<void>
}

const MEMORY_ENTRIES = 16_384

/** `remember`: nobody else writes them. */
export function createExpiries(paths: StorePaths, files: DurableFiles, remember: boolean): Expiries {
  const seen = remember ? new LRUCache<RepositoryName, number>({ max: MEMORY_ENTRIES }) : undefined

  async function load(name: RepositoryName): Promise<number> {
    const text = await readSmallFile(paths.expiry(name))
    return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : 0
  }

  return {
    read: async (name) => {
      const known = seen?.get(name)
      if (known !== undefined) return known
      const loaded = await load(name)
      // What was written meanwhile is newer than what was read.
      const written = seen?.get(name)
      if (written === undefined) seen?.set(name, loaded)
      return written ?? loaded
    },
    write: async (name, atMs) => {
      const latestMs = Math.max(Math.trunc(atMs), seen?.get(name) ?? (await load(name)))
      await files.write(paths.expiry(name), String(latestMs))
      seen?.set(name, latestMs)
    },
  }
}
