/**
 * The paths of the distribution specification, and nothing else. A name is parsed by its grammar before anything is
 * authorized or touches the disk; `%2F`, dots and NUL never get further than here.
 * https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#endpoints
 */
import { type Digest, parseDigest } from '../src/oci/digest.ts'
import { OciError } from '../src/oci/errors.ts'
import {
  parseReference,
  parseRepositoryName,
  type Reference,
  type RepositoryName,
} from '../src/oci/reference.ts'

export type Route =
  | { readonly kind: 'ping' }
  | { readonly kind: 'catalog' }
  | { readonly kind: 'token' }
  | { readonly kind: 'manifest'; readonly name: RepositoryName; readonly reference: Reference }
  | { readonly kind: 'blob'; readonly name: RepositoryName; readonly digest: Digest }
  | { readonly kind: 'uploads'; readonly name: RepositoryName }
  /** `id` is the primary's word for the session: opaque, passed on as it came. */
  | { readonly kind: 'upload'; readonly name: RepositoryName; readonly id: string }
  | { readonly kind: 'tags'; readonly name: RepositoryName }
  | { readonly kind: 'referrers'; readonly name: RepositoryName; readonly digest: Digest }

/** Greedy, so that a repository called `a/manifests/b` keeps its name: the last keyword decides. */
const REPOSITORY_PATH =
  /^\/v2\/(.*)\/(?:(manifests|blobs|referrers)\/([^/]*)|blobs\/uploads\/([^/]*)|tags\/(list)\/?)$/s

/**
 * The route of a raw path without its query. Throws `OciError` (400 or 404); for a tag that cannot be, `method` decides
 * which: who reads it is told that there is no such manifest, who writes it what is wrong with it.
 */
export function parseRoute(path: string, method?: string): Route {
  if (path === '/v2/' || path === '/v2') return { kind: 'ping' }
  if (path === '/v2/_catalog') return { kind: 'catalog' }
  if (path === '/jwt/auth') return { kind: 'token' }
  const match = REPOSITORY_PATH.exec(path)
  if (!match) throw new OciError('NOT_FOUND', { detail: { path: path.slice(0, 256) } })
  const [, nameText = '', keyword, last = '', uploadId, list] = match
  const name = parseRepositoryName(nameText)
  if (!name) throw new OciError('NAME_INVALID', { detail: { name: nameText.slice(0, 256) } })
  if (list !== undefined) return { kind: 'tags', name }
  if (uploadId === '' || (keyword === 'blobs' && last === 'uploads')) return { kind: 'uploads', name }
  if (uploadId !== undefined) return { kind: 'upload', name, id: uploadId }
  if (keyword === 'manifests') return { kind: 'manifest', name, reference: requireReference(last, method) }
  return { kind: keyword === 'blobs' ? 'blob' : 'referrers', name, digest: requireDigest(last) }
}

function requireDigest(text: string): Digest {
  // Clients may percent-encode the colon; nothing else in a digest can be encoded.
  const digest = parseDigest(text.replace(/%3a/i, ':'))
  if (!digest) throw new OciError('DIGEST_INVALID', { detail: { digest: text.slice(0, 256) } })
  return digest
}

function requireReference(text: string, method: string | undefined): Reference {
  const plain = text.replace(/%3a/i, ':')
  const reference = parseReference(plain)
  if (reference) return reference
  if (plain.includes(':')) throw new OciError('DIGEST_INVALID', { detail: { digest: text.slice(0, 256) } })
  const code = method === 'GET' || method === 'HEAD' ? 'MANIFEST_UNKNOWN' : 'TAG_INVALID'
  throw new OciError(code, { detail: { tag: text.slice(0, 256) } })
}
