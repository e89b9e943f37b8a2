/**
 * `/jwt/auth`: the token services behind this site's one URL (`auth.token.services`), asked with the client's own words.
 * Only tokens that cannot write may come from another than the first: at GitLab, granting push writes to the primary's
 * database (facts/gitlab.md 4.1).
 */
import { Readable } from 'node:stream'
import { parseScopes } from '../src/auth/scope.ts'
import { OciError } from '../src/oci/errors.ts'
import { isOutage } from '../src/upstream/errors.ts'
import type { ForwardAnswer, Upstream } from '../src/upstream/upstream.ts'
import type { Exchange } from './exchange.ts'
import { forwardedHeaders, passThrough } from './forwarding.ts'
import { wholeBody } from './upload-body.ts'

export interface TokenServiceOptions {
  /** Absolute URLs in the order they are tried; empty: tokens are not served here. */
  readonly services: readonly string[]
  /** `http.host`; the request's own Host when undefined. */
  readonly publicUrl: string | undefined
  /** No byte of a body for this long ends its request. */
  readonly idleMs: number
  /** How long a service is waited for when another can be asked after it. Default 3 s. */
  readonly nextAfterMs?: number
}

const BODY_MAX_BYTES = 64 * 1024
/** A service that did not answer is tried last for this long: where it only keeps silent, one request pays for that. */
const AWAY_MS = 10_000

export function createTokenService(
  deps: { readonly upstream: Pick<Upstream, 'forward'> },
  options: TokenServiceOptions,
): (exchange: Exchange) => Promise<void> {
  const { services, publicUrl, idleMs, nextAfterMs = 3000 } = options
  const awayUntilMs = new Map<string, number>()

  return async function token(exchange) {
    if (services.length === 0) {
      throw new OciError('NOT_FOUND', {
        message: 'tokens are not issued here: ask the realm of the challenge',
      })
    }
    const body = await wholeBody(exchange, { limitBytes: BODY_MAX_BYTES, idleMs, tooLarge })
    const asked = onlyReads(exchange, body) ? likeliestFirst() : services.slice(0, 1)
    for (const service of asked) {
      const answer = await ask(exchange, service, body, service !== asked.at(-1))
      if (answer) {
        exchange.source = 'primary'
        return passThrough(exchange, answer, { idleMs })
      }
    }
    throw new OciError('UNAVAILABLE', {
      message: 'no token service can be reached: tokens issued before keep working until they expire',
      headers: { 'retry-after': '10' },
    })
  }

  function likeliestFirst(): readonly string[] {
    const isAway = (service: string) => (awayUntilMs.get(service) ?? 0) > performance.now()
    return services.toSorted((one, other) => Number(isAway(one)) - Number(isAway(other)))
  }

  /** Undefined when the service is unavailable; any other answer is its word. */
  async function ask(
    exchange: Exchange,
    service: string,
    body: Buffer,
    othersFollow: boolean,
  ): Promise<ForwardAnswer | undefined> {
    // The service has a name of its own; only the registry builds its links from this site's.
    const { 'x-forwarded-host': _, ...headers } = forwardedHeaders(exchange, publicUrl)
    if (body.length === 0) delete headers['content-length']
    else headers['content-length'] = String(body.length)
    const { query, request } = exchange
    const url = query === '' ? service : `${service}${service.includes('?') ? '&' : '?'}${query}`
    const patience = new AbortController()
    const timer = othersFollow ? setTimeout(() => patience.abort(), nextAfterMs).unref() : undefined
    try {
      const answer = await deps.upstream.forward({
        method: request.method ?? 'GET',
        url,
        headers,
        body: body.length === 0 ? undefined : Readable.from(body, { objectMode: false }),
        operation: 'token',
        credential: { kind: 'caller', authorization: request.headers.authorization },
        signal: AbortSignal.any([exchange.signal, patience.signal]),
      })
      if (answer.status < 500) {
        awayUntilMs.delete(service)
        return answer
      }
      answer.body.destroy()
      exchange.log.warn({ service, status: answer.status }, 'token service unavailable')
    } catch (error) {
      if (!isOutage(error) && !patience.signal.aborted) throw error
      exchange.log.warn({ service, error }, 'token service unavailable')
    } finally {
      clearTimeout(timer)
    }
    awayUntilMs.set(service, performance.now() + AWAY_MS)
    return undefined
  }
}

function tooLarge(): OciError {
  return new OciError('UNSUPPORTED', {
    status: 413,
    message: `a token request of more than ${BODY_MAX_BYTES} bytes`,
  })
}

/** Whether every scope asked for, in query and form, is for pull alone; a login asks for none. Unreadable ones are not. */
function onlyReads(exchange: Exchange, body: Buffer): boolean {
  const texts = [exchange.query, body.toString('utf8')].flatMap((form) =>
    new URLSearchParams(form).getAll('scope'),
  )
  return texts.every((text) =>
    parseScopes(text)?.every(({ actions }) => actions.every((action) => action === 'pull')),
  )
}
