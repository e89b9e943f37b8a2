/**
 * One row of the README's table of outages: everything a client can ask of a site, and each answer in the words of the
 * table's cells. Content is compared with what was pushed, so a 200 in a cell is a right one.
 */
import { errorCodesOf } from '../../src/oci/errors.ts'
import type { Image } from '../support/images.ts'
import { basic } from '../support/login.ts'
import type { Answer, RegistryApi } from '../support/registry-api.ts'
import { DEVELOPER, NAME, type OutageSite } from './outage-site.ts'

export interface Row {
  readonly 'pull by tag': string
  readonly 'pull by digest': string
  readonly 'pull of a layer': string
  readonly 'miss: manifest': string
  readonly 'miss: layer': string
  readonly 'list of tags': string
  readonly 'push: layer': string
  readonly 'push: manifest': string
  readonly delete: string
  /** After the push and the delete were answered as above: what failed must have taken nothing away. */
  readonly 'then, by tag': string
  readonly 'then, by digest': string
  readonly login: string
  readonly 'token to pull': string
  readonly 'token to push': string
}

/** The primary answers reads as ever. */
export const READS_AS_EVER = {
  'pull by tag': '200 local',
  'pull by digest': '200 local',
  'pull of a layer': '200 local',
  'miss: manifest': '200 fill',
  'miss: layer': '200 fill',
  'list of tags': '200 primary',
} as const

/** What was refused or failed has changed nothing. */
export const NOTHING_CHANGED = { 'then, by tag': '200 local', 'then, by digest': '200 local' } as const

export const LOGINS_AS_EVER = {
  login: '200 of the primary’s',
  'token to pull': '200 of the primary’s',
  'token to push': '200 of the primary’s',
} as const

/** Writes get one answer, whatever they are. */
export function writes(answer: string): Pick<Row, 'push: layer' | 'push: manifest' | 'delete'> {
  return { 'push: layer': answer, 'push: manifest': answer, delete: answer }
}

/**
 * Asks for every column. The push is of the tag `v1`, which would become what `cold` is; the delete is of the digest
 * that is held.
 */
export async function askEverything(sites: OutageSite, pusher: RegistryApi = sites.developer): Promise<Row> {
  const { reader, held, cold } = sites
  const layerOf = (image: Image) => image.blobs.at(-1)?.digest ?? ''
  const byTag = (tag: string) => reader.getManifest(NAME, tag)
  const layer = (digest: string) =>
    reader.request('GET', `/v2/${NAME}/blobs/${digest}`, { scope: `repository:${NAME}:pull` })

  const tagged = await byTag('v1')
  // Asked together, since a primary that never answers costs each of them its time-out.
  const [digested, layered, coldManifest, coldLayer, tags] = await Promise.all([
    reader.getManifest(NAME, held.digest),
    layer(layerOf(held)),
    byTag('cold'),
    layer(layerOf(cold)),
    reader.tags(NAME),
  ])
  const started = await pusher.startUpload(NAME)
  const put = await pusher.putManifest(NAME, 'v1', cold.bytes, cold.mediaType)
  const deleted = await pusher.deleteManifest(NAME, held.digest)
  return {
    'pull by tag': cell(tagged, held.digest),
    'pull by digest': cell(digested, held.digest),
    'pull of a layer': cell(layered, layerOf(held)),
    'miss: manifest': cell(coldManifest, cold.digest),
    'miss: layer': cell(coldLayer, layerOf(cold)),
    'list of tags': cell(tags),
    'push: layer': cell(started),
    'push: manifest': cell(put),
    delete: cell(deleted),
    'then, by tag': cell(await byTag('v1'), put.status === 201 ? cold.digest : held.digest),
    'then, by digest': cell(await reader.getManifest(NAME, held.digest), held.digest),
    login: await tokenCell(sites, undefined),
    'token to pull': await tokenCell(sites, `repository:${NAME}:pull`),
    'token to push': await tokenCell(sites, `repository:${NAME}:pull,push`),
  }
}

/** As a client logs in: `GET /v2/` without a token, then the realm of its challenge with a password. */
async function tokenCell({ site, tokens, siteTokens, anonymous }: OutageSite, scope: string | undefined) {
  const challenged = await anonymous.request('GET', '/v2/')
  const challenge = challenged.headers['www-authenticate'] ?? ''
  const [, realm, service] = /^Bearer realm="([^"]+)",service="([^"]+)"$/.exec(challenge) ?? []
  if (challenged.status !== 401 || !realm?.startsWith(site.url) || !service) {
    return `no challenge of this site: ${challenged.status} ${challenge}`
  }
  const url = new URL(realm)
  url.searchParams.set('service', service)
  if (scope !== undefined) url.searchParams.set('scope', scope)
  const [first, second] = [tokens.requests.length, siteTokens.requests.length]
  const answer = await anonymous.request('GET', url.href, {
    headers: { authorization: basic(DEVELOPER.username, DEVELOPER.password) },
  })
  if (answer.status !== 200) return cell(answer)
  if (tokens.requests.length > first) return '200 of the primary’s'
  return siteTokens.requests.length > second ? '200 of the site’s' : '200 of nobody’s'
}

/** `200 local`, `200 stale, Warning`, `503 UNAVAILABLE, Retry-After 10`; `404 text/html` for words of no registry. */
export function cell(answer: Answer, digest?: string): string {
  const { status, headers, body } = answer
  if (status === 200 && digest !== undefined && answer.digest !== digest) return `200 with ${answer.digest}`
  const from =
    status < 300 ? (headers['geo-registry-source'] ?? 'elsewhere') : headers['content-type']?.split(';')[0]
  const words = [`${status} ${errorCodesOf(body)[0] ?? from}`]
  if (headers['warning'] !== undefined) words.push(isRightlyWarned(answer) ? 'Warning' : headers['warning'])
  if (headers['retry-after'] !== undefined) words.push(`Retry-After ${headers['retry-after']}`)
  return words.join(', ')
}

const WARNING = /^299 - "the primary registry cannot be reached; last confirmed ([\d:.TZ-]{24})"$/

/** The time in an answer's `Warning` in milliseconds; NaN when it has no such warning. */
export function whenConfirmed({ headers }: Pick<Answer, 'headers'>): number {
  return Date.parse(WARNING.exec(headers['warning'] ?? '')?.[1] ?? '')
}

/** The one warn-code OCI allows, with a time of this test run. */
function isRightlyWarned(answer: Pick<Answer, 'headers'>): boolean {
  const ageMs = Date.now() - whenConfirmed(answer)
  return ageMs >= 0 && ageMs < 10 * 60_000
}

/** The message of an OCI error body, as clients print it. */
export function messageOf({ body }: Pick<Answer, 'body'>): string {
  const value = JSON.parse(body.toString('utf8')) as { errors?: { message?: string }[] }
  return value.errors?.[0]?.message ?? ''
}
