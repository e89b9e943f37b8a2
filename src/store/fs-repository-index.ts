/**
 * Links and tags in Distribution's folders, the primary's word for each beside them. Changes of one repository take
 * effect one at a time; a hidden thing is moved aside whole, never deleted, and loses its confirmation first.
 */
import { randomUUID } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Logger } from '../log.ts'
import type { Digest } from '../oci/digest.ts'
import type { RepositoryName, Tag } from '../oci/reference.ts'
import { StoreError } from './blob-store.ts'
import type { Completeness } from './completeness.ts'
import { createConfirmations } from './confirmations.ts'
import { type DurableFiles, ignoring, syncFolder } from './durable-files.ts'
import { createExpiries, EXPIRED_AT_MS } from './expiries.ts'
import type { Guard } from './failures.ts'
import type { FsBlobStore } from './fs-blob-store.ts'
import { createIdentities, type Identity } from './identities.ts'
import { createKeyedMutex } from './keyed-mutex.ts'
import { readLink } from './link-file.ts'
import { type Entry, LAYERS, linkEntry, MANIFESTS, type StorePaths, tagEntry } from './paths.ts'
import { createReadThrough } from './read-through.ts'
import type { HeldTag, Link, LinkKind, Mark, RepositoryIndex } from './repository-index.ts'
import { createTombstones } from './tombstones.ts'
import { tagsIn } from './walk.ts'

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
  readonly completeness: Pick<Completeness, 'dropComplete'>
  readonly guard: Guard
  readonly log: Logger
}

export interface FsRepositoryIndexOptions {
  /** Links remembered; default 50 000. */
  readonly maxLinks?: number | undefined
  /** Tags remembered; default 20 000. */
  readonly maxTags?: number | undefined
  /** Wall clock in milliseconds; default `Date.now`. */
  readonly now?: (() => number) | undefined
}

const RENEW_TAG_MS = 60_000

interface RememberedTag {
  readonly held: HeldTag
  /** The confirmation as it is on disk, in wall-clock milliseconds; 0 for none. */
  readonly writtenAtMs: number
}

/** A space stands in no name, tag or digest. */
const linkKey = (name: RepositoryName, kind: LinkKind, digest: Digest) => `${name} ${kind} ${digest}`
const tagKey = (name: RepositoryName, tag: Tag) => `${name} tag ${tag}`
const doubtKey = (name: RepositoryName, tag: Tag) => `${name} doubt ${tag}`

export function createFsRepositoryIndex(
  deps: FsRepositoryIndexDeps,
  options: FsRepositoryIndexOptions = {},
): FsRepositoryIndex {
  const { paths, files, blobs, completeness, guard, log } = deps
  const now = options.now ?? Date.now
  const confirmations = createConfirmations(paths, files)
  const expiries = createExpiries(paths, files)
  const identities = createIdentities(paths, files)
  const tombstones = createTombstones({ now })
  const mutex = createKeyedMutex()
  const links = createReadThrough<Link>(options.maxLinks ?? 50_000)
  const tags = createReadThrough<RememberedTag>(options.maxTags ?? 20_000)

  /**
   * A change of one repository, after all that were asked for before it. One that fails may have changed the disk all
   * the same: `forget` then makes the next reader look.
   */
  function change<T>(
    name: RepositoryName,
    doing: string,
    forget: () => void,
    work: () => Promise<T>,
  ): Promise<T> {
    const forgetful = async () => {
      try {
        return await work()
      } catch (error) {
        forget()
        throw error
      }
    }
    return guard(`${doing} in ${name}`, () => mutex.run(name, forgetful))
  }

  function forgetTag(name: RepositoryName, tag: Tag): void {
    tags.delete(tagKey(name, tag))
  }

  function forgetLinks(name: RepositoryName): void {
    links.deleteWhere((key) => key.startsWith(`${name} `))
  }

  function forgetEverything(name: RepositoryName): void {
    forgetLinks(name)
    tags.deleteWhere((key) => key.startsWith(`${name} `))
  }

  async function loadLink(name: RepositoryName, entry: Entry): Promise<Link | undefined> {
    const target = await readLink(paths.link(name, entry))
    if (!target) return undefined
    const confirmedAtMs = await confirmations.read(name, entry, target)
    const expired = confirmedAtMs !== undefined && confirmedAtMs <= (await expiries.read(name))
    return { target, confirmedAtMs: expired ? EXPIRED_AT_MS : confirmedAtMs }
  }

  async function loadTag(name: RepositoryName, tag: Tag): Promise<RememberedTag | undefined> {
    const digest = await readLink(paths.tagLink(name, tag))
    if (!digest) return undefined
    const confirmedAtMs = await confirmations.read(name, tagEntry(tag), digest)
    return { held: { digest, confirmedAtMs }, writtenAtMs: confirmedAtMs ?? 0 }
  }

  async function writeTagConfirmation(
    name: RepositoryName,
    tag: Tag,
    digest: Digest,
    atMs: number,
  ): Promise<void> {
    await confirmations.write(name, tagEntry(tag), digest, atMs)
    const known = tags.peek(tagKey(name, tag))?.held
    const renewedAtMs = known?.digest === digest ? (known.confirmedAtMs ?? 0) : 0
    tags.set(tagKey(name, tag), {
      held: { digest, confirmedAtMs: Math.max(atMs, renewedAtMs) },
      writtenAtMs: atMs,
    })
  }

  /** Moves entries aside, in this order; when that fails, none of them is confirmed any longer. */
  async function hide(name: RepositoryName, entries: readonly Entry[]): Promise<void> {
    const folder = join(paths.hidden, `${now()}-${randomUUID()}`)
    for (const entry of entries) await confirmations.drop(name, entry)
    for (const entry of entries) {
      const path = paths.entry(name, entry)
      if (!(await stat(path).catch(ignoring('ENOENT', 'ENOTDIR')))) continue
      await files.place(path, paths.hiddenEntry(folder, name, entry))
      await syncFolder(dirname(path))
      files.forgetFolders()
    }
  }

  async function tagsThatName(name: RepositoryName, digest: Digest): Promise<Tag[]> {
    const held = await tagsIn(paths.repository(name))
    return held.filter((one) => one.digest === digest).map(({ tag }) => tag)
  }

  /** Both folders stand in every repository: 2.8 lists repositories by the one, 3 by the other. */
  async function establish(name: RepositoryName): Promise<void> {
    await files.ensureFolder(paths.entry(name, LAYERS))
    await files.ensureFolder(paths.entry(name, MANIFESTS))
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
    const entry = linkEntry(kind, digest)
    const forget = () => links.delete(key)
    return change(name, `linking ${digest}`, forget, async () => {
      if (tombstones.overrules(mark, name, key)) return false
      const held = await loadLink(name, entry)
      // A confirmation is only ever written after its link was synced, so one that is confirmed needs no writing.
      if (held?.target !== target || held.confirmedAtMs === undefined) {
        if (!(await blobs.secure(target))) {
          throw new StoreError('io', `linking ${digest} in ${name}: blob ${target} is not here`)
        }
        await establish(name)
        await files.write(paths.link(name, entry), target)
      }
      const confirmedAtMs = Math.max(mark.atMs, held?.target === target ? (held.confirmedAtMs ?? 0) : 0)
      await confirmations.write(name, entry, target, confirmedAtMs)
      links.set(key, { target, confirmedAtMs })
      return true
    }).finally(unpin)
  }

  async function hideLink(name: RepositoryName, kind: LinkKind, digest: Digest): Promise<void> {
    const key = linkKey(name, kind, digest)
    const removal = tombstones.bury(key)
    const hiddenTags: Tag[] = []
    const forget = () => {
      links.delete(key)
      for (const tag of hiddenTags) forgetTag(name, tag)
    }
    await change(name, `hiding ${digest}`, forget, async () => {
      if (kind === 'manifest') hiddenTags.push(...(await tagsThatName(name, digest)))
      for (const tag of hiddenTags) tombstones.bury(tagKey(name, tag), removal)
      // The tags go first: a crash may leave a manifest without its tags, never a tag without its manifest.
      await hide(name, [...hiddenTags.map(tagEntry), linkEntry(kind, digest)])
      forget()
    })
  }

  async function expireLink(name: RepositoryName, kind: LinkKind, digest: Digest): Promise<void> {
    const key = linkKey(name, kind, digest)
    const entry = linkEntry(kind, digest)
    tombstones.bury(key)
    const forget = () => links.delete(key)
    await change(name, `expiring ${digest}`, forget, async () => {
      const held = await loadLink(name, entry)
      if (held?.confirmedAtMs !== undefined) await confirmations.expire(name, entry, held.target)
      forget()
    })
  }

  async function expireRepository(name: RepositoryName): Promise<void> {
    const { atMs } = tombstones.bury(name)
    const forget = () => forgetLinks(name)
    await change(name, 'expiring every link', forget, async () => {
      await expiries.write(name, atMs)
      forget()
    })
  }

  async function putTag(name: RepositoryName, tag: Tag, digest: Digest, mark: Mark): Promise<boolean> {
    const manifestKey = linkKey(name, 'manifest', digest)
    const forget = () => forgetTag(name, tag)
    return change(name, `tagging ${digest} as ${tag}`, forget, async () => {
      if (tombstones.overrules(mark, name, tagKey(name, tag), manifestKey)) return false
      const held = (await loadTag(name, tag))?.held
      const stands = held?.digest === digest ? held.confirmedAtMs : undefined
      if (stands === undefined) {
        if (!(await loadLink(name, linkEntry('manifest', digest)))) {
          throw new StoreError(
            'io',
            `tagging ${digest} as ${tag} in ${name}: its manifest is not linked here`,
          )
        }
        await files.write(paths.tagIndexLink(name, tag, digest), digest)
        await files.write(paths.tagLink(name, tag), digest)
      }
      await writeTagConfirmation(name, tag, digest, Math.max(mark.atMs, stands ?? 0))
      return true
    })
  }

  function renewTag(name: RepositoryName, tag: Tag, digest: Digest, mark: Mark): void {
    const key = tagKey(name, tag)
    const overruled = () =>
      tombstones.overrules(mark, name, key, doubtKey(name, tag), linkKey(name, 'manifest', digest))
    if (overruled()) return
    const known = tags.peek(key)
    if (known) {
      const { held, writtenAtMs } = known
      if (held.digest !== digest || mark.atMs <= (held.confirmedAtMs ?? 0)) return
      const due = mark.atMs - writtenAtMs >= RENEW_TAG_MS
      tags.set(key, {
        held: { digest, confirmedAtMs: mark.atMs },
        writtenAtMs: due ? mark.atMs : writtenAtMs,
      })
      if (!due) return
    }
    const forget = () => forgetTag(name, tag)
    change(name, `renewing ${tag}`, forget, async () => {
      const onDisk = overruled() ? undefined : await loadTag(name, tag)
      if (onDisk?.held.digest !== digest || mark.atMs <= onDisk.writtenAtMs) return
      await writeTagConfirmation(name, tag, digest, mark.atMs)
    }).catch((error: unknown) => log.warn({ error }, 'a confirmation could not be kept'))
  }

  async function doubtTag(name: RepositoryName, tag: Tag): Promise<void> {
    tombstones.bury(doubtKey(name, tag))
    const known = tags.peek(tagKey(name, tag))
    if (known) {
      const held = { digest: known.held.digest, confirmedAtMs: undefined }
      tags.set(tagKey(name, tag), { held, writtenAtMs: 0 })
    }
    const forget = () => forgetTag(name, tag)
    await change(name, `doubting ${tag}`, forget, async () => {
      await confirmations.drop(name, tagEntry(tag))
      forget()
    })
  }

  async function hideTag(name: RepositoryName, tag: Tag): Promise<void> {
    tombstones.bury(tagKey(name, tag))
    const forget = () => forgetTag(name, tag)
    await change(name, `hiding ${tag}`, forget, async () => {
      await hide(name, [tagEntry(tag)])
      forget()
    })
  }

  /** A disk that is full must not stop reads: what could not be kept holds for this process. */
  async function keepIdentity(name: RepositoryName, identity: Identity): Promise<void> {
    await guard(`keeping the project of ${name}`, () => identities.write(name, identity)).catch(
      (error: unknown) => log.warn({ error }, 'the project behind a repository could not be kept'),
    )
  }

  async function identify(
    name: RepositoryName,
    projectId: number,
    issuedAtSeconds: number,
  ): Promise<'same' | 'replaced' | 'older'> {
    const seen = identities.peek(name)
    if (seen?.projectId === projectId && issuedAtSeconds <= seen.issuedAtSeconds) return 'same'
    const forget = () => forgetEverything(name)
    return change(name, `identifying project ${projectId}`, forget, async () => {
      const held = await identities.read(name)
      const identity = { projectId, issuedAtSeconds }
      if (!held || (held.projectId === projectId && issuedAtSeconds > held.issuedAtSeconds)) {
        await keepIdentity(name, identity)
        return 'same'
      }
      if (held.projectId === projectId) return 'same'
      if (issuedAtSeconds <= held.issuedAtSeconds) return 'older'
      // First the content, then the identity: after a crash in between, the next token hides the rest.
      tombstones.bury(name)
      await completeness.dropComplete(name) // It spoke of the former project.
      await hide(name, [MANIFESTS, LAYERS])
      forget()
      await keepIdentity(name, identity)
      return 'replaced'
    })
  }

  return {
    mark: () => tombstones.mark(),
    stands: (name, kind, digest, mark) => !tombstones.overrules(mark, name, linkKey(name, kind, digest)),
    link: (name, kind, digest) =>
      links.get(linkKey(name, kind, digest), () =>
        guard(`reading the link of ${digest} in ${name}`, () => loadLink(name, linkEntry(kind, digest))),
      ),
    putLink,
    hideLink,
    expireLink,
    expireRepository,
    tag: async (name, tag) => {
      const load = () => guard(`reading tag ${tag} in ${name}`, () => loadTag(name, tag))
      return (await tags.get(tagKey(name, tag), load))?.held
    },
    putTag,
    renewTag,
    doubtTag,
    hideTag,
    identify,
    rearrange: (name, doing, work) => {
      const forget = () => forgetEverything(name)
      return change(name, doing, forget, work).finally(forget)
    },
    close: () => mutex.idle(),
  }
}
