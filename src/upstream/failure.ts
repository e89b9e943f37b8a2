/**
 * The one place where an `UpstreamError` is made of a connection that failed or of an answer that is no success, so
 * that law 5's line between "the primary says no" and "the primary did not say" is drawn once.
 */
import { setImmediate } from 'node:timers/promises'
import { errors } from 'undici'
import { errorCodesOf } from '../oci/errors.ts'
import { type HeaderFields, headerValue } from '../oci/headers.ts'
import { UpstreamError, type UpstreamErrorOptions } from './errors.ts'
import type { ForwardAnswer } from './upstream.ts'
import { readWhole } from './whole-body.ts'

/** Nothing listens there, or the name leads nowhere: known at once, and not a matter of slowness. */
const UNREACHABLE: ReadonlySet<unknown> = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
])
const TIMED_OUT: ReadonlySet<unknown> = new Set(['ETIMEDOUT', 'UND_ERR_CONNECT_TIMEOUT'])
/** The connection ended before an answer began, as when a kept one was closed at the other end while we wrote to it. */
const CLOSED: ReadonlySet<unknown> = new Set(['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE'])
/** What an OCI error body may call unknown for a 404 to mean absent (law 5). */
const ABSENT = ['MANIFEST_UNKNOWN', 'BLOB_UNKNOWN', 'NAME_UNKNOWN']
const ERROR_BODY_MAX_BYTES = 64 * 1024

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined
}

/** What an exchange that got no answer, or whose body broke off, comes to. An `UpstreamError` is returned as it is. */
export function connectionFailure(error: unknown): UpstreamError {
  if (error instanceof UpstreamError) return error
  const code = codeOf(error)
  const words = error instanceof Error ? error.message || String(code) : String(error)
  const garbled = code === 'UND_ERR_HEADERS_OVERFLOW' || code === 'UND_ERR_INVALID_ARG' || isNotHttp(error)
  return new UpstreamError(garbled ? 'faulty' : 'unavailable', words, {
    cause: error,
    timedOut: TIMED_OUT.has(code),
    unreachable: UNREACHABLE.has(code),
  })
}

/** Bytes that are not HTTP; a message that only ends early is a connection that was cut. undici gives these no code. */
function isNotHttp(error: unknown): boolean {
  return error instanceof errors.HTTPParserError && !error.message.includes('EOF')
}

/** Whether asking once more over another connection may help: the one used was closed before any answer began. */
export function wasClosedEarly(error: unknown): boolean {
  return error instanceof UpstreamError && error.kind === 'unavailable' && CLOSED.has(codeOf(error.cause))
}

/** A failure at a place the primary sent us to (storage, token service) says nothing about reaching the primary. */
export function elsewhere(error: unknown): unknown {
  if (!(error instanceof UpstreamError) || !error.unreachable) return error
  return new UpstreamError(error.kind, error.message, { cause: error, timedOut: error.timedOut })
}

export interface RefusalContext {
  /** For the message: `GET of manifest a/b:latest`. */
  readonly what: string
  /** Longest wait for the error body. */
  readonly deadlineMs: number
  /** The answer came from where the primary redirected to: its 401, 403 and 404 are not the primary's word. */
  readonly foreign?: boolean | undefined
}

/** The error of an answer that is no success. Consumes its body, at most 64 KiB of it; throws when aborted. */
export async function refusal(answer: ForwardAnswer, context: RefusalContext): Promise<UpstreamError> {
  const { status } = answer
  const headers: HeaderFields = answer.headers
  const body = await errorBody(answer, context.deadlineMs)
  const codes = body ? errorCodesOf(body) : []
  const message = `${context.what} was answered ${status}${codes.length > 0 ? ` ${codes.join(', ')}` : ''}`
  const options: UpstreamErrorOptions = {
    status,
    body: codes.length > 0 ? body : undefined,
    retryAfter: headerValue(headers, 'retry-after'),
    challenge: [headers['www-authenticate'] ?? []].flat().join(', ') || undefined,
  }
  if (status >= 500) return new UpstreamError('unavailable', message, options)
  if (context.foreign) return new UpstreamError(status === 429 ? 'unavailable' : 'faulty', message, options)
  if (status === 401) return new UpstreamError('unauthorized', message, options)
  if (status === 403) return new UpstreamError('denied', message, options)
  if (status === 429) return new UpstreamError('limited', message, options)
  const absent = status === 404 && codes.some((code) => ABSENT.includes(code))
  return new UpstreamError(absent ? 'absent' : 'faulty', message, options)
}

async function errorBody(answer: ForwardAnswer, deadlineMs: number): Promise<Buffer | undefined> {
  try {
    return await readWhole(answer.body, ERROR_BODY_MAX_BYTES, deadlineMs)
  } catch (error) {
    if (error instanceof UpstreamError && error.kind === 'aborted') throw error
    return undefined // The status has been said; without its body a 404 counts as nobody's word.
  }
}

/**
 * Reads to the end what nobody wants, so that the next question can use its connection; a long or broken rest is cut.
 * undici gives a connection back one turn of the event loop after the answer: without waiting for that, a question
 * that follows from this answer would open another one.
 */
export async function discard(answer: ForwardAnswer, deadlineMs: number): Promise<void> {
  await errorBody(answer, deadlineMs)
  await setImmediate()
}
