/** Tags in Distribution's folders, each with when the primary last confirmed its value. */
import type { Digest } from '../oci/digest.ts'
import type { RepositoryName, Tag } from '../oci/reference.ts'
import { StoreError } from './blob-store.ts'
import { begun } from './coordination.ts'
import { type IndexParts, keepWord, orUnconfirm } from './index-parts.ts'
import { readLink } from './link-file.ts'
import { linkEntry, tagEntry } from './paths.ts'
import { createReadThrough } from './read-through.ts'
import { doubtKey, isOf, linkKey, tagKey } from './removal-keys.ts'
import type { HeldTag, Mark, RepositoryIndex } from './repository-index.ts'

export interface FsTags
  extends Pick<RepositoryIndex, 'tag' | 'putTag' | 'renewTag' | 'doubtTag' | 'hideTag'> {
  forget(name: RepositoryName, tag: Tag): void
  forgetAll(name: RepositoryName): void
  /** Resolves when the renewals that were begun have ended. */
  idle(): Promise<void>
}

const RENEW_MS = 60_000

interface RememberedTag {
  readonly held: HeldTag
  /** The confirmation as it is on disk, in wall-clock milliseconds; 0 for none. */
  readonly writtenAtMs: number
}

/** `maxRemembered`: 0 where others change the store. */
export function createFsTags(deps: IndexParts, maxRemembered: number): FsTags {
  const { paths, files, coordination, confirmations, hiding, change, guard, skipping, log } = deps
  const tags = createReadThrough<RememberedTag>(maxRemembered)
  /** Renewals under way by tag, where nothing is remembered. */
  const renewals = new Map<string, Promise<void>>()

  async function load(name: RepositoryName, tag: Tag): Promise<RememberedTag | undefined> {
    const digest = await readLink(paths.tagLink(name, tag))
    if (!digest) return undefined
    const confirmedAtMs = await confirmations.read(name, tagEntry(tag), digest)
    return { held: { digest, confirmedAtMs }, writtenAtMs: confirmedAtMs ?? 0 }
  }

  function forget(name: RepositoryName, tag: Tag): void {
    tags.delete(tagKey(name, tag))
  }

  function remember(name: RepositoryName, tag: Tag, digest: Digest, writtenAtMs: number): void {
    const known = tags.peek(tagKey(name, tag))?.held
    const renewedAtMs = known?.digest === digest ? (known.confirmedAtMs ?? 0) : 0
    const confirmedAtMs = Math.max(writtenAtMs, renewedAtMs)
    tags.set(tagKey(name, tag), { held: { digest, confirmedAtMs }, writtenAtMs })
  }

  async function putTag(name: RepositoryName, tag: Tag, digest: Digest, mark: Mark): Promise<boolean> {
    const keys = [name, tagKey(name, tag), linkKey(name, 'manifest', digest)]
    const entry = tagEntry(tag)
    const forgetIt = () => forget(name, tag)
    const tagging = change(name, `tagging ${digest} as ${tag}`, forgetIt, async () => {
      if (await coordination.overrules(mark, ...keys)) return false
      const held = (await load(name, tag))?.held
      const confirmedAtMs = held?.digest === digest ? held.confirmedAtMs : undefined
      if (confirmedAtMs === undefined) {
        if (!(await readLink(paths.link(name, linkEntry('manifest', digest))))) {
          throw new StoreError(
            'io',
            `tagging ${digest} as ${tag} in ${name}: its manifest is not linked here`,
          )
        }
        await files.write(paths.tagIndexLink(name, tag, digest), digest)
        await files.write(paths.tagLink(name, tag), digest)
      }
      const word = { name, entry, digest, mark, keys, confirmedAtMs }
      const stays = await keepWord(deps, word, () => hiding.hide(name, [entry]))
      if (stays) remember(name, tag, digest, Math.max(mark.atMs, confirmedAtMs ?? 0))
      else forget(name, tag)
      return stays
    })
    return skipping(tagging, false)
  }

  async function writeRenewal(name: RepositoryName, tag: Tag, digest: Digest, mark: Mark): Promise<void> {
    const keys = renewalKeys(name, tag, digest)
    const undo = () => hiding.unconfirm(name, [tagEntry(tag)])
    const forgetIt = () => forget(name, tag)
    await change(name, `renewing ${tag}`, forgetIt, async () => {
      if (await coordination.overrules(mark, ...keys)) return
      const onDisk = await load(name, tag)
      if (onDisk?.held.digest !== digest || mark.atMs <= onDisk.writtenAtMs) return
      const { confirmedAtMs } = onDisk.held
      const word = { name, entry: tagEntry(tag), digest, mark, keys, confirmedAtMs }
      if (await keepWord(deps, word, undo)) remember(name, tag, digest, mark.atMs)
      else forget(name, tag)
    })
  }

  /** Renews it in memory; true when it is to be renewed on disk as well. */
  function renewRemembered(name: RepositoryName, tag: Tag, digest: Digest, mark: Mark): boolean {
    const known = tags.peek(tagKey(name, tag))
    if (!known) return true
    const { held, writtenAtMs } = known
    if (held.digest !== digest || mark.atMs <= (held.confirmedAtMs ?? 0)) return false
    const due = mark.atMs - writtenAtMs >= RENEW_MS
    tags.set(tagKey(name, tag), {
      held: { digest, confirmedAtMs: mark.atMs },
      writtenAtMs: due ? mark.atMs : writtenAtMs,
    })
    return due
  }

  /** Nothing is remembered: every pull looks at the disk, and one in a minute asks for a turn. */
  async function renewShared(name: RepositoryName, tag: Tag, digest: Digest, mark: Mark): Promise<void> {
    const onDisk = await load(name, tag)
    if (onDisk?.held.digest !== digest || mark.atMs - onDisk.writtenAtMs < RENEW_MS) return
    await writeRenewal(name, tag, digest, mark)
  }

  function renewTag(name: RepositoryName, tag: Tag, digest: Digest, mark: Mark): void {
    const key = tagKey(name, tag)
    if (coordination.surelyOverrules(mark, ...renewalKeys(name, tag, digest)) || renewals.has(key)) return
    if (!coordination.shared && !renewRemembered(name, tag, digest, mark)) return
    if (!coordination.shared) return void keep(writeRenewal(name, tag, digest, mark))
    const kept = keep(renewShared(name, tag, digest, mark)).finally(() => renewals.delete(key))
    renewals.set(key, kept)
  }

  async function keep(renewal: Promise<void>): Promise<void> {
    try {
      await skipping(renewal, undefined)
    } catch (error) {
      log.warn({ error }, 'a confirmation could not be kept')
    }
  }

  async function doubtTag(name: RepositoryName, tag: Tag): Promise<void> {
    const removal = begun(coordination.bury([doubtKey(name, tag)]))
    const known = tags.peek(tagKey(name, tag))
    if (known) {
      const held = { digest: known.held.digest, confirmedAtMs: undefined }
      tags.set(tagKey(name, tag), { held, writtenAtMs: 0 })
    }
    const forgetIt = () => forget(name, tag)
    const doubted = change(name, `doubting ${tag}`, forgetIt, async () => {
      await removal
      await hiding.unconfirm(name, [tagEntry(tag)])
      forget(name, tag)
    })
    await skipping(
      orUnconfirm(deps, name, async () => [tagEntry(tag)], doubted),
      undefined,
    )
  }

  async function hideTag(name: RepositoryName, tag: Tag): Promise<void> {
    const removal = begun(coordination.bury([tagKey(name, tag)]))
    const forgetIt = () => forget(name, tag)
    const hidden = change(name, `hiding ${tag}`, forgetIt, async () => {
      await removal
      await hiding.hide(name, [tagEntry(tag)])
      forget(name, tag)
    })
    await orUnconfirm(deps, name, async () => [tagEntry(tag)], hidden)
  }

  return {
    tag: async (name, tag) => {
      const read = () => guard(`reading tag ${tag} in ${name}`, () => load(name, tag))
      return (await tags.get(tagKey(name, tag), read))?.held
    },
    putTag,
    renewTag,
    doubtTag,
    hideTag,
    forget,
    forgetAll: (name) => tags.deleteWhere(isOf(name)),
    idle: async () => {
      await Promise.all(renewals.values())
    },
  }
}

/** What overrules the primary's word that a tag stands as it is. */
function renewalKeys(name: RepositoryName, tag: Tag, digest: Digest): string[] {
  return [name, tagKey(name, tag), doubtKey(name, tag), linkKey(name, 'manifest', digest)]
}
