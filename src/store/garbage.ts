/**
 * Garbage collection while serving: what no link names, and nothing hidden or adopted may need, goes once it is a day
 * old. Any doubt keeps a blob, and an error while marking ends the run before the first blob is deleted. Never touches the
 * fill's spools.
 *
 * Pins and open blobs are this process' own. In a shared store another process makes a blob young before it links it,
 * and a blob that is old is moved out of the way before its age is looked at once more: whichever comes first, the
 * other sees it. No lock is needed, and no other process.
 */
import type { Stats } from 'node:fs'
import { rm, stat, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { type Digest, parseDigest } from '../oci/digest.ts'
import { recordedDigests } from './adopted.ts'
import { forEachBounded } from './bounded.ts'
import { ignoring } from './durable-files.ts'
import type { FsBlobStore } from './fs-blob-store.ts'
import { readLink } from './link-file.ts'
import { LAYERS, MANIFESTS, type StorePaths } from './paths.ts'
import { entriesOf, storedDigests } from './walk.ts'

export interface GarbageOptions {
  /**
   * How long hidden content stays restorable, and adopted content that no link names yet stays here, in milliseconds;
   * default 168 h (`replication.deletegrace`).
   */
  readonly deleteGraceMs?: number | undefined
  /** Younger blobs and temporary files stay, in milliseconds; default 24 h. */
  readonly minAgeMs?: number | undefined
  /** Counts only, removes nothing; default false. */
  readonly dryRun?: boolean | undefined
  readonly signal?: AbortSignal | undefined
}

export interface GarbageReport {
  readonly dryRun: boolean
  /** Digests that links name, hidden ones included, or that were adopted within the grace. */
  readonly linkedDigests: number
  readonly keptBlobs: number
  readonly removedBlobs: number
  readonly removedBlobBytes: number
  /** Removals whose grace has passed, and damaged blobs as old. */
  readonly removedHidden: number
  readonly removedTemporaryFiles: number
  readonly durationMs: number
}

export interface GarbageDeps {
  readonly paths: StorePaths
  readonly blobs: FsBlobStore
  /** Wall clock in milliseconds; default `Date.now`. */
  readonly now?: (() => number) | undefined
}

const HOUR_MS = 60 * 60 * 1000
const FILES_AT_ONCE = 16

/** Not to be run twice at once by one process. Throws what the filesystem throws, or the signal's reason. */
export async function collectGarbage(
  deps: GarbageDeps,
  options: GarbageOptions = {},
): Promise<GarbageReport> {
  const { paths, blobs } = deps
  const { dryRun = false, signal } = options
  const startedAtMs = performance.now()
  const nowMs = (deps.now ?? Date.now)()
  const graceEndedMs = nowMs - (options.deleteGraceMs ?? 168 * HOUR_MS)
  const oldMs = nowMs - (options.minAgeMs ?? 24 * HOUR_MS)
  const counts = { keptBlobs: 0, removedBlobs: 0, removedBlobBytes: 0 }

  // The watch begins before the first link is read: what is linked behind the marking is touched, so kept.
  const watch = blobs.watch()
  try {
    const expired = [
      ...(await namesBefore(paths.hidden, graceEndedMs)),
      ...(await namesBefore(paths.quarantine, graceEndedMs)),
    ]
    const forgotten = await namesBefore(paths.adopted, graceEndedMs)
    if (!dryRun) {
      for (const path of [...expired, ...forgotten]) await rm(path, { recursive: true, force: true })
    }

    const linked = new Set<Digest>()
    // Repositories before what is hidden: a link that is hidden meanwhile is met in one of them.
    await markRepositories(paths.repositories, linked, signal)
    for await (const folder of entriesOf(paths.hidden)) {
      const path = join(paths.hidden, folder.name)
      if (!expired.includes(path)) await markRepositories(paths.hiddenRepositories(path), linked, signal)
    }
    for await (const { name } of entriesOf(paths.adopted)) {
      const path = join(paths.adopted, name)
      if (forgotten.includes(path)) continue
      for await (const digest of recordedDigests(path)) linked.add(digest)
    }

    await forEachBounded(storedDigests(paths.blobs), FILES_AT_ONCE, async (digest) => {
      signal?.throwIfAborted()
      const stats = await stat(paths.blob(digest)).catch(ignoring('ENOENT', 'ENOTDIR'))
      const keep = linked.has(digest) || watch.touched(digest) || (stats && stats.mtimeMs >= oldMs)
      if (!keep && (dryRun ? stats : (await watch.remove(digest, oldMs)) && stats)) {
        counts.removedBlobs += 1
        counts.removedBlobBytes += stats?.size ?? 0
      } else if (stats) counts.keptBlobs += 1
    })

    return {
      dryRun,
      linkedDigests: linked.size,
      ...counts,
      removedHidden: expired.length,
      removedTemporaryFiles: await removeOldFiles(paths.incoming, oldMs, dryRun),
      durationMs: Math.round(performance.now() - startedAtMs),
    }
  } finally {
    watch.end()
  }
}

/** Adds what every link under a `repositories/` folder names, by its content and by its path. */
async function markRepositories(
  folder: string,
  linked: Set<Digest>,
  signal: AbortSignal | undefined,
): Promise<void> {
  signal?.throwIfAborted()
  for await (const entry of entriesOf(folder)) {
    const path = join(folder, entry.name)
    // A symbolic link is followed: a sysadmin may have moved a repository to another disk.
    if (entry.isFile()) continue
    if (entry.name === LAYERS) await markDigests(path, linked)
    else if (entry.name === MANIFESTS) {
      await markDigests(join(path, 'revisions'), linked)
      await forEachBounded(entriesOf(join(path, 'tags')), FILES_AT_ONCE, async (tag) => {
        await markLink(join(path, 'tags', tag.name, 'current/link'), linked)
      })
    } else if (!entry.name.startsWith('_')) await markRepositories(path, linked, signal)
  }
}

async function markDigests(folder: string, linked: Set<Digest>): Promise<void> {
  for await (const algorithm of entriesOf(folder)) {
    const path = join(folder, algorithm.name)
    await forEachBounded(entriesOf(path), FILES_AT_ONCE, async ({ name }) => {
      const own = parseDigest(`${algorithm.name}:${name}`)
      // Also where the link itself is damaged: what it once named may be mended rather than fetched.
      if (own) linked.add(own)
      await markLink(join(path, name, 'link'), linked)
    })
  }
}

async function markLink(path: string, linked: Set<Digest>): Promise<void> {
  const target = await readLink(path)
  if (target) linked.add(target)
}

/** Paths of what is named `<epoch milliseconds>-…` with a time before `beforeMs`; other names stay. */
async function namesBefore(folder: string, beforeMs: number): Promise<string[]> {
  const found: string[] = []
  for await (const { name } of entriesOf(folder)) {
    const atMs = /^(\d{1,15})-/.exec(name)?.[1]
    if (atMs !== undefined && Number(atMs) < beforeMs) found.push(join(folder, name))
  }
  return found
}

async function removeOldFiles(folder: string, beforeMs: number, dryRun: boolean): Promise<number> {
  let removed = 0
  for await (const { name } of entriesOf(folder)) {
    const path = join(folder, name)
    const stats = await stat(path).catch(ignoring('ENOENT'))
    if (!stats?.isFile() || lastUsedMs(stats) >= beforeMs) continue
    if (!dryRun) await unlink(path).catch(ignoring('ENOENT'))
    removed += 1
  }
  return removed
}

/** A file with another name is an adopted folder's, as old as that; its inode changed when it got this name. */
function lastUsedMs({ nlink, mtimeMs, ctimeMs }: Stats): number {
  return nlink > 1 ? Math.max(mtimeMs, ctimeMs) : mtimeMs
}
