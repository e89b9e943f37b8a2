/**
 * The port of the content-addressed store. What can be opened here matched its digest and size (law 1), with one
 * exception that is the sysadmin's word: blobs another registry left in an adopted folder.
 */
import type { Digest } from '../oci/digest.ts'

/** A blob held open: garbage collection leaves it alone until `close`, which the opener owes exactly once. */
export interface OpenBlob {
  readonly digest: Digest
  readonly sizeBytes: number
  /** A file descriptor for positional reads; never write to it or close it. */
  readonly fd: number
  close(): void
}

export interface BlobStore {
  /** Size in bytes, or undefined when it is not here. */
  stat(digest: Digest): Promise<number | undefined>
  open(digest: Digest): Promise<OpenBlob | undefined>
  /**
   * Whole content, for manifests, checked against its digest: what fails is quarantined, and not here. Undefined when not
   * here or larger than `limitBytes`.
   */
  read(digest: Digest, limitBytes: number): Promise<Buffer | undefined>
  /** Verifies, writes, syncs and publishes bytes in memory. Throws `StoreError`. */
  write(digest: Digest, bytes: Uint8Array): Promise<void>
  /**
   * Publishes a complete file under the store's `geo-registry/` folder whose bytes the caller has just verified: it is
   * synced, renamed into place and its folder synced. The file is gone from `path` afterwards; when it throws
   * (`StoreError`), the file is still the caller's.
   */
  publish(path: string, digest: Digest): Promise<void>
  /** Takes a damaged blob out of sight; the next reader fetches it anew. */
  quarantine(digest: Digest): Promise<void>
  /**
   * Keeps garbage collection away from a digest from before its content or link appears until the returned function is
   * called: what is being linked is never collected.
   */
  pin(digest: Digest): () => void
  /** False below `storage.minfree`: nothing new is kept then, clients are still served. Checked at most once a second. */
  hasRoom(): Promise<boolean>
}

/**
 * `full`: no space or quota left. `mismatch`: bytes that are not what their digest says. `coordination`: the other
 * processes on this store cannot be told. `io`: anything else.
 */
export type StoreErrorKind = 'full' | 'mismatch' | 'coordination' | 'io'

export class StoreError extends Error {
  override readonly name: string = 'StoreError'
  readonly kind: StoreErrorKind

  constructor(kind: StoreErrorKind, message: string, options: { cause?: unknown } = {}) {
    super(message, options)
    this.kind = kind
  }
}
