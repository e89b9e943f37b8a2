/**
 * The one table of errors a client can get. A code, its status and its words cannot drift apart.
 * https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#error-codes
 */
const OCI_ERRORS = {
  BLOB_UNKNOWN: { status: 404, message: 'blob unknown to registry' },
  BLOB_UPLOAD_INVALID: { status: 400, message: 'blob upload invalid' },
  BLOB_UPLOAD_UNKNOWN: { status: 404, message: 'blob upload unknown to registry' },
  DENIED: { status: 403, message: 'requested access to the resource is denied' },
  DIGEST_INVALID: { status: 400, message: 'provided digest did not match uploaded content' },
  MANIFEST_BLOB_UNKNOWN: { status: 400, message: 'blob unknown to registry' },
  MANIFEST_INVALID: { status: 400, message: 'manifest invalid' },
  MANIFEST_UNKNOWN: { status: 404, message: 'manifest unknown' },
  NAME_INVALID: { status: 400, message: 'invalid repository name' },
  NAME_UNKNOWN: { status: 404, message: 'repository name not known to registry' },
  PAGINATION_NUMBER_INVALID: { status: 400, message: 'invalid number of results requested' },
  RANGE_INVALID: { status: 416, message: 'invalid content range' },
  SIZE_INVALID: { status: 400, message: 'provided length did not match content length' },
  TAG_INVALID: { status: 400, message: 'manifest tag did not match URI' },
  TOOMANYREQUESTS: { status: 429, message: 'too many requests: wait as Retry-After says, then try again' },
  UNAUTHORIZED: { status: 401, message: 'authentication required' },
  UNSUPPORTED: { status: 405, message: 'the operation is unsupported' },
  // Not in the specification's list; Distribution's own, which clients know.
  UNAVAILABLE: { status: 503, message: 'the primary registry cannot be reached' },
  BAD_GATEWAY: { status: 502, message: 'the primary registry gave an answer that cannot be used' },
  NOT_FOUND: { status: 404, message: 'no such path' },
  UNKNOWN: { status: 500, message: 'unknown error: see the log of this registry for the request id' },
} as const satisfies Record<string, { status: number; message: string }>

export type OciErrorCode = keyof typeof OCI_ERRORS

export interface OciErrorOptions {
  /** Replaces the code's message where more can be said about what to do. */
  message?: string | undefined
  detail?: unknown
  cause?: unknown
  /** Headers of the answer: `Retry-After` (seconds), `WWW-Authenticate`, `Allow`, `Content-Range`. */
  headers?: Readonly<Record<string, string>> | undefined
  /** Replaces the code's status, where a primary's own must be passed on. */
  status?: number | undefined
}

/** An answer the client gets as an OCI error body. Thrown anywhere behind the router, rendered in one place. */
export class OciError extends Error {
  override readonly name = 'OciError'
  readonly code: OciErrorCode
  readonly status: number
  readonly detail: unknown
  readonly headers: Readonly<Record<string, string>>

  constructor(code: OciErrorCode, options: OciErrorOptions = {}) {
    super(options.message ?? OCI_ERRORS[code].message, { cause: options.cause })
    this.code = code
    this.status = options.status ?? OCI_ERRORS[code].status
    this.detail = options.detail
    this.headers = options.headers ?? {}
  }
}

/** The body of the specification: `{"errors":[{code,message,detail}]}`. */
export function errorBody(code: string, message: string, detail?: unknown): string {
  return JSON.stringify({ errors: [detail === undefined ? { code, message } : { code, message, detail }] })
}

/** The codes of an OCI error body, empty when it is none (an ingress's page, a proxy's own words). */
export function errorCodesOf(body: Uint8Array): string[] {
  try {
    const value: unknown = JSON.parse(Buffer.from(body).toString('utf8'))
    if (typeof value !== 'object' || value === null || !('errors' in value) || !Array.isArray(value.errors)) {
      return []
    }
    return value.errors.flatMap((item: unknown) =>
      typeof item === 'object' && item !== null && 'code' in item && typeof item.code === 'string'
        ? [item.code]
        : [],
    )
  } catch {
    return [] // Not JSON, so not a registry's word.
  }
}
