/** Moving links and tags aside: whole, never deleted, and their confirmations go first. */
import { randomUUID } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Digest } from '../oci/digest.ts'
import type { RepositoryName, Tag } from '../oci/reference.ts'
import type { Confirmations } from './confirmations.ts'
import { type DurableFiles, ignoring, syncFolder } from './durable-files.ts'
import type { Entry, StorePaths } from './paths.ts'
import { tagsIn } from './walk.ts'

export interface HidingDeps {
  readonly paths: StorePaths
  readonly files: DurableFiles
  readonly confirmations: Pick<Confirmations, 'drop'>
  /** Wall clock in milliseconds. */
  readonly now: () => number
}

export interface Hiding {
  /** Moves entries aside, in this order; when that fails, none of them is confirmed any longer. */
  hide(name: RepositoryName, entries: readonly Entry[]): Promise<void>
  /** Leaves them where they are, without the primary's word: they must not be served. Durable when it resolves. */
  unconfirm(name: RepositoryName, entries: readonly Entry[]): Promise<void>
  tagsThatName(name: RepositoryName, digest: Digest): Promise<Tag[]>
}

export function createHiding({ paths, files, confirmations, now }: HidingDeps): Hiding {
  async function unconfirm(name: RepositoryName, entries: readonly Entry[]): Promise<void> {
    for (const entry of entries) await confirmations.drop(name, entry)
  }

  return {
    hide: async (name, entries) => {
      const folder = join(paths.hidden, `${now()}-${randomUUID()}`)
      await unconfirm(name, entries)
      for (const entry of entries) {
        const path = paths.entry(name, entry)
        if (!(await stat(path).catch(ignoring('ENOENT', 'ENOTDIR')))) continue
        await files.place(path, paths.hiddenEntry(folder, name, entry))
        await syncFolder(dirname(path))
        files.forgetFolders()
      }
    },
    unconfirm,
    tagsThatName: async (name, digest) => {
      const held = await tagsIn(paths.repository(name))
      return held.filter((one) => one.digest === digest).map(({ tag }) => tag)
    },
  }
}
