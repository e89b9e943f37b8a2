/**
 * The port of the fill: the one way content comes from the primary (law 7). A blob that is not here is fetched once,
 * by its flight, however many follow; a follower reads what has arrived and never what was not asked for it.
 */
import type { Digest } from '../oci/digest.ts'
import type { AskedRange } from '../oci/ranges.ts'
import type { RepositoryName } from '../oci/reference.ts'
import type { Credential } from '../upstream/upstream.ts'

/**
 * One reader of a blob that is on its way. Bytes past `sizeBytes - 64 KiB` come only once the digest is known to be
 * right (law 1).
 */
export interface Follower {
  readonly sizeBytes: number
  /**
   * Reads up to `length` bytes at `position` into `buffer`, waiting until at least one has arrived. Throws
   * `UpstreamError` (a failed fetch, a wrong digest) or the `signal`'s reason.
   */
  read(buffer: Buffer, length: number, position: number, signal: AbortSignal): Promise<number>
  /** The follower leaves; the flight goes on without it. Owed exactly once. */
  close(): void
}

export interface FillAsk {
  readonly credential: Credential
  /**
   * When the credential stops being accepted, wall-clock milliseconds; undefined when it lasts or nobody knows. A large
   * blob takes several requests, and the later ones must not come too late for a token that direct would have done.
   */
  readonly expiresAtMs?: number | undefined
  /** Sent with what is asked on this caller's behalf. */
  readonly requestId?: string | undefined
  /** The single range asked for, if any; `bytes=0-` counts as whole. */
  readonly range?: AskedRange | undefined
  readonly signal?: AbortSignal | undefined
}

/**
 * `pass`: a lone range of a blob nobody asked for whole; the caller passes it through. `stored`: it has been published
 * meanwhile; read it from the store.
 */
export type FillOutcome =
  | { readonly kind: 'follower'; readonly follower: Follower }
  | { readonly kind: 'pass' }
  | { readonly kind: 'stored' }

/** This site fetches as many blobs as it may at a time: 429. */
export class FillLimitError extends Error {
  override readonly name = 'FillLimitError'
}

export interface Fill {
  /**
   * Joins or starts the flight of a blob that is not in the store, once the primary has confirmed that it belongs to
   * `name` for this caller. Throws `UpstreamError`, `FillLimitError` (only where a flight would have to be started), or
   * the `signal`'s reason.
   */
  follow(name: RepositoryName, digest: Digest, ask: FillAsk): Promise<FillOutcome>
  /** Flights under way, for `geo_registry_fills_in_flight` and limits. */
  readonly inFlight: number
}
