/**
 * The blob store in Distribution's folders. A blob appears by rename only, after its bytes were verified and synced;
 * descriptors of what is read often stay open, so that a warm read opens nothing.
 */
import { randomUUID } from 'node:crypto'
import { read as readFd } from 'node:fs'
import { statfs } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { LRUCache } from 'lru-cache'
import type { Logger } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import { algorithmOf, type Digest, digestOf, hexOf } from '../oci/digest.ts'
import { liesAt, openFileOf, removeFile, removeUnlessYoung, sizeOf, touch } from './blob-files.ts'
import { type BlobStore, type OpenBlob, StoreError } from './blob-store.ts'
import { createDescriptorCache } from './descriptor-cache.ts'
import { type DurableFiles, ignoring, syncFile } from './durable-files.ts'
import type { Guard } from './failures.ts'
import type { StorePaths } from './paths.ts'

/** What the index and garbage collection need besides the port. */
export interface FsBlobStore extends BlobStore {
  /**
   * Makes sure that a blob survives a power cut before it is linked: one that another registry left may never have been
   * synced. In a shared store it also counts as young from then on, so that no other process' garbage collection takes
   * it before its link is seen. False when it is not here.
   */
  secure(digest: Digest): Promise<boolean>
  /** What lay at the digest's path was removed or replaced by another process: the next reader opens it anew. */
  forget(digest: Digest): void
  forgetAll(): void
  /** From here until `end`, remembers every digest that is or gets pinned or opened. One watch at a time. */
  watch(): Watch
  /** Closes the descriptors nobody uses; the others close with their last reader. */
  close(): Promise<void>
}

export interface Watch {
  /** Whether the digest is pinned or open, or was at any moment since the watch began. */
  touched(digest: Digest): boolean
  /**
   * Deletes a blob unless it is touched; whoever asks for it meanwhile waits for the outcome. In a shared store, also
   * unless it is as young as `youngMs` (wall clock) at that moment.
   */
  remove(digest: Digest, youngMs?: number): Promise<boolean>
  end(): void
}

export interface FsBlobStoreOptions {
  /** Part of the filesystem (0 to 1) below which nothing new is kept; default 0.05. */
  readonly minFreeFraction?: number | undefined
  /** Descriptors kept open for the next reader; default 256. */
  readonly maxIdleDescriptors?: number | undefined
  /** Other processes change the same store; default false. */
  readonly shared?: boolean | undefined
  /** A blob was removed, replaced or quarantined here; must not throw. */
  readonly onForgotten?: ((digest: Digest) => void) | undefined
}

export interface FsBlobStoreDeps {
  readonly paths: StorePaths
  readonly files: DurableFiles
  readonly guard: Guard
  readonly log: Logger
  readonly metrics: Metrics
}

const ROOM_CHECK_MS = 1000
/** Blobs known to be on disk; a smaller number only costs repeated syncs. */
const KNOWN_SECURE = 10_000

const readAt = promisify(readFd)

export function createFsBlobStore(deps: FsBlobStoreDeps, options: FsBlobStoreOptions = {}): FsBlobStore {
  const { paths, files, guard, log, metrics } = deps
  const { minFreeFraction = 0.05, shared = false, onForgotten = () => undefined } = options
  const pins = new Map<Digest, number>()
  /** Blobs being deleted right now. */
  const removals = new Map<Digest, Promise<boolean>>()
  const secured = new LRUCache<Digest, true>({ max: KNOWN_SECURE })
  let watched: Set<Digest> | undefined
  let room: { readonly untilMs: number; readonly answer: Promise<boolean> } | undefined
  const descriptors = createDescriptorCache({
    open: async (digest) => {
      await removals.get(digest)
      return guard(`opening blob ${digest}`, () => openFileOf(paths.blob(digest)))
    },
    max: options.maxIdleDescriptors ?? 256,
    log,
  })

  function pin(digest: Digest): () => void {
    pins.set(digest, (pins.get(digest) ?? 0) + 1)
    watched?.add(digest)
    let pinned = true
    return () => {
      if (!pinned) return
      pinned = false
      const left = (pins.get(digest) ?? 0) - 1
      if (left > 0) pins.set(digest, left)
      else pins.delete(digest)
    }
  }

  async function pinned<T>(digest: Digest, work: () => Promise<T>): Promise<T> {
    const unpin = pin(digest)
    try {
      await removals.get(digest)
      return await work()
    } finally {
      unpin()
    }
  }

  /** Puts at the digest's path what is durable then. */
  async function put(digest: Digest, place: () => Promise<void>): Promise<void> {
    const replaces = shared && (await sizeOf(paths.blob(digest))) !== undefined
    await pinned(digest, place)
    secured.set(digest, true)
    descriptors.forget(digest)
    if (replaces) onForgotten(digest)
  }

  function forget(digest: Digest): void {
    secured.delete(digest)
    descriptors.forget(digest)
  }

  /** Another process may have removed or replaced what is open here, and what it says of that may never arrive. */
  async function acquire(digest: Digest): ReturnType<typeof descriptors.acquire> {
    const descriptor = await descriptors.acquire(digest)
    if (!shared || !descriptor) return descriptor
    try {
      const isCurrent = () => liesAt(paths.blob(digest), descriptor)
      if (await guard(`looking for blob ${digest}`, isCurrent)) return descriptor
    } catch (error) {
      descriptors.release(descriptor)
      throw error
    }
    forget(digest)
    descriptors.release(descriptor)
    return await descriptors.acquire(digest)
  }

  async function open(digest: Digest): Promise<OpenBlob | undefined> {
    const unpin = pin(digest)
    try {
      const descriptor = await acquire(digest)
      if (!descriptor) {
        unpin()
        return undefined
      }
      let isOpen = true
      const close = () => {
        if (!isOpen) return
        isOpen = false
        descriptors.release(descriptor)
        unpin()
      }
      return { digest, sizeBytes: descriptor.sizeBytes, fd: descriptor.file.fd, close }
    } catch (error) {
      unpin()
      throw error
    }
  }

  async function read(digest: Digest, limitBytes: number): Promise<Buffer | undefined> {
    const blob = await open(digest)
    if (!blob) return undefined
    try {
      if (blob.sizeBytes > limitBytes) return undefined
      const bytes = await guard(`reading blob ${digest}`, () => readWhole(blob))
      if (digestOf(bytes, algorithmOf(digest)) === digest) return bytes
    } finally {
      blob.close()
    }
    metrics.storeErrors.inc({ kind: 'mismatch' })
    log.error({ digest }, 'a stored blob does not match its digest: quarantined, to be fetched anew')
    await quarantine(digest)
    return undefined
  }

  async function quarantine(digest: Digest): Promise<void> {
    const name = `${Date.now()}-${randomUUID()}-${algorithmOf(digest)}-${hexOf(digest)}`
    const move = () => files.place(paths.blob(digest), join(paths.quarantine, name))
    await guard(`quarantining blob ${digest}`, () => move().catch(ignoring('ENOENT', 'ENOTDIR')))
    forget(digest)
    onForgotten(digest)
  }

  function checkRoom(): Promise<boolean> {
    return statfs(paths.root).then(
      ({ bavail, blocks, ffree, files: inodes }) =>
        bavail >= blocks * minFreeFraction && (inodes === 0 || ffree >= inodes * minFreeFraction),
      (error: unknown) => {
        log.error({ error }, 'free space cannot be told: nothing new is kept')
        return false
      },
    )
  }

  function watch(): Watch {
    // What is pinned already may be linked behind the marking, and let go of before its turn comes.
    const seen = new Set(pins.keys())
    watched = seen
    const touched = (digest: Digest) => pins.has(digest) || seen.has(digest)
    return {
      touched,
      remove: async (digest, youngMs = Infinity) => {
        if (touched(digest)) return false
        const path = paths.blob(digest)
        const removal = shared ? removeUnlessYoung(path, paths.incoming, youngMs) : removeFile(path)
        // Whoever asks for the blob meanwhile waits for the end of it, however it ends.
        const outcome = removal.catch(() => false)
        removals.set(digest, outcome)
        forget(digest)
        try {
          const removed = await removal
          if (removed) onForgotten(digest)
          return removed
        } finally {
          removals.delete(digest)
          files.forgetFolders()
        }
      },
      end: () => {
        if (watched === seen) watched = undefined
      },
    }
  }

  return {
    stat: async (digest) => {
      const known = shared ? undefined : descriptors.sizeOf(digest)
      if (known !== undefined) return known
      return pinned(digest, () => guard(`looking for blob ${digest}`, () => sizeOf(paths.blob(digest))))
    },
    open,
    read,
    write: (digest, bytes) =>
      guard(`writing blob ${digest}`, async () => {
        const actual = digestOf(bytes, algorithmOf(digest))
        if (actual !== digest) throw new StoreError('mismatch', `the bytes are ${actual}`)
        await put(digest, () => files.write(paths.blob(digest), bytes))
      }),
    publish: (path, digest) =>
      guard(`publishing blob ${digest}`, async () => {
        await syncFile(path)
        await put(digest, () => files.place(path, paths.blob(digest)))
      }),
    quarantine,
    pin,
    secure: (digest) =>
      pinned(digest, async () => {
        if (shared && !(await touch(paths.blob(digest)))) return false
        if (secured.has(digest)) return true
        if ((await sizeOf(paths.blob(digest))) === undefined) return false
        await files.sync(paths.blob(digest))
        secured.set(digest, true)
        return true
      }),
    hasRoom: () => {
      const nowMs = performance.now()
      if (!room || nowMs >= room.untilMs) room = { untilMs: nowMs + ROOM_CHECK_MS, answer: checkRoom() }
      return room.answer
    },
    forget,
    forgetAll: () => {
      secured.clear()
      descriptors.forgetAll()
    },
    watch,
    close: () => descriptors.close(),
  }
}

/** What is there now; shorter when the file was cut since it was opened. */
async function readWhole({ fd, sizeBytes }: OpenBlob): Promise<Buffer> {
  const bytes = Buffer.allocUnsafeSlow(sizeBytes)
  let length = 0
  while (length < sizeBytes) {
    const { bytesRead } = await readAt(fd, bytes, length, sizeBytes - length, length)
    if (bytesRead === 0) break
    length += bytesRead
  }
  return bytes.subarray(0, length)
}
