/**
 * A lone range of a blob nobody asked for whole: passed through, and no fill is started (law 7). A redirect to object
 * storage is followed here, without the credential: clients of this site may not reach it.
 */
import type { Digest } from '../src/oci/digest.ts'
import { OciError } from '../src/oci/errors.ts'
import { type AskedRange, formatContentRange, resolveRanges } from '../src/oci/ranges.ts'
import type { RepositoryName } from '../src/oci/reference.ts'
import { UpstreamError } from '../src/upstream/errors.ts'
import type { ArrivingBlob, ForwardAnswer, Upstream } from '../src/upstream/upstream.ts'
import type { Exchange } from './exchange.ts'

export interface LoneRangeDeps {
  readonly upstream: Upstream
  /** Streams an answer to the client. */
  readonly reply: (exchange: Exchange, answer: ForwardAnswer) => Promise<void>
}

interface BlobRoute {
  readonly name: RepositoryName
  readonly digest: Digest
}

/** `headers` are those of the blob, whatever part of it is sent. */
export type LoneRange = (
  exchange: Exchange,
  route: BlobRoute,
  asked: AskedRange,
  headers: Readonly<Record<string, string>>,
) => Promise<void>

export function createLoneRange({ upstream, reply }: LoneRangeDeps): LoneRange {
  function sizeOf({ credential, requestId, signal }: Exchange, { name, digest }: BlobRoute): Promise<number> {
    return upstream.confirmBlob(name, digest, { credential, requestId, signal })
  }

  async function ask(exchange: Exchange, route: BlobRoute, asked: AskedRange): Promise<ArrivingBlob> {
    const { credential, requestId, signal } = exchange
    let { start, end } = asked
    if (start === undefined) {
      // A suffix means nothing before the size is known.
      const sizeBytes = await sizeOf(exchange, route)
      const wanted = resolveRanges([asked], sizeBytes)
      if (wanted.kind !== 'ranges') throw unsatisfiable(sizeBytes)
      start = wanted.ranges[0]?.start ?? 0
      end = undefined
    }
    try {
      const range = { startByte: start, endByte: end }
      return await upstream.getBlob(route.name, route.digest, { credential, requestId, signal, ...range })
    } catch (error) {
      if (!(error instanceof UpstreamError) || error.status !== 416) throw error
      throw unsatisfiable(await sizeOf(exchange, route))
    }
  }

  return async function loneRange(exchange, route, asked, headers) {
    const { body, offset, endOffset, sizeBytes } = await ask(exchange, route, asked)
    exchange.source = 'primary'
    const sent = { start: offset, end: endOffset - 1 }
    const wanted = resolveRanges([asked], sizeBytes)
    const [range] = wanted.kind === 'ranges' ? wanted.ranges : []
    // From a primary that ignores ranges the whole comes, which RFC 9110 (14.2) lets us send on.
    const isAsked = range?.start === sent.start && range.end === sent.end
    await reply(exchange, {
      status: isAsked ? 206 : 200,
      headers: {
        ...headers,
        'content-length': String(endOffset - offset),
        ...(isAsked ? { 'content-range': formatContentRange(sent, sizeBytes) } : {}),
      },
      body,
    })
  }
}

function unsatisfiable(sizeBytes: number): OciError {
  return new OciError('RANGE_INVALID', { headers: { 'content-range': `bytes */${sizeBytes}` } })
}
