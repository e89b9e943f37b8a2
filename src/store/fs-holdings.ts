/** What this site holds, read from Distribution's folders; a change of it goes through the repository's own queue. */
import { stat } from 'node:fs/promises'
import type { Completeness } from './completeness.ts'
import { ignoring } from './durable-files.ts'
import type { Guard } from './failures.ts'
import { createHidden, type HiddenDeps } from './hidden.ts'
import type { Holdings } from './holdings.ts'
import { linksIn, repositoriesIn, storedDigests, tagsIn } from './walk.ts'

export interface FsHoldingsDeps extends HiddenDeps {
  readonly completeness: Completeness
  readonly guard: Guard
}

export interface FsHoldings extends Holdings {
  /** Resolves when what was begun has ended; `restore` ends with the index. */
  close(): Promise<void>
}

/** Its listings throw what the filesystem throws, everything else `StoreError`. */
export function createFsHoldings(deps: FsHoldingsDeps): FsHoldings {
  const { paths, completeness, guard } = deps
  return {
    repositories: (signal, under) => repositoriesIn(paths.repositories, signal, under),
    tags: (name) =>
      guard(`listing the tags of ${name}`, async () =>
        (await tagsIn(paths.repository(name))).map(({ tag }) => tag),
      ),
    links: (name, kind) =>
      guard(`listing the ${kind} links of ${name}`, () => linksIn(paths.repository(name), kind)),
    async *blobs(after, signal) {
      for await (const digest of storedDigests(paths.blobs, after)) {
        signal?.throwIfAborted()
        const stats = await stat(paths.blob(digest)).catch(ignoring('ENOENT', 'ENOTDIR'))
        if (stats?.isFile()) yield digest
      }
    },
    ...createHidden(deps),
    completeSince: (name) => guard(`reading the mark of ${name}`, () => completeness.completeSince(name)),
    markComplete: (name, asked) =>
      guard(`marking ${name} complete`, () => completeness.markComplete(name, asked)),
    dropComplete: (name) => guard(`dropping the mark of ${name}`, () => completeness.dropComplete(name)),
    close: completeness.close,
  }
}
