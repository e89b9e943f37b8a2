/**
 * Tags, catalog and referrers: the primary's answer, passed on as it streams. In an outage the tags of a repository that
 * is known to be here whole stand in for it, marked, and so does the primary's word that it has no referrers API; any
 * other list would be taken for the truth and is refused.
 */
import type { Digest } from '../src/oci/digest.ts'
import { errorBody, OciError } from '../src/oci/errors.ts'
import type { RepositoryName, Tag } from '../src/oci/reference.ts'
import type { Holdings } from '../src/store/holdings.ts'
import { isOutage } from '../src/upstream/errors.ts'
import { answer, type Exchange, staleWarning } from './exchange.ts'

export interface ListDeps {
  /** Sends the client's own request to the primary. `judged`: what is no registry's word is not passed on. */
  readonly passThrough: (exchange: Exchange, options: { readonly judged: boolean }) => Promise<void>
  readonly holdings: Pick<Holdings, 'tags' | 'completeSince'>
  /** `outage.maxstale` in milliseconds. */
  readonly maxStaleMs: number
  readonly now?: () => number
}

type ListRoute =
  | { readonly kind: 'catalog' }
  | { readonly kind: 'tags'; readonly name: RepositoryName }
  | { readonly kind: 'referrers'; readonly name: RepositoryName; readonly digest: Digest }

export function createLists(deps: ListDeps): (exchange: Exchange, route: ListRoute) => Promise<void> {
  const { passThrough, holdings, maxStaleMs } = deps
  const now = deps.now ?? Date.now

  /** When the primary last said that it has no referrers API. */
  let withoutReferrersAtMs: number | undefined

  function hearReferrers({ response }: Exchange): void {
    const { statusCode } = response
    if (statusCode !== 200 && statusCode !== 404) return
    // With the API a repository can still be unknown, which is said in a body of the specification's.
    const hasNone = statusCode === 404 && !/\bjson\b/i.test(String(response.getHeader('content-type')))
    withoutReferrersAtMs = hasNone ? now() : undefined
  }

  /** Clients then look under the fallback tag, which may be held: a signature can still be verified. */
  function sendNoReferrers(exchange: Exchange): boolean {
    const saidAtMs = withoutReferrersAtMs
    if (saidAtMs === undefined || Math.abs(now() - saidAtMs) >= maxStaleMs) return false
    exchange.source = 'stale'
    const message = 'the primary registry has no referrers API: look under the fallback tag'
    const body = errorBody('UNSUPPORTED', message)
    const headers = {
      'content-type': 'application/json; charset=utf-8',
      'content-length': String(Buffer.byteLength(body)),
      warning: staleWarning(saidAtMs),
    }
    answer(exchange, 404, headers, body)
    return true
  }

  async function fromHere(exchange: Exchange, name: RepositoryName): Promise<boolean> {
    const sinceMs = exchange.access.onlyPrimary ? undefined : await holdings.completeSince(name)
    if (sinceMs === undefined || Math.abs(now() - sinceMs) >= maxStaleMs) return false
    exchange.source = 'stale'
    sendTags(exchange, name, await holdings.tags(name), staleWarning(sinceMs))
    return true
  }

  return async function readList(exchange, route) {
    try {
      // A primary without the referrers API answers 404 in any words, and so do we: clients then try the fallback tag.
      await passThrough(exchange, { judged: route.kind !== 'referrers' })
      if (route.kind === 'referrers') hearReferrers(exchange)
    } catch (error) {
      if (!isOutage(error) || exchange.response.headersSent) throw error
      if (route.kind === 'tags' && (await fromHere(exchange, route.name))) return
      if (route.kind === 'referrers' && sendNoReferrers(exchange)) return
      throw error
    }
  }
}

/** https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-tags */
function sendTags(exchange: Exchange, name: RepositoryName, tags: readonly Tag[], warning: string): void {
  const query = new URLSearchParams(exchange.query)
  const last = query.get('last') ?? ''
  const after = tags.filter((tag) => tag > last)
  const n = query.get('n')
  if (n !== null && !/^\d{1,9}$/.test(n)) throw new OciError('PAGINATION_NUMBER_INVALID', { detail: { n } })
  const page = n === null ? after : after.slice(0, Number(n))
  const final = page.at(-1)
  const link =
    final !== undefined && page.length < after.length
      ? `</v2/${name}/tags/list?n=${n}&last=${final}>; rel="next"`
      : undefined
  const body = JSON.stringify({ name, tags: page })
  answer(
    exchange,
    200,
    {
      'content-type': 'application/json; charset=utf-8',
      'content-length': String(Buffer.byteLength(body)),
      warning,
      link,
    },
    body,
  )
}
