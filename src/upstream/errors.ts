/**
 * What can go wrong between this site and the primary: a closed set. Only `unavailable`, `faulty` and (for a freshness
 * check) `limited` let held content stand in (law 5); the others are the primary's word.
 */
export type UpstreamErrorKind =
  /** No connection, no answer in time, or a 5xx. */
  | 'unavailable'
  /** An answer that cannot be what was asked: a 404 that is no registry's, a 200 with HTML, a wrong digest or length. */
  | 'faulty'
  /** 401: the caller's token was not accepted. */
  | 'unauthorized'
  /** 403. */
  | 'denied'
  /** 404 with an OCI body that names what is unknown. */
  | 'absent'
  /** 429. */
  | 'limited'
  /** The caller gave up. */
  | 'aborted'

export interface UpstreamErrorOptions {
  cause?: unknown
  /** The status the primary answered with, where it answered. */
  status?: number | undefined
  /** Its body, where it is an OCI error to pass on; at most 64 KiB. */
  body?: Buffer | undefined
  /** As the primary sent it, in seconds or as a date. */
  retryAfter?: string | undefined
  /** Its `WWW-Authenticate`, for the site's own credential only; a client gets our challenge. */
  challenge?: string | undefined
  /** Whether the failure was a deadline of ours that passed. */
  timedOut?: boolean | undefined
  /** Whether nothing listens there: connection refused, no such host, no route. */
  unreachable?: boolean | undefined
}

export class UpstreamError extends Error {
  override readonly name = 'UpstreamError'
  readonly kind: UpstreamErrorKind
  readonly status: number | undefined
  readonly body: Buffer | undefined
  readonly retryAfter: string | undefined
  readonly challenge: string | undefined
  readonly timedOut: boolean
  readonly unreachable: boolean

  constructor(kind: UpstreamErrorKind, message: string, options: UpstreamErrorOptions = {}) {
    super(message, { cause: options.cause })
    this.kind = kind
    this.status = options.status
    this.body = options.body
    this.retryAfter = options.retryAfter
    this.challenge = options.challenge
    this.timedOut = options.timedOut ?? false
    this.unreachable = options.unreachable ?? false
  }
}

/** Whether held content may stand in for the answer that did not come (law 5). */
export function isOutage(error: unknown): error is UpstreamError {
  return error instanceof UpstreamError && (error.kind === 'unavailable' || error.kind === 'faulty')
}
