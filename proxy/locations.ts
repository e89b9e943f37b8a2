/**
 * Addresses in the primary's answers, as a client of this site may follow them, and the way back. Signed queries are
 * moved as text, never decoded and encoded again: `%2B` and `+` are different signatures.
 */
import { createCipheriv, createDecipheriv, createHash, hkdfSync, randomBytes } from 'node:crypto'
import { OciError } from '../src/oci/errors.ts'
import type { RepositoryName } from '../src/oci/reference.ts'
import { UpstreamError } from '../src/upstream/errors.ts'
import { parseRoute } from './routes.ts'

export interface LocationsOptions {
  /** `upstream.origin`: no trailing slash. */
  readonly upstreamOrigin: string
  /** `http.secret`; whoever has it can make this site send an upload anywhere. */
  readonly secret: () => string
}

/** Where an upload request goes. */
export interface UploadTarget {
  readonly url: string
  /** On another origin than the primary's, so nothing of the caller's may go with it. */
  readonly foreign: boolean
}

export interface Locations {
  /**
   * The absolute URL a `Location` means, to be asked by this site: relative and own ones on the upstream's origin.
   * `siteHost` is the authority under which the client knows this site, `base` the URL whose answer it came in.
   * Throws `UpstreamError` (`faulty`) for what is no address on the web.
   */
  resolve(location: string, siteHost: string | undefined, base: string): string
  /** Path and query under this site for a URL from `resolve`; undefined when this site does not answer there. */
  path(url: string): string | undefined
  /** Path and query of an upload session under this site: its own path if it has one here, else sealed. */
  session(url: string, name: RepositoryName): string
  /** `Link` headers of lists: a next page is always asked of this site. */
  link(header: string): string
  /** The inverse of `session`, for a raw path and query. Throws `OciError` (`BLOB_UPLOAD_UNKNOWN`). */
  target(path: string, query: string, name: RepositoryName): UploadTarget
}

const SEALED_PARAMETER = '_geo='
const NONCE_BYTES = 12
const TAG_BYTES = 16
const ABSOLUTE = /^(https?:)?\/\/([^/?#]*)(.*)$/i
const OTHER_SCHEME = /^[a-z][a-z0-9+.-]*:/i
const ORIGIN = /^https?:\/\/[^/?#]*/i
/** Segments that a URL parser, ours or the primary's, would take for another path. */
const UNSAFE_ID = /^\.{1,2}$|%(?:00|2e|2f|5c)|\\/i

export function createLocations(options: LocationsOptions): Locations {
  const { upstreamOrigin } = options
  const upstreamHost = new URL(upstreamOrigin).host
  const keyOf = createKeyOf()
  const key = () => keyOf(options.secret())

  function resolve(location: string, siteHost: string | undefined, base: string): string {
    const text = location.replace(/#.*$/s, '')
    const absolute = ABSOLUTE.exec(text)
    if (absolute) {
      const [, scheme = new URL(base).protocol, authority = '', rest = ''] = absolute
      const host = hostOf(authority, scheme)
      if (host === undefined) throw unusable(text)
      // Schemes are not compared: a primary behind a TLS proxy may not know its own, and what is ours goes to the
      // configured origin either way.
      const own = host === upstreamHost || (siteHost !== undefined && host === hostOf(siteHost, scheme))
      if (own) return upstreamOrigin + (rest.startsWith('/') ? rest : `/${rest}`)
      return `${scheme}//${authority}${rest}`
    }
    if (OTHER_SCHEME.test(text)) throw unusable(text)
    if (text.startsWith('/')) return (ORIGIN.exec(base)?.[0] ?? upstreamOrigin) + text
    const url = URL.parse(text, base)
    if (!url || !isWeb(url)) throw unusable(text)
    return url.href
  }

  function path(url: string): string | undefined {
    if (!url.startsWith(`${upstreamOrigin}/`)) return undefined
    const rest = url.slice(upstreamOrigin.length)
    return routeOf(rest) ? rest : undefined
  }

  function session(url: string, name: RepositoryName): string {
    const rest = path(url)
    const route = rest === undefined ? undefined : routeOf(rest)
    // Some registries keep sessions outside of the specification's paths; those are sealed like another origin's.
    if (rest !== undefined && route?.kind === 'upload' && route.name === name && !UNSAFE_ID.test(route.id)) {
      return rest
    }
    const id = createHash('sha256').update(withoutQuery(url)).digest('hex').slice(0, 32)
    return `/v2/${name}/blobs/uploads/${id}?${SEALED_PARAMETER}${seal(key(), url, name)}`
  }

  function link(header: string): string {
    return header.replace(/<([^<>]*)>/g, (_, target: string) => `<${ownTarget(target)}>`)
  }

  function target(rawPath: string, query: string, name: RepositoryName): UploadTarget {
    const parameters = query === '' ? [] : query.split('&')
    const sealed = parameters.filter((parameter) => parameter.startsWith(SEALED_PARAMETER))
    if (sealed.length === 0) {
      if (UNSAFE_ID.test(rawPath.slice(rawPath.lastIndexOf('/') + 1))) throw unknownUpload()
      return { url: upstreamOrigin + rawPath + (query === '' ? '' : `?${query}`), foreign: false }
    }
    if (sealed.length > 1) throw unknownUpload()
    const opened = open(key(), (sealed[0] ?? '').slice(SEALED_PARAMETER.length), name)
    if (opened === undefined) throw unknownUpload()
    // What the client adds (`digest=…`) joins the query that was sealed; clients sort, so it may stand on either side.
    const added = parameters.filter((parameter) => !parameter.startsWith(SEALED_PARAMETER)).join('&')
    const url = added === '' ? opened : `${opened}${opened.includes('?') ? '&' : '?'}${added}`
    return { url, foreign: !url.startsWith(`${upstreamOrigin}/`) }
  }

  return { resolve, path, session, link, target }
}

/** The secret may be replaced while the site runs; the key is derived once for each. */
function createKeyOf(): (secret: string) => Buffer {
  let derived: { readonly secret: string; readonly key: Buffer } | undefined
  return (secret) => {
    if (derived?.secret !== secret) {
      const key = Buffer.from(hkdfSync('sha256', secret, '', 'geo-registry upload location 1', 32))
      derived = { secret, key }
    }
    return derived.key
  }
}

/** Names an upload session wherever its query moves: registries keep changing state there. */
export function withoutQuery(url: string): string {
  const start = url.indexOf('?')
  return start === -1 ? url : url.slice(0, start)
}

function unusable(location: string): UpstreamError {
  return new UpstreamError(
    'faulty',
    `the primary sent a Location that is no web address: ${withoutQuery(location)}`,
  )
}

function unknownUpload(): OciError {
  return new OciError('BLOB_UPLOAD_UNKNOWN', {
    message: 'blob upload unknown to registry: the location was not given out for this repository',
  })
}

function routeOf(pathAndQuery: string): ReturnType<typeof parseRoute> | undefined {
  try {
    return parseRoute(withoutQuery(pathAndQuery))
  } catch {
    return undefined // Not a path of this registry; the caller decides what that means.
  }
}

function isWeb({ protocol }: URL): boolean {
  return protocol === 'https:' || protocol === 'http:'
}

/** Where a client could know this site; it may take `https:host` for another's name under the one and not the other. */
const OWN_BASES = ['http://site.invalid/v2/', 'https://site.invalid/v2/']

/** The target of a link as a client finds it under this site. Its text stays, where that leads nowhere else. */
function ownTarget(target: string): string {
  const urls = OWN_BASES.map((base) => URL.parse(target, base))
  const elsewhere = urls.find((url) => url && isWeb(url) && url.host !== 'site.invalid')
  if (!elsewhere) return target
  const rest = ABSOLUTE.exec(target)?.[3] ?? ''
  // Two slashes would begin another host's name, and clients take a backslash for one and leave out tabs.
  if (/^\/[^/\\\t]/.test(rest)) return rest
  return elsewhere.pathname.replace(/^\/+/, '/') + elsewhere.search
}

/** Host and port in lower case without the scheme's default port; undefined for what is no authority. */
function hostOf(authority: string, scheme: string): string | undefined {
  return URL.parse(`${scheme}//${authority}`)?.host
}

function seal(key: Buffer, url: string, name: RepositoryName): string {
  const nonce = randomBytes(NONCE_BYTES)
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(Buffer.from(name))
  const text = Buffer.concat([cipher.update(url, 'utf8'), cipher.final()])
  return Buffer.concat([nonce, cipher.getAuthTag(), text]).toString('base64url')
}

function open(key: Buffer, sealed: string, name: RepositoryName): string | undefined {
  const bytes = Buffer.from(sealed, 'base64url')
  // The decoder passes over what is no letter of base64, and over bits at the end that stand for nothing.
  if (bytes.length <= NONCE_BYTES + TAG_BYTES || bytes.toString('base64url') !== sealed) return undefined
  const nonce = bytes.subarray(0, NONCE_BYTES)
  const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES })
    .setAAD(Buffer.from(name))
    .setAuthTag(bytes.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES))
  try {
    const text = Buffer.concat([decipher.update(bytes.subarray(NONCE_BYTES + TAG_BYTES)), decipher.final()])
    return text.toString('utf8')
  } catch {
    return undefined // Altered, another repository's, or sealed with another secret: all the same to the caller.
  }
}
