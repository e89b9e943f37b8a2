import { describe, expect, it } from 'vitest'
import { parseRoute } from '../../proxy/routes.ts'
import { OciError } from '../../src/oci/errors.ts'

const DIGEST = `sha256:${'a'.repeat(64)}`

function codeOf(path: string, method?: string): string {
  try {
    parseRoute(path, method)
  } catch (error) {
    if (error instanceof OciError) return `${error.status} ${error.code}`
    throw error
  }
  return 'taken'
}

describe('routes', () => {
  it.each([
    ['/v2/', { kind: 'ping' }],
    ['/v2', { kind: 'ping' }],
    ['/v2/_catalog', { kind: 'catalog' }],
    ['/jwt/auth', { kind: 'token' }],
    ['/v2/a/b/tags/list', { kind: 'tags', name: 'a/b' }],
    ['/v2/a/manifests/v1', { kind: 'manifest', name: 'a', reference: { kind: 'tag', tag: 'v1' } }],
    [`/v2/a/blobs/${DIGEST}`, { kind: 'blob', name: 'a', digest: DIGEST }],
    [`/v2/a/blobs/${DIGEST.replace(':', '%3A')}`, { kind: 'blob', name: 'a', digest: DIGEST }],
    ['/v2/a/blobs/uploads/', { kind: 'uploads', name: 'a' }],
    ['/v2/a/blobs/uploads', { kind: 'uploads', name: 'a' }],
    ['/v2/a/blobs/uploads/x-1', { kind: 'upload', name: 'a', id: 'x-1' }],
    [`/v2/a/referrers/${DIGEST}`, { kind: 'referrers', name: 'a', digest: DIGEST }],
    [
      '/v2/x/manifests/y/manifests/z',
      { kind: 'manifest', name: 'x/manifests/y', reference: { kind: 'tag', tag: 'z' } },
    ],
    ['/v2/a/blobs/uploads/blobs/uploads/', { kind: 'uploads', name: 'a/blobs/uploads' }],
    ['/v2/tags/list/tags/list', { kind: 'tags', name: 'tags/list' }],
  ])('reads %s', (path, route) => expect(parseRoute(path)).toEqual(route))

  it.each([
    ['/v2/a%2Fb/manifests/v1', '400 NAME_INVALID'],
    ['/v2/../manifests/v1', '400 NAME_INVALID'],
    ['/v2/a/../../etc/manifests/v1', '400 NAME_INVALID'],
    ['/v2/A/manifests/v1', '400 NAME_INVALID'],
    ['/v2/a\0b/manifests/v1', '400 NAME_INVALID'],
    [`/v2/${'a'.repeat(10_000)}/manifests/v1`, '400 NAME_INVALID'],
    ['/v2//manifests/v1', '400 NAME_INVALID'],
    ['/v2/a/manifests/..', '400 TAG_INVALID'],
    ['/v2/a/manifests/', '400 TAG_INVALID'],
    ['/v2/a/manifests/md5:abc', '400 DIGEST_INVALID'],
    ['/v2/a/blobs/sha256:baddigeststring', '400 DIGEST_INVALID'],
    [`/v2/a/blobs/${DIGEST.toUpperCase()}`, '400 DIGEST_INVALID'],
    ['/v2/a/referrers/latest', '400 DIGEST_INVALID'],
    ['/v1/search', '404 NOT_FOUND'],
    ['/v2/a', '404 NOT_FOUND'],
    ['/', '404 NOT_FOUND'],
    ['/status', '404 NOT_FOUND'],
  ])('refuses %j with %s', (path, code) => expect(codeOf(path)).toBe(code))

  it.each([
    ['GET', '404 MANIFEST_UNKNOWN'],
    ['HEAD', '404 MANIFEST_UNKNOWN'],
    ['PUT', '400 TAG_INVALID'],
    ['DELETE', '400 TAG_INVALID'],
  ])(
    'answer a %s of a tag that cannot be with %s, as the official conformance suite wants it',
    (method, code) => {
      expect(codeOf('/v2/a/manifests/.INVALID_MANIFEST_NAME', method)).toBe(code)
      expect(codeOf('/v2/a/manifests/md5:abc', method)).toBe('400 DIGEST_INVALID')
    },
  )
})
