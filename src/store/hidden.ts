/**
 * What was hidden and is still kept: listed, and moved back. Nothing that came after it is ever overwritten, and what
 * comes back is the primary's to confirm anew: it counts as an adopted folder's until then.
 */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Digest } from '../oci/digest.ts'
import type { RepositoryName, Tag } from '../oci/reference.ts'
import type { Completeness } from './completeness.ts'
import { createConfirmations } from './confirmations.ts'
import { type DurableFiles, ignoring } from './durable-files.ts'
import type { FsBlobStore } from './fs-blob-store.ts'
import type { FsRepositoryIndex } from './fs-repository-index.ts'
import type { HiddenEntry, Holdings } from './holdings.ts'
import { readLink } from './link-file.ts'
import {
  type Entry,
  LAYERS,
  linkEntry,
  linkIn,
  MANIFESTS,
  type StorePaths,
  tagEntry,
  tagIndexIn,
  tagIndexLinkIn,
  tagLinkIn,
} from './paths.ts'
import { digestsIn, entriesOf, linksIn, repositoriesIn, tagsIn } from './walk.ts'

export interface HiddenDeps {
  readonly paths: StorePaths
  readonly files: DurableFiles
  readonly blobs: Pick<FsBlobStore, 'pin' | 'secure'>
  readonly index: Pick<FsRepositoryIndex, 'rearrange'>
  readonly completeness: Pick<Completeness, 'dropComplete'>
}

/** When it was hidden, then what keeps two apart. A path could not be written so. */
const ID = /^(\d{1,15})-[0-9a-f-]{36}$/

export function createHidden(deps: HiddenDeps): Pick<Holdings, 'hidden' | 'restore'> {
  const { paths, files, blobs, index, completeness } = deps
  const confirmations = createConfirmations(paths, files)

  /** Undefined for another folder's name, and when there is nothing in it (any longer). */
  async function entryOf(id: string): Promise<HiddenEntry | undefined> {
    const hiddenAtMs = ID.exec(id)?.[1]
    if (hiddenAtMs === undefined) return undefined
    const repositories = paths.hiddenRepositories(join(paths.hidden, id))
    for await (const repository of repositoriesIn(repositories)) {
      const folder = join(repositories, repository)
      const tags = (await tagsIn(folder)).map(({ tag }) => tag)
      const links = []
      for (const kind of ['layer', 'manifest'] as const) {
        for (const digest of await linksIn(folder, kind)) links.push({ kind, digest })
      }
      if (tags.length + links.length > 0) {
        return { id, hiddenAtMs: Number(hiddenAtMs), repository, tags, links }
      }
    }
    return undefined
  }

  async function* hidden(under: string = ''): AsyncGenerator<HiddenEntry> {
    const ids: string[] = []
    for await (const { name } of entriesOf(paths.hidden)) if (ID.test(name)) ids.push(name)
    ids.sort((one, other) => Number.parseInt(other, 10) - Number.parseInt(one, 10))
    for (const id of ids) {
      const entry = await entryOf(id)
      if (entry?.repository.startsWith(under)) yield entry
    }
  }

  /** Moves one link, unless something stands in its place or it was collected meanwhile. */
  async function moveBack(from: string, to: string): Promise<void> {
    if (await readLink(to)) return
    await files.place(from, to).catch(ignoring('ENOENT'))
  }

  async function restoreLink(name: RepositoryName, folder: string, entry: Entry): Promise<void> {
    const target = await readLink(linkIn(folder, entry))
    if (!target || (await readLink(paths.link(name, entry)))) return
    // Garbage collection may have looked at the repository already, and will not find the link where it was.
    const unpin = blobs.pin(target)
    try {
      if (!(await blobs.secure(target))) return
      await confirmations.drop(name, entry)
      await moveBack(linkIn(folder, entry), paths.link(name, entry))
    } finally {
      unpin()
    }
  }

  /** In the order in which a tag is set: never a tag without its manifest, the tag itself last. */
  async function restoreTag(name: RepositoryName, folder: string, tag: Tag, digest: Digest): Promise<void> {
    if (await readLink(paths.tagLink(name, tag))) return
    if (!(await readLink(paths.link(name, linkEntry('manifest', digest))))) return
    await confirmations.drop(name, tagEntry(tag))
    const history = tagIndexIn(folder, tag)
    for await (const past of digestsIn(history)) {
      await moveBack(tagIndexLinkIn(folder, tag, past), paths.tagIndexLink(name, tag, past))
    }
    await moveBack(tagLinkIn(folder, tag), paths.tagLink(name, tag))
  }

  async function restoreEntry(id: string, name: RepositoryName): Promise<boolean> {
    const entry = await entryOf(id)
    if (!entry) return false // Another restored it while this one waited for its turn.
    const folder = join(paths.hiddenRepositories(join(paths.hidden, id)), name)
    await completeness.dropComplete(name) // The primary may not have what comes back.
    await files.ensureFolder(paths.entry(name, LAYERS))
    await files.ensureFolder(paths.entry(name, MANIFESTS))
    for (const { kind, digest } of entry.links) await restoreLink(name, folder, linkEntry(kind, digest))
    for (const { tag, digest } of await tagsIn(folder)) await restoreTag(name, folder, tag, digest)
    // What something newer has replaced stays hidden, until its grace has passed.
    if (!(await entryOf(id))) await rm(join(paths.hidden, id), { recursive: true, force: true })
    return true
  }

  return {
    hidden,
    restore: async (id) => {
      const name = (await entryOf(id))?.repository
      return name ? index.rearrange(name, `restoring ${id}`, () => restoreEntry(id, name)) : false
    },
  }
}
