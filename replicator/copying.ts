/** The port of copying: a manifest and everything under it, from the primary into the store, in post-order. */
import type { Digest } from '../src/oci/digest.ts'
import type { Manifest } from '../src/oci/manifest.ts'
import type { RepositoryName } from '../src/oci/reference.ts'
import type { Mark } from '../src/store/repository-index.ts'

/** What of one graph is not here, as far as the manifests that are here can tell. */
export interface Missing {
  /** Blobs, manifests too, that are not stored or not linked in this repository. */
  readonly blobs: number
  /** Of those that are not stored, as the descriptors say. */
  readonly bytes: number
}

export interface CopyReport {
  /** Of the whole graph, whether they were here before or not. */
  readonly manifests: number
  readonly blobs: number
  /** Fetched from the primary by this copy; of the manifest it was given, nothing. */
  readonly bytes: number
  /** Were in the store already (of this or another repository) and only linked. */
  readonly bytesHere: number
}

/** One thing of a graph that could not be copied; the others were, and can be resumed from. */
export class CopyError extends Error {
  override readonly name = 'CopyError'
  readonly digest: Digest
  readonly missing: Missing

  constructor(message: string, options: { digest: Digest; missing: Missing; cause: unknown }) {
    super(message, { cause: options.cause })
    this.digest = options.digest
    this.missing = options.missing
  }
}

export interface CopyOptions {
  readonly signal: AbortSignal
  /**
   * Taken before the request that brought the given manifest: that answer then is the primary's word for its link.
   * Without it the primary is asked about the manifest, unless it was within `digests.recheck`.
   */
  readonly mark?: Mark | undefined
  /** Told as bytes arrive, for progress. */
  readonly onBytes?: ((bytes: number) => void) | undefined
}

export interface Copying {
  /**
   * Stores and links everything under the manifest, then the manifest: blobs, child manifests, then itself. What is here
   * is never fetched again; a digest linked in this repository within `digests.recheck` is not asked for either. Foreign
   * and non-distributable layers are left out. The caller sets the tag afterwards. Throws `CopyError`, `StoreError`, or
   * the `signal`'s reason.
   */
  copy(name: RepositoryName, manifest: Manifest, options: CopyOptions): Promise<CopyReport>
  /** As `copy`, for a manifest known by digest: from the store when it is there, else from the primary. */
  copyByDigest(name: RepositoryName, digest: Digest, options: CopyOptions): Promise<CopyReport>
  /** Whether the manifest and everything under it is stored and linked in this repository; asks nobody. */
  missing(name: RepositoryName, digest: Digest): Promise<Missing>
}
