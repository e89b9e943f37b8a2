/**
 * Small blobs that are pulled often (configs above all), in memory, so that they cost no trip to a thread. What is taken
 * in is checked against its digest once more: a disk that damaged it is found out before a client is.
 */
import { read } from 'node:fs'
import { promisify } from 'node:util'
import { LRUCache } from 'lru-cache'
import { algorithmOf, type Digest, digestOf } from '../src/oci/digest.ts'
import type { BlobStore, OpenBlob } from '../src/store/blob-store.ts'

const readAt = promisify(read)

const MAX_BLOB_BYTES = 1024 * 1024
const CACHE_BYTES = 16 * 1024 * 1024
/** What slow clients may hold of it beyond the cache; past that they are served from the file, 64 KiB at a time. */
const SENDING_BYTES = 16 * 1024 * 1024
/** Digests remembered to tell what is asked for again from what is asked for once. */
const SEEN = 1000

export interface SmallBlobs {
  /** From memory alone; undefined says nothing. */
  held(digest: Digest): Buffer | undefined
  /** The whole content; undefined when it is to be read from its file. `damaged`: it has been quarantined. */
  content(blob: OpenBlob): Promise<Buffer | 'damaged' | undefined>
  /** Accounts for bytes handed to a client; the returned function is owed when they are on their way. */
  sending(bytes: number): () => void
}

export function createSmallBlobs(blobs: Pick<BlobStore, 'quarantine'>): SmallBlobs {
  const cache = new LRUCache<Digest, Buffer>({
    maxSize: CACHE_BYTES,
    sizeCalculation: ({ length }) => length || 1,
  })
  const seen = new LRUCache<Digest, true>({ max: SEEN })
  let sendingBytes = 0

  const fits = (sizeBytes: number) => sendingBytes + sizeBytes <= SENDING_BYTES

  return {
    held(digest) {
      const bytes = cache.get(digest)
      return bytes && fits(bytes.length) ? bytes : undefined
    },
    async content(blob) {
      const { digest, sizeBytes } = blob
      if (sizeBytes > MAX_BLOB_BYTES || !fits(sizeBytes)) return undefined
      const known = cache.get(digest)
      if (known) return known
      if (!seen.has(digest)) {
        seen.set(digest, true)
        return undefined
      }
      const bytes = Buffer.allocUnsafeSlow(sizeBytes)
      const { bytesRead } = await readAt(blob.fd, bytes, 0, sizeBytes, 0)
      if (bytesRead < sizeBytes || digestOf(bytes, algorithmOf(digest)) !== digest) {
        await blobs.quarantine(digest)
        return 'damaged'
      }
      cache.set(digest, bytes)
      return bytes
    },
    sending(bytes) {
      sendingBytes += bytes
      return () => {
        sendingBytes -= bytes
      }
    },
  }
}
