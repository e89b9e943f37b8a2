/** Manifests that are here, by digest, with the small ones in memory. What a manifest says cannot change. */
import { LRUCache } from 'lru-cache'
import type { Digest } from '../src/oci/digest.ts'
import { MANIFEST_MAX_BYTES, type Manifest, manifestMediaType } from '../src/oci/manifest.ts'
import type { BlobStore } from '../src/store/blob-store.ts'

const CACHE_MAX_BYTES = 32 * 1024 * 1024
/** A larger manifest is read from disk each time rather than pushing hundreds of small ones out. */
const CACHED_MAX_BYTES = 256 * 1024
/** 4 MiB made of brackets take a third of a second to read, in which nobody else is answered: once, not for each pull. */
const KNOWN_TYPES = 10_000

export interface HeldManifests {
  /** Undefined when the content is not here, or is a blob that is no manifest. */
  get(digest: Digest): Promise<Manifest | undefined>
  /** From memory only; undefined says nothing. */
  cached(digest: Digest): Manifest | undefined
}

export function createHeldManifests(blobs: BlobStore): HeldManifests {
  const cache = new LRUCache<Digest, Manifest>({
    maxSize: CACHE_MAX_BYTES,
    sizeCalculation: (manifest) => manifest.bytes.length + 512,
  })
  const types = new LRUCache<Digest, { readonly mediaType: string | undefined }>({ max: KNOWN_TYPES })

  /** Undefined for what is no manifest. */
  function typeOf(digest: Digest, bytes: Buffer): string | undefined {
    const known = types.get(digest) ?? { mediaType: manifestMediaType(bytes) }
    if (bytes.length > CACHED_MAX_BYTES) types.set(digest, known)
    return known.mediaType
  }

  return {
    cached: (digest) => cache.get(digest),
    async get(digest) {
      const known = cache.get(digest)
      if (known) return known
      const bytes = await blobs.read(digest, MANIFEST_MAX_BYTES)
      const mediaType = bytes && typeOf(digest, bytes)
      if (!mediaType) return undefined
      const manifest = { bytes, digest, mediaType }
      if (bytes.length <= CACHED_MAX_BYTES) cache.set(digest, manifest)
      return manifest
    },
  }
}
