/** Links in Distribution's folders, each with the primary's word for it. */
import type { Digest } from '../oci/digest.ts'
import type { RepositoryName, Tag } from '../oci/reference.ts'
import { StoreError } from './blob-store.ts'
import { forEachBounded } from './bounded.ts'
import { begun } from './coordination.ts'
import { EXPIRED_AT_MS, type Expiries } from './expiries.ts'
import type { FsBlobStore } from './fs-blob-store.ts'
import type { FsTags } from './fs-tags.ts'
import { type IndexParts, keepWord, orUnconfirm } from './index-parts.ts'
import { readLink } from './link-file.ts'
import { type Entry, LAYERS, linkEntry, MANIFESTS, tagEntry } from './paths.ts'
import { createReadThrough } from './read-through.ts'
import { isOf, linkKey, tagKey } from './removal-keys.ts'
import type { Link, LinkKind, Mark, RepositoryIndex } from './repository-index.ts'
import { linksIn } from './walk.ts'

const LINKS_AT_ONCE = 16

export interface FsLinks
  extends Pick<RepositoryIndex, 'link' | 'putLink' | 'hideLink' | 'expireLink' | 'expireRepository'> {
  forgetAll(name: RepositoryName): void
}

export interface FsLinksDeps extends IndexParts {
  readonly blobs: Pick<FsBlobStore, 'pin' | 'secure'>
  readonly expiries: Expiries
  readonly tags: Pick<FsTags, 'forget'>
}

/** `maxRemembered`: 0 where others change the store. */
export function createFsLinks(deps: FsLinksDeps, maxRemembered: number): FsLinks {
  const { paths, files, blobs, coordination, confirmations, expiries, hiding, change, guard } = deps
  const links = createReadThrough<Link>(maxRemembered)

  async function load(name: RepositoryName, entry: Entry): Promise<Link | undefined> {
    const target = await readLink(paths.link(name, entry))
    if (!target) return undefined
    const confirmedAtMs = await confirmations.read(name, entry, target)
    const expired = confirmedAtMs !== undefined && confirmedAtMs <= (await expiries.read(name))
    return { target, confirmedAtMs: expired ? EXPIRED_AT_MS : confirmedAtMs }
  }

  /** Both folders stand in every repository: 2.8 lists repositories by the one, 3 by the other. */
  async function establish(name: RepositoryName): Promise<void> {
    await files.ensureFolder(paths.entry(name, LAYERS))
    await files.ensureFolder(paths.entry(name, MANIFESTS))
  }

  function forgetAll(name: RepositoryName): void {
    links.deleteWhere(isOf(name))
  }

  async function putLink(
    name: RepositoryName,
    kind: LinkKind,
    digest: Digest,
    mark: Mark,
    target: Digest = digest,
  ): Promise<boolean> {
    const unpin = blobs.pin(target)
    const key = linkKey(name, kind, digest)
    const keys = [name, key]
    const entry = linkEntry(kind, digest)
    const forget = () => links.delete(key)
    const linking = change(name, `linking ${digest}`, forget, async () => {
      if (await coordination.overrules(mark, ...keys)) return false
      const held = await load(name, entry)
      const confirmedAtMs = held?.target === target ? held.confirmedAtMs : undefined
      // A confirmation is only ever written after its link was synced, so one that is confirmed needs no writing.
      if (confirmedAtMs === undefined) {
        if (!(await blobs.secure(target))) {
          throw new StoreError('io', `linking ${digest} in ${name}: blob ${target} is not here`)
        }
        await establish(name)
        await files.write(paths.link(name, entry), target)
      }
      // What removed it meanwhile may have been that it expired.
      const word = { name, entry, digest: target, mark, keys, confirmedAtMs, inDoubtMs: EXPIRED_AT_MS }
      const stays = await keepWord(deps, word, () => hiding.hide(name, [entry]))
      if (stays) links.set(key, { target, confirmedAtMs: Math.max(mark.atMs, confirmedAtMs ?? 0) })
      else forget()
      return stays
    })
    return deps.skipping(linking, false).finally(unpin)
  }

  async function hideLink(name: RepositoryName, kind: LinkKind, digest: Digest): Promise<void> {
    const key = linkKey(name, kind, digest)
    const removal = begun(coordination.bury([key]))
    /** The tags go first: a crash may leave a manifest without its tags, never a tag without its manifest. */
    const entriesWith = (tags: readonly Tag[]) => [...tags.map(tagEntry), linkEntry(kind, digest)]
    const tagsOfIt = async () => (kind === 'manifest' ? await hiding.tagsThatName(name, digest) : [])
    let hiddenTags: readonly Tag[] = []
    const forget = () => {
      links.delete(key)
      for (const tag of hiddenTags) deps.tags.forget(name, tag)
    }
    const hidden = change(name, `hiding ${digest}`, forget, async () => {
      const recorded = await removal
      hiddenTags = await tagsOfIt()
      const keys = hiddenTags.map((tag) => tagKey(name, tag))
      if (keys.length > 0) await coordination.bury(keys, recorded)
      await hiding.hide(name, entriesWith(hiddenTags))
      forget()
    })
    await orUnconfirm(deps, name, async () => entriesWith(await tagsOfIt()), hidden)
  }

  async function expireLink(name: RepositoryName, kind: LinkKind, digest: Digest): Promise<void> {
    const key = linkKey(name, kind, digest)
    const entry = linkEntry(kind, digest)
    const removal = begun(coordination.bury([key]))
    const forget = () => links.delete(key)
    await change(name, `expiring ${digest}`, forget, async () => {
      await removal
      const held = await load(name, entry)
      if (held?.confirmedAtMs !== undefined) await confirmations.expire(name, entry, held.target)
      forget()
    })
  }

  async function expireRepository(name: RepositoryName): Promise<void> {
    const removal = begun(coordination.bury([name]))
    const forget = () => forgetAll(name)
    await change(name, 'expiring every link', forget, async () => {
      const { atMs } = await removal
      // Another process may have confirmed by a clock that is ahead of this one.
      await expiries.write(name, coordination.shared ? Math.max(atMs, await newestMs(name)) : atMs)
      forget()
    })
  }

  /** When the latest word for a link was given; 0 for none. */
  async function newestMs(name: RepositoryName): Promise<number> {
    let newest = 0
    for (const kind of ['layer', 'manifest'] as const) {
      await forEachBounded(await linksIn(paths.repository(name), kind), LINKS_AT_ONCE, async (digest) => {
        newest = Math.max(newest, (await load(name, linkEntry(kind, digest)))?.confirmedAtMs ?? 0)
      })
    }
    return newest
  }

  return {
    link: (name, kind, digest) =>
      links.get(linkKey(name, kind, digest), () =>
        guard(`reading the link of ${digest} in ${name}`, () => load(name, linkEntry(kind, digest))),
      ),
    putLink,
    hideLink,
    expireLink,
    expireRepository,
    forgetAll,
  }
}
