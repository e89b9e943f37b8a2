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

/** This site fetches as many blobs as it may at a time, or its disk has not taken those it fetched: 429. */
export class FillLimitError extends Error {
  override readonly name = 'FillLimitError'
}

export interface FetchOptions {
  readonly credential: Credential
  readonly signal: AbortSignal
  /**
   * Requests at a time for this blob, default 1; the next one is sent while another still has a little to go. Parts are
   * never shorter than 8 MiB while as much is left.
   */
  readonly connections?: number | undefined
  /**
   * Told the size of what arrives of this blob while no client follows it; nothing more is read until it resolves. While
   * a client follows, the flight goes at the client's speed and nobody is asked: the `signal` of who waits is then
   * aborted. Rejects with that signal's reason only.
   */
  readonly pace?: ((bytes: number, signal: AbortSignal) => Promise<void>) | undefined
}

export interface Fill {
  /**
   * Joins or starts the flight of a blob that is not in the store, once the primary has confirmed that it belongs to
   * `name` for this caller. Throws `UpstreamError`, `FillLimitError` (only where a flight would have to be started), or
   * the `signal`'s reason.
   */
  follow(name: RepositoryName, digest: Digest, ask: FillAsk): Promise<FillOutcome>
  /**
   * Resolves when the whole blob is published, by this fetch or another's (law 7); joins the flight that runs. Throws
   * `UpstreamError`, `StoreError` where it cannot be kept, `FillLimitError`, or the `signal`'s reason; the flight itself
   * goes on as one whose clients have left.
   */
  fetch(name: RepositoryName, digest: Digest, options: FetchOptions): Promise<void>
  /** Flights under way, for `geo_registry_fills_in_flight` and limits. */
  readonly inFlight: number
}
