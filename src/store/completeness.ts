/**
 * The marks of completeness, one small file per repository: when it was last known to be here whole. A mark that
 * outlives what was heard of since would be a lie, so writing and removing one are both durable.
 */
import { rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { LRUCache } from 'lru-cache'
import type { RepositoryName } from '../oci/reference.ts'
import { type DurableFiles, ignoring, syncFolder } from './durable-files.ts'
import type { Holdings } from './holdings.ts'
import { createKeyedMutex } from './keyed-mutex.ts'
import { readSmallFile } from './link-file.ts'
import type { StorePaths } from './paths.ts'

export interface Completeness extends Pick<Holdings, 'completeSince' | 'markComplete' | 'dropComplete'> {
  /** Resolves when what was begun has ended. */
  close(): Promise<void>
}

const MEMORY_ENTRIES = 16_384

/** `now`: wall clock in milliseconds, the one that marks are given by. */
export function createCompleteness(paths: StorePaths, files: DurableFiles, now: () => number): Completeness {
  const mutex = createKeyedMutex()
  /** Without a mark, and when that was last made sure of: most events concern repositories that have none. */
  const unmarked = new LRUCache<RepositoryName, number>({
    max: MEMORY_ENTRIES,
    dispose: (atMs, _name, reason) => {
      if (reason === 'evict') forgottenAtMs = Math.max(forgottenAtMs, atMs)
    },
  })
  /** The latest that is no longer remembered: whose it was, nobody knows. */
  let forgottenAtMs = -1

  return {
    completeSince: async (name) => {
      const text = await readSmallFile(paths.complete(name))
      return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined
    },
    markComplete: (name, atMs) =>
      mutex.run(name, async () => {
        // Something was heard of after the inventory that the mark speaks of was asked for.
        if (atMs <= (unmarked.get(name) ?? forgottenAtMs)) return
        unmarked.delete(name)
        await files.write(paths.complete(name), String(Math.trunc(atMs)))
      }),
    dropComplete: (name) =>
      mutex.run(name, async () => {
        if (!unmarked.has(name)) {
          const path = paths.complete(name)
          await rm(path, { force: true })
          // Also when nothing was there: its removal may have been left unsynced by a crash.
          await syncFolder(dirname(path)).catch(ignoring('ENOENT', 'ENOTDIR'))
        }
        unmarked.set(name, now())
      }),
    close: () => mutex.idle(),
  }
}
