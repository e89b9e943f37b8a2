import { describe, expect, it } from 'vitest'
import { errorCodesOf } from '../../src/oci/errors.ts'
import { endToEndHeaders, matchesEtag } from '../../src/oci/headers.ts'
import { manifestMediaType, manifestSubject } from '../../src/oci/manifest.ts'
import { acceptsLiterally, MEDIA_TYPES } from '../../src/oci/media-types.ts'

const bytes = (value: unknown) => Buffer.from(JSON.stringify(value))

describe('manifests', () => {
  it.each([
    [{ schemaVersion: 2, mediaType: MEDIA_TYPES.dockerList, manifests: [] }, MEDIA_TYPES.dockerList],
    [{ schemaVersion: 2, manifests: [] }, MEDIA_TYPES.ociIndex],
    [{ schemaVersion: 2, config: {}, layers: [] }, MEDIA_TYPES.ociManifest],
    [{ schemaVersion: 2, config: {} }, MEDIA_TYPES.ociManifest],
  ])('knows %j by its mediaType, else by its shape', (value, mediaType) => {
    expect(manifestMediaType(bytes(value))).toBe(mediaType)
  })

  it.each([
    '<html></html>',
    '[]',
    'null',
    '{}',
    '{"schemaVersion":2}',
    '{"schemaVersion":1,"fsLayers":[]}',
    '{"mediaType":"text/html"}',
    '{"mediaType":7,"schemaVersion":2,"manifests":[]}',
  ])('takes %s for no manifest', (text) => expect(manifestMediaType(Buffer.from(text))).toBeUndefined())

  it('finds a subject only where it is a digest', () => {
    const digest = `sha256:${'a'.repeat(64)}`
    expect(manifestSubject(bytes({ subject: { digest } }))).toBe(digest)
    expect(manifestSubject(bytes({ subject: { digest: '../../etc' } }))).toBeUndefined()
    expect(manifestSubject(bytes({ subject: null }))).toBeUndefined()
  })
})

describe('negotiation', () => {
  it('matches a type that stands literally in Accept, whatever its parameters', () => {
    expect(acceptsLiterally(`a/b, ${MEDIA_TYPES.ociIndex};q=0.5`, MEDIA_TYPES.ociIndex)).toBe(true)
  })

  it.each([undefined, '', '*/*', 'application/*', `${MEDIA_TYPES.ociIndex}x`])(
    'leaves Accept %s to the primary',
    (accept) => {
      expect(acceptsLiterally(accept, MEDIA_TYPES.ociIndex)).toBe(false)
    },
  )

  it('compares entity tags as If-None-Match asks', () => {
    expect(matchesEtag('"a", W/"b"', '"b"')).toBe(true)
    expect(matchesEtag('b', '"b"')).toBe(true)
    expect(matchesEtag('*', '"b"')).toBe(true)
    expect(matchesEtag('"c"', '"b"')).toBe(false)
    expect(matchesEtag(undefined, '"b"')).toBe(false)
  })
})

describe('headers and errors of another registry', () => {
  it('passes on no hop-by-hop header, nor one that Connection names', () => {
    const headers = {
      connection: 'close, X-Internal',
      'x-internal': '1',
      'transfer-encoding': 'chunked',
      etag: '"a"',
    }
    expect(endToEndHeaders(headers)).toEqual({ etag: '"a"' })
    expect(endToEndHeaders({ ...headers, connection: ['close', '\tX-Internal '] })).toEqual({ etag: '"a"' })
  })

  it('finds the codes of an OCI error body and none in anything else', () => {
    expect(errorCodesOf(bytes({ errors: [{ code: 'BLOB_UNKNOWN' }, { no: 'code' }] }))).toEqual([
      'BLOB_UNKNOWN',
    ])
    for (const text of ['<html>', 'null', '{"errors":{}}', ''])
      expect(errorCodesOf(Buffer.from(text))).toEqual([])
  })
})
