/**
 * Links and tags in Distribution's folders, the primary's word for each beside them. Changes of one repository take
 * effect one at a time; a hidden thing is moved aside whole, never deleted, and loses its confirmation first. Where
 * other processes change the same store, the disk is all that is known, and reading it needs nobody.
 */
import type { Logger } from '../log.ts'
import type { RepositoryName } from '../oci/reference.ts'
import { createChange } from './changes.ts'
import type { Completeness } from './completeness.ts'
import { createConfirmations } from './confirmations.ts'
import type { Coordination } from './coordination.ts'
import type { DurableFiles } from './durable-files.ts'
import { createExpiries } from './expiries.ts'
import type { Guard } from './failures.ts'
import type { FsBlobStore } from './fs-blob-store.ts'
import { createFsLinks } from './fs-links.ts'
import { createFsTags } from './fs-tags.ts'
import { createHiding } from './hiding.ts'
import { createIdentify } from './identify.ts'
import { createIdentities } from './identities.ts'
import type { StorePaths } from './paths.ts'
import { linkKey } from './removal-keys.ts'
import type { RepositoryIndex } from './repository-index.ts'
import { createSkipping } from './skipping.ts'

export interface FsRepositoryIndex extends RepositoryIndex {
  /** Work on one repository's folders that waits its turn among the changes; all is read anew afterwards. */
  rearrange<T>(name: RepositoryName, doing: string, work: () => Promise<T>): Promise<T>
  /** Resolves when what was begun has ended; nothing may be begun after it. */
  close(): Promise<void>
}

export interface FsRepositoryIndexDeps {
  readonly paths: StorePaths
  readonly files: DurableFiles
  readonly blobs: Pick<FsBlobStore, 'pin' | 'secure'>
  readonly coordination: Coordination
  readonly completeness: Pick<Completeness, 'dropComplete'>
  readonly guard: Guard
  readonly log: Logger
}

export interface FsRepositoryIndexOptions {
  /** Links remembered; default 50 000; none where others change the store. */
  readonly maxLinks?: number | undefined
  /** Tags remembered; default 20 000; none where others change the store. */
  readonly maxTags?: number | undefined
  /** Wall clock in milliseconds; default `Date.now`. */
  readonly now?: (() => number) | undefined
}

export function createFsRepositoryIndex(
  deps: FsRepositoryIndexDeps,
  options: FsRepositoryIndexOptions = {},
): FsRepositoryIndex {
  const { paths, files, blobs, coordination, completeness, guard, log } = deps
  const remember = !coordination.shared
  const confirmations = createConfirmations(paths, files)
  const hiding = createHiding({ paths, files, confirmations, now: options.now ?? Date.now })
  const change = createChange(coordination, guard)
  const skipping = createSkipping(log)
  const parts = { paths, files, coordination, confirmations, hiding, change, skipping, guard, log }
  const tags = createFsTags(parts, remember ? (options.maxTags ?? 20_000) : 0)
  const expiries = createExpiries(paths, files, remember)
  const links = createFsLinks(
    { ...parts, blobs, expiries, tags },
    remember ? (options.maxLinks ?? 50_000) : 0,
  )
  const identities = createIdentities(paths, files, remember)

  function forget(name: RepositoryName): void {
    links.forgetAll(name)
    tags.forgetAll(name)
  }

  return {
    mark: coordination.mark,
    stands: (name, kind, digest, mark) => {
      const overruled = coordination.overrules(mark, name, linkKey(name, kind, digest))
      return skipping(
        overruled.then((known) => !known),
        false,
      )
    },
    mayRemove: coordination.reach,
    link: links.link,
    putLink: links.putLink,
    hideLink: links.hideLink,
    expireLink: links.expireLink,
    expireRepository: links.expireRepository,
    tag: tags.tag,
    putTag: tags.putTag,
    renewTag: tags.renewTag,
    doubtTag: tags.doubtTag,
    hideTag: tags.hideTag,
    identify: createIdentify({
      identities,
      coordination,
      completeness,
      hiding,
      change,
      forget,
      guard,
      log,
    }),
    rearrange: (name, doing, work) => {
      const forgetIt = () => forget(name)
      return change(name, doing, forgetIt, work).finally(forgetIt)
    },
    close: async () => {
      await tags.idle()
      await coordination.idle()
    },
  }
}
