/** The one place that turns an error into an answer. What an error means was decided where it was thrown. */
import { FillLimitError } from '../src/fill/fill.ts'
import { FreshnessUnavailableError } from '../src/freshness/freshness.ts'
import { errorBody, errorCodesOf, OciError } from '../src/oci/errors.ts'
import { StoreError } from '../src/store/blob-store.ts'
import { CoordinationUnavailableError } from '../src/store/coordination.ts'
import { UpstreamError, type UpstreamErrorKind } from '../src/upstream/errors.ts'
import { answer, type Exchange, writeHead } from './exchange.ts'
import { discardRest } from './forwarding.ts'
import type { Route } from './routes.ts'

/** An outage is looked at again after this; short, since the primary is asked anew by every miss. */
const RETRY_AFTER_SECONDS = '10'

/** What the primary decided, and says better than we could; an outage is ours to word. */
const PRIMARY_WORD: readonly UpstreamErrorKind[] = ['absent', 'denied', 'limited']

/** Answers with the error, or cuts the connection when an answer has begun: it must never end cleanly (law 1). */
export function answerError(
  exchange: Exchange,
  error: unknown,
  route: Route | undefined,
  challenge: (error: UpstreamError) => OciError,
): void {
  const { response } = exchange
  if (response.headersSent || response.destroyed) {
    if (!response.writableFinished) response.destroy()
    return
  }
  for (const name of response.getHeaderNames()) response.removeHeader(name)
  if (error instanceof UpstreamError && error.kind === 'unauthorized') {
    exchange.source = 'primary'
    render(exchange, challenge(error))
  } else if (error instanceof UpstreamError && PRIMARY_WORD.includes(error.kind) && isOciBody(error.body)) {
    passOn(exchange, error, error.body)
  } else {
    render(exchange, toOciError(error, exchange, route))
  }
}

function render(exchange: Exchange, error: OciError): void {
  const { request, response } = exchange
  const body = errorBody(error.code, error.message, error.detail)
  const headers = {
    ...error.headers,
    'content-type': 'application/json; charset=utf-8',
    'content-length': String(Buffer.byteLength(body)),
  }
  if (request.complete || response.shouldKeepAlive) {
    answer(exchange, error.status, headers, body)
    return
  }
  // The connection ends with this answer, which a client in the middle of its body has yet to read.
  writeHead(exchange, error.status, headers)
  exchange.writtenBytes += Buffer.byteLength(body)
  response.write(body)
  void discardRest(request).then(() => response.end())
}

function isOciBody(body: Buffer | undefined): body is Buffer {
  return body !== undefined && errorCodesOf(body).length > 0
}

/** The primary said it in the words of the specification: it is said to the client in the same words. */
function passOn(exchange: Exchange, error: UpstreamError, body: Buffer): void {
  exchange.source = 'primary'
  answer(
    exchange,
    error.status ?? 502,
    {
      'content-type': 'application/json; charset=utf-8',
      'content-length': String(body.length),
      'retry-after': error.retryAfter ?? (error.kind === 'limited' ? RETRY_AFTER_SECONDS : undefined),
    },
    body,
  )
}

function toOciError(error: unknown, exchange: Exchange, route: Route | undefined): OciError {
  if (error instanceof OciError) return error
  if (error instanceof UpstreamError) return fromUpstream(error, exchange, route)
  if (error instanceof FillLimitError) {
    return new OciError('TOOMANYREQUESTS', { cause: error, headers: { 'retry-after': RETRY_AFTER_SECONDS } })
  }
  if (isUncoordinated(error)) {
    return new OciError('UNAVAILABLE', {
      message: uncoordinatedMessage(exchange.request.method),
      cause: error,
      headers: { 'retry-after': RETRY_AFTER_SECONDS },
    })
  }
  const message =
    error instanceof StoreError ? 'the store of this site cannot be read: see its log' : undefined
  return new OciError('UNKNOWN', { message, cause: error })
}

function fromUpstream(error: UpstreamError, exchange: Exchange, route: Route | undefined): OciError {
  switch (error.kind) {
    case 'absent':
      return new OciError(route?.kind === 'blob' ? 'BLOB_UNKNOWN' : 'MANIFEST_UNKNOWN', { cause: error })
    case 'denied':
      return new OciError('DENIED', { cause: error })
    case 'unauthorized':
      return new OciError('UNAUTHORIZED', { cause: error })
    case 'limited':
      return new OciError('TOOMANYREQUESTS', {
        message: 'the primary registry asks to wait: try again as Retry-After says',
        cause: error,
        headers: { 'retry-after': error.retryAfter ?? RETRY_AFTER_SECONDS },
      })
    case 'faulty':
      return new OciError('BAD_GATEWAY', { cause: error })
    case 'unavailable':
    case 'aborted':
      return new OciError('UNAVAILABLE', {
        message: unavailableMessage(exchange.request.method),
        cause: error,
        headers: { 'retry-after': error.retryAfter ?? RETRY_AFTER_SECONDS },
      })
  }
}

/** Thrown before anything is sent on: what the processes of the site share cannot be reached. */
export function isUncoordinated(error: unknown): boolean {
  return error instanceof FreshnessUnavailableError || error instanceof CoordinationUnavailableError
}

function uncoordinatedMessage(method: string | undefined): string {
  const why = 'the processes of this site cannot reach what they share'
  return isRead(method)
    ? `${why}, so this cannot be answered now: try again later`
    : `${why}, so this write was not sent to the primary: try again later; pulls of what this site holds still work`
}

function isRead(method: string | undefined): boolean {
  return method === 'GET' || method === 'HEAD'
}

function unavailableMessage(method: string | undefined): string {
  return isRead(method)
    ? 'the primary registry cannot be reached and this is not held on this site: try again later'
    : 'the primary registry cannot be reached, and every write goes there: try again later; pulls of what this site holds still work'
}
