/**
 * One request and its answer over an undici agent, with deadlines of our own: undici's are coarse (up to a second
 * late), start again with every 1xx, and do not say when a request was written. Bodies stream with back pressure and
 * hold at most 64 KiB; nothing here decompresses, retries or follows a redirect.
 */
import { finished, Readable } from 'node:stream'
import type { Dispatcher as Agent } from 'undici'
import { endToEndHeaders, type HeaderFields } from '../oci/headers.ts'
import { UpstreamError } from './errors.ts'
import { connectionFailure } from './failure.ts'
import type { ForwardAnswer } from './upstream.ts'

export interface ExchangeRequest {
  readonly method: string
  /** Absolute; its path and query are sent as they stand. */
  readonly url: string
  readonly headers: HeaderFields
  /** Read, never destroyed: an answer may come before its end, and its owner still has to deliver that. */
  readonly body?: Readable | undefined
  readonly signal?: AbortSignal | undefined
  /** Until the request is being written on an open connection. */
  readonly connectMs: number
  /** From then on until the head of the answer; starts again whenever a piece of the request's body is taken. */
  readonly headMs: number
  /** Longest time without a byte of the answer's body, while we want one. */
  readonly bodyIdleMs: number
  /** Told the size of every piece of the answer's body. */
  readonly onBytes?: ((bytes: number) => void) | undefined
}

const BODY_BUFFER_BYTES = 64 * 1024
/** Pushed into a stream it adds nothing, and makes it ask for more again. */
const NOTHING = Buffer.alloc(0)

/** Resolves at the head of the answer, whatever its status. Rejects with `UpstreamError`, as its body errors. */
export function exchange(agent: Agent, request: ExchangeRequest): Promise<ForwardAnswer> {
  const { signal, headMs, connectMs, bodyIdleMs } = request
  const { promise, resolve, reject } = Promise.withResolvers<ForwardAnswer>()
  let controller: Agent.DispatchController | undefined
  let body: Readable | undefined
  let failure: UpstreamError | undefined
  let over = false
  let timer: NodeJS.Timeout | undefined

  const arm = (ms: number, waitedFor: string): void => {
    clearTimeout(timer)
    timer = setTimeout(() => {
      fail(new UpstreamError('unavailable', `no ${waitedFor} within ${ms} ms`, { timedOut: true }))
    }, ms).unref()
  }
  const finish = (): void => {
    over = true
    clearTimeout(timer)
    signal?.removeEventListener('abort', onAbort)
  }
  const fail = (error: UpstreamError): void => {
    if (over) return
    finish()
    failure = error
    if (!body) reject(error)
    else if (error.kind === 'aborted' || body.readableLength === 0) body.destroy(error)
    else body.push(NOTHING)
    controller?.abort(error)
  }
  const onAbort = (): void => {
    fail(new UpstreamError('aborted', 'the caller gave up', { cause: signal?.reason }))
  }

  const handler: Agent.DispatchHandler = {
    onRequestStart(started) {
      controller = started
      if (over) started.abort(failure ?? new UpstreamError('aborted', 'given up before it was sent'))
      else arm(headMs, 'answer')
    },
    onBodySent() {
      if (!over && !body) timer?.refresh()
    },
    onResponseStart(current, status, headers) {
      if (over || status < 200) return
      arm(bodyIdleMs, 'more of the body')
      body = new Readable({
        highWaterMark: BODY_BUFFER_BYTES,
        read() {
          // What came before the failure is handed out first: a fill goes on behind it and fetches no byte twice.
          if (failure && body?.readableLength === 0) body.destroy(failure)
          else if (failure) body?.push(NOTHING)
          if (over || !current.paused) return
          arm(bodyIdleMs, 'more of the body')
          current.resume()
        },
        destroy(error, callback) {
          if (!over) {
            finish()
            current.abort(error ?? new UpstreamError('aborted', 'the reader left'))
          }
          callback(error)
        },
      })
      // It may fail before its owner listens, which must not end the process; who reads later gets the error all the same.
      body.on('error', () => {})
      resolve({ status, headers: endToEndHeaders(headers), body })
    },
    onResponseData(current, chunk) {
      if (over || !body) return
      request.onBytes?.(chunk.length)
      if (body.push(chunk)) timer?.refresh()
      else {
        // The reader is the slow one now: no deadline of the primary's runs until it wants more.
        clearTimeout(timer)
        current.pause()
      }
    },
    onResponseEnd() {
      if (over) return
      finish()
      body?.push(null)
    },
    onResponseError(_controller, error) {
      fail(connectionFailure(error))
    },
  }

  if (signal?.aborted) onAbort()
  else {
    signal?.addEventListener('abort', onAbort, { once: true })
    arm(connectMs, 'connection')
    agent.dispatch(
      {
        ...splitUrl(request.url),
        method: request.method,
        headers: request.headers,
        body: request.body ? lent(request.body) : null,
        headersTimeout: 0,
        bodyTimeout: 0,
        // undici closes the connection after every HEAD unless told not to.
        ...(request.method === 'HEAD' ? { reset: false } : {}),
      },
      handler,
    )
  }
  return promise
}

/**
 * A body undici may destroy in place of the real one, which is then paused where it was. It does so as soon as an early
 * answer (401, 413) is complete, and with a client's request that would close the connection on which the client waits
 * for that answer.
 */
function lent(body: Readable): Readable {
  let detach: (() => void) | undefined
  const take = (piece: Buffer): void => {
    if (!copy.push(piece)) body.pause()
  }
  const attach = (): (() => void) => {
    const stop = finished(body, { writable: false }, (cause) => {
      if (cause) copy.destroy(new UpstreamError('aborted', 'the body being sent broke off', { cause }))
      else copy.push(null)
    })
    body.on('data', take)
    return () => {
      stop()
      body.off('data', take)
      body.pause()
    }
  }
  const copy = new Readable({
    highWaterMark: BODY_BUFFER_BYTES,
    read() {
      detach ??= attach()
      body.resume()
    },
    destroy(error, callback) {
      detach?.()
      callback(error)
    },
  })
  copy.on('error', () => {}) // undici hears it first and ends the exchange with it.
  return copy
}

/** Origin and path of an absolute URL. The path is cut out, not rebuilt: signed queries must not be re-encoded. */
export function splitUrl(url: string): { origin: string; path: string } {
  const { origin, pathname, search } = new URL(url)
  const literal = /^[a-z]+:\/\/[^/?#]*([^#]*)/i.exec(url)?.[1] ?? ''
  const sendable = /^\/[\x21-\x7e]*$/.test(literal)
  return { origin, path: sendable ? literal : pathname + search }
}
