/**
 * Open files by digest, shared by all who read them: one that nobody reads stays open for the next reader, in a bounded
 * number. Knows nothing of paths.
 */
import type { FileHandle } from 'node:fs/promises'
import { LRUCache } from 'lru-cache'
import type { Logger } from '../log.ts'
import type { Digest } from '../oci/digest.ts'

export interface OpenFile {
  readonly file: FileHandle
  readonly sizeBytes: number
  /** The number of its inode, which no other file of its filesystem has while it is open. */
  readonly inode?: number | undefined
}

/** Held open by the cache, by readers, or by both; closed when by neither. */
interface Descriptor extends OpenFile {
  readers: number
  cached: boolean
}

export interface DescriptorCache {
  /** Counted as one reader until released; undefined when there is no such file. */
  acquire(digest: Digest): Promise<Descriptor | undefined>
  release(descriptor: Descriptor): void
  /** Size in bytes, when it is open. */
  sizeOf(digest: Digest): number | undefined
  /** The file was replaced or removed: the next reader opens it anew. */
  forget(digest: Digest): void
  forgetAll(): void
  /** Resolves when all but those still read are closed; those close with their last reader. */
  close(): Promise<void>
}

export interface DescriptorCacheOptions {
  readonly open: (digest: Digest) => Promise<OpenFile | undefined>
  readonly max: number
  readonly log: Logger
}

export function createDescriptorCache({ open, max, log }: DescriptorCacheOptions): DescriptorCache {
  /** One load per digest; a load that is no longer here when it ends may have opened the file that went. */
  const loads = new Map<Digest, Promise<Descriptor | undefined>>()
  const closing = new Set<Promise<void>>()
  const descriptors = new LRUCache<Digest, Descriptor>({
    max,
    dispose: (descriptor) => {
      descriptor.cached = false
      closeIfUnused(descriptor)
    },
  })

  function closeIfUnused({ cached, readers, file }: Descriptor): void {
    if (cached || readers > 0) return
    const closed: Promise<void> = file
      .close()
      .catch((error: unknown) => log.warn({ error }, 'closing a blob failed'))
      .finally(() => closing.delete(closed))
    closing.add(closed)
  }

  function load(digest: Digest): Promise<Descriptor | undefined> {
    const begun: Promise<Descriptor | undefined> = open(digest)
      .then((opened) => {
        if (!opened) return undefined
        const descriptor = { ...opened, readers: 0, cached: loads.get(digest) === begun }
        if (descriptor.cached) descriptors.set(digest, descriptor)
        else closeIfUnused(descriptor)
        return descriptor
      })
      .finally(() => {
        if (loads.get(digest) === begun) loads.delete(digest)
      })
    loads.set(digest, begun)
    return begun
  }

  return {
    acquire: async (digest) => {
      for (;;) {
        const descriptor = descriptors.get(digest) ?? (await (loads.get(digest) ?? load(digest)))
        // Outdated by its load's end, or dropped by the cache before this line, it is closed: then once more.
        if (descriptor && !descriptor.cached && descriptor.readers === 0) continue
        if (descriptor) descriptor.readers += 1
        return descriptor
      }
    },
    release: (descriptor) => {
      descriptor.readers -= 1
      closeIfUnused(descriptor)
    },
    sizeOf: (digest) => descriptors.get(digest)?.sizeBytes,
    forget: (digest) => {
      loads.delete(digest)
      descriptors.delete(digest)
    },
    forgetAll: () => {
      loads.clear()
      descriptors.clear()
    },
    close: async () => {
      descriptors.clear()
      await Promise.all(closing)
    },
  }
}
