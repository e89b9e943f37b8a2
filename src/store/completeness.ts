/**
 * The marks of completeness, one small file per repository: when it was last known to be here whole. A mark that
 * outlives what was heard of since would be a lie, so writing and removing one are both durable. What was heard of is
 * recorded as a removal is: it wins over every inventory that was asked for before, whichever process asked.
 */
import { rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { LRUCache } from 'lru-cache'
import type { RepositoryName } from '../oci/reference.ts'
import { begun, type Coordination, CoordinationUnavailableError, mayStay } from './coordination.ts'
import { type DurableFiles, ignoring, syncFolder } from './durable-files.ts'
import type { Holdings } from './holdings.ts'
import { readSmallFile } from './link-file.ts'
import type { StorePaths } from './paths.ts'

export interface Completeness extends Pick<Holdings, 'completeSince' | 'markComplete' | 'dropComplete'> {
  /** Resolves when what was begun has ended. */
  close(): Promise<void>
}

const MEMORY_ENTRIES = 16_384

/** Its own turn and tombstone: a drop may be a part of another change of the repository. */
const keyOf = (name: RepositoryName) => `${name} complete`

export function createCompleteness(
  paths: StorePaths,
  files: DurableFiles,
  coordination: Coordination,
): Completeness {
  /** Without a mark, which was made sure of: most events concern repositories that have none. */
  const unmarked = coordination.shared
    ? undefined
    : new LRUCache<RepositoryName, true>({ max: MEMORY_ENTRIES })

  async function remove(name: RepositoryName): Promise<void> {
    if (unmarked?.has(name)) return
    const path = paths.complete(name)
    await rm(path, { force: true })
    // Also when nothing was there: its removal may have been left unsynced by a crash.
    await syncFolder(dirname(path)).catch(ignoring('ENOENT', 'ENOTDIR'))
    unmarked?.set(name, true)
  }

  return {
    completeSince: async (name) => {
      const text = await readSmallFile(paths.complete(name))
      return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined
    },
    markComplete: (name, asked) =>
      coordination.run(keyOf(name), async () => {
        if (await coordination.overrules(asked, keyOf(name))) return
        unmarked?.delete(name)
        await files.write(paths.complete(name), String(Math.trunc(asked.atMs)))
        await mayStay(coordination, asked, [keyOf(name)], () => remove(name))
      }),
    dropComplete: async (name) => {
      const heard = begun(coordination.bury([keyOf(name)]))
      try {
        await coordination.run(keyOf(name), async () => {
          await heard
          await remove(name)
        })
      } catch (error) {
        if (!(error instanceof CoordinationUnavailableError)) throw error
        coordination.overruleAll()
        await remove(name)
      }
    },
    close: () => coordination.idle(),
  }
}
