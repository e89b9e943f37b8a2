/** The port of the primary: the one way requests leave this site. Every method throws `UpstreamError`. */
import type { Readable } from 'node:stream'
import type { Digest } from '../oci/digest.ts'
import type { HeaderFields } from '../oci/headers.ts'
import type { Manifest } from '../oci/manifest.ts'
import type { Reference, RepositoryName } from '../oci/reference.ts'

/** Whose authority a request carries. `caller`: the header as the client sent it. `site`: the site's own credential. */
export type Credential =
  | { readonly kind: 'caller'; readonly authorization: string | undefined }
  | { readonly kind: 'site' }

export interface AskOptions {
  readonly credential: Credential
  readonly signal?: AbortSignal | undefined
  /** Sent as `X-Request-Id`, so that the two registries' logs can be read together. */
  readonly requestId?: string | undefined
}

export interface ManifestAsk extends AskOptions {
  /** The digest held here; sent as the one strong ETag. Never a client's own `If-None-Match`. */
  readonly heldDigest?: Digest | undefined
  /** A check of a held tag: answered within `upstream.timeouts.tag` on an open connection, or it is a timeout. */
  readonly check?: boolean | undefined
}

export interface BlobAsk extends AskOptions {
  /** First byte wanted; 0 when absent. */
  readonly startByte?: number | undefined
  /** Last byte wanted, inclusive; to the end when absent. */
  readonly endByte?: number | undefined
}

/** A body that is arriving. Whoever gets it consumes or destroys it. */
export interface ArrivingBlob {
  /** Where the body begins: `startByte`, or 0 from a primary that ignores ranges. */
  readonly offset: number
  /** One past the last byte this body will bring. */
  readonly endOffset: number
  /** The whole blob's size. */
  readonly sizeBytes: number
  readonly body: Readable
}

export interface ForwardAsk extends AskOptions {
  readonly method: string
  /** Absolute URL on the upstream's or (a sealed location's) another origin; never re-encoded. */
  readonly url: string
  /** End-to-end headers to send, `authorization` excepted. */
  readonly headers: HeaderFields
  /** Streamed; its length is in `headers` or it goes chunked. */
  readonly body?: Readable | undefined
  /**
   * For metrics and deadlines: `read` bodies and heads are bounded more tightly than `write`'s. Only `token` takes the
   * caller's credential to another origin than the upstream's, so its `url` must come from the configuration.
   */
  readonly operation: 'read' | 'write' | 'token'
  /** What the request needs, for the site's own credential. */
  readonly scope?: string | undefined
}

export interface ForwardAnswer {
  readonly status: number
  /** Lower-case names, end-to-end only. */
  readonly headers: Record<string, string | string[]>
  /** Consume or destroy it. Errors with `UpstreamError`. */
  readonly body: Readable
}

export interface Upstream {
  /** Origin without a trailing slash, as configured: `https://registry.primary.example.com`. */
  readonly origin: string
  /**
   * GET of a manifest with our full Accept. `not-modified` only when `heldDigest` was given and the primary said 304.
   * `not-kept`: the primary has it, but it is of a kind that is never kept here (schema 1, or a type nobody knows), so
   * the client's own request has to be passed on.
   */
  getManifest(
    name: RepositoryName,
    reference: Reference,
    ask: ManifestAsk,
  ): Promise<Manifest | 'not-modified' | 'not-kept'>
  /** HEAD by digest; resolves when the primary has it in that repository. A HEAD's 404 is settled by one GET. */
  confirmManifest(name: RepositoryName, digest: Digest, ask: AskOptions): Promise<void>
  /** HEAD by digest; the blob's size in bytes. A HEAD's 404 is settled by a GET of `bytes=0-0`. */
  confirmBlob(name: RepositoryName, digest: Digest, ask: AskOptions): Promise<number>
  /** GET, redirects followed without the credential. The body errors with `UpstreamError`, also when it ends short. */
  getBlob(name: RepositoryName, digest: Digest, ask: BlobAsk): Promise<ArrivingBlob>
  /** One request as it stands, no retry, no redirect followed; any status is an answer. */
  forward(ask: ForwardAsk): Promise<ForwardAnswer>
}
