/** Header rules a proxy must keep: hop-by-hop fields, strong entity tags, the headers of this protocol. */

/** Lower case, as node gives them and as we send them. */
export const HEADERS = {
  contentDigest: 'docker-content-digest',
  apiVersion: 'docker-distribution-api-version',
  source: 'geo-registry-source',
  requestId: 'x-request-id',
} as const

export const API_VERSION = 'registry/2.0'

/** https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1 and the older names senders still use. */
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])

export type HeaderFields = Readonly<Record<string, string | string[] | undefined>>

/** The end-to-end headers of a message: without hop-by-hop fields and those its `Connection` names. */
export function endToEndHeaders(headers: HeaderFields): Record<string, string | string[]> {
  const named = new Set(
    [headers['connection'] ?? []].flat().flatMap((value) =>
      value
        .toLowerCase()
        .split(',')
        .map((name) => name.trim()),
    ),
  )
  const kept: Record<string, string | string[]> = {}
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined && !HOP_BY_HOP.has(name) && !named.has(name)) kept[name] = value
  }
  return kept
}

/** One value of a header that must not be repeated; the first when it was. */
export function headerValue(headers: HeaderFields, name: string): string | undefined {
  const value = headers[name]
  return Array.isArray(value) ? value[0] : value
}

/**
 * Whether an `If-None-Match` holds the entity tag (weak comparison, RFC 9110 13.1.2). Distribution also takes the bare
 * digest without quotes.
 */
export function matchesEtag(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false
  const bare = etag.replaceAll('"', '')
  return header.split(',').some((item) => {
    const value = item.trim().replace(/^W\//, '')
    return value === '*' || value === etag || value === bare
  })
}
