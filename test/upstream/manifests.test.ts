import type { RequestListener } from 'node:http'
import { setImmediate as turn } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { digestOf } from '../../src/oci/digest.ts'
import { FULL_ACCEPT, MEDIA_TYPES } from '../../src/oci/media-types.ts'
import { parseRepositoryName, parseTag, type Reference } from '../../src/oci/reference.ts'
import type { ManifestAsk } from '../../src/upstream/upstream.ts'
import { clientOf, httpPrimary, releasers } from './primary.ts'

const NAME = parseRepositoryName('group/app') ?? expect.unreachable()
const TAG: Reference = { kind: 'tag', tag: parseTag('latest') ?? expect.unreachable() }
const BYTES = Buffer.from(
  JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPES.ociManifest, config: {}, layers: [] }),
)
const DIGEST = digestOf(BYTES)
const BY_DIGEST: Reference = { kind: 'digest', digest: DIGEST }
const ASK: ManifestAsk = { credential: { kind: 'caller', authorization: 'Bearer caller' } }
const OCI_TYPE = { 'content-type': MEDIA_TYPES.ociManifest }

const owed = releasers()
afterEach(() => owed.release())

async function primary(answer: RequestListener) {
  const server = await httpPrimary(answer)
  owed.add(server.close)
  const client = clientOf(server.origin)
  owed.add(client.dispatcher.close)
  return { ...client, requests: server.requests }
}

function errorBody(...codes: string[]): string {
  return JSON.stringify({ errors: codes.map((code) => ({ code, message: '' })) })
}

describe('a manifest from the primary', () => {
  it('comes as the bytes, digest and type the primary has, asked for with our full Accept and the caller as he is', async () => {
    const { upstream, requests } = await primary((_request, response) => {
      response.writeHead(200, { ...OCI_TYPE, 'docker-content-digest': DIGEST }).end(BYTES)
    })

    const manifest = await upstream.getManifest(NAME, TAG, { ...ASK, requestId: 'r-1' })

    expect(manifest).toEqual({ bytes: BYTES, digest: DIGEST, mediaType: MEDIA_TYPES.ociManifest })
    expect(requests[0]?.url).toBe('/v2/group/app/manifests/latest')
    expect(requests[0]?.headers).toMatchObject({
      accept: FULL_ACCEPT,
      'accept-encoding': 'identity',
      authorization: 'Bearer caller',
      'x-request-id': 'r-1',
    })
    expect(requests[0]?.headers).not.toHaveProperty('if-none-match')
  })

  it('is verified by the algorithm the primary names, and by sha256 where it names none', async () => {
    const sha512 = digestOf(BYTES, 'sha512')
    const { upstream } = await primary((request, response) => {
      const named = request.url?.endsWith('latest') ? { 'docker-content-digest': sha512 } : {}
      response.writeHead(200, { ...OCI_TYPE, ...named }).end(BYTES)
    })
    const old: Reference = { kind: 'tag', tag: parseTag('old') ?? expect.unreachable() }

    expect(await upstream.getManifest(NAME, TAG, ASK)).toMatchObject({ digest: sha512 })
    expect(await upstream.getManifest(NAME, old, ASK)).toMatchObject({ digest: DIGEST })
    // A sha512 question that is answered with a sha256 header, as Distribution does it.
    await expect(upstream.getManifest(NAME, { kind: 'digest', digest: sha512 }, ASK)).resolves.toMatchObject({
      digest: sha512,
    })
  })

  it('is asked for with exactly one strong ETag when one is held, and 304 says that it stands', async () => {
    const { upstream, requests } = await primary((_request, response) => {
      response.writeHead(304, { etag: `"${DIGEST}"` }).end()
    })

    expect(await upstream.getManifest(NAME, TAG, { ...ASK, heldDigest: DIGEST, check: true })).toBe(
      'not-modified',
    )
    expect(requests[0]?.headers['if-none-match']).toBe(`"${DIGEST}"`)
  })

  it('is never asked for conditionally by digest, and a 304 nobody asked for is a fault', async () => {
    const { upstream, requests } = await primary((_request, response) => response.writeHead(304).end())

    const ask = upstream.getManifest(NAME, BY_DIGEST, { ...ASK, heldDigest: DIGEST })

    await expect(ask).rejects.toMatchObject({ kind: 'faulty' })
    expect(requests[0]?.headers).not.toHaveProperty('if-none-match')
  })

  it('is a fault when a 304 names another digest than the one held', async () => {
    const { upstream } = await primary((_request, response) => {
      response.writeHead(304, { 'docker-content-digest': digestOf(Buffer.from('other')) }).end()
    })

    await expect(upstream.getManifest(NAME, TAG, { ...ASK, heldDigest: DIGEST })).rejects.toMatchObject({
      kind: 'faulty',
    })
  })

  it.each([
    [
      'schema 1',
      MEDIA_TYPES.dockerSchema1Signed,
      '{"schemaVersion":1,"signatures":[]}',
      'sha256:'.padEnd(71, '0'),
    ],
    [
      'a type nobody knows',
      'application/vnd.acme+json',
      '{"mediaType":"application/vnd.acme+json"}',
      undefined,
    ],
  ])('of %s is said to be there and not kept', async (_what, type, text, named) => {
    const { upstream } = await primary((_request, response) => {
      const digest = named ?? digestOf(Buffer.from(text))
      response.writeHead(200, { 'content-type': type, 'docker-content-digest': digest }).end(text)
    })

    expect(await upstream.getManifest(NAME, TAG, ASK)).toBe('not-kept')
  })

  const lies: [string, RequestListener][] = [
    [
      'a wrong digest',
      (_, r) => r.writeHead(200, OCI_TYPE).end(Buffer.from('{"schemaVersion":2,"layers":[]}')),
    ],
    ['a web page', (_, r) => r.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end('<html>')],
    ['a gzip body', (_, r) => r.writeHead(200, { ...OCI_TYPE, 'content-encoding': 'gzip' }).end(BYTES)],
    ['more than 4 MiB', (_, r) => r.writeHead(200, OCI_TYPE).end(Buffer.alloc(4 * 1024 * 1024 + 1, 32))],
    ['a redirect to a sign-in page', (_, r) => r.writeHead(302, { location: '/users/sign_in' }).end()],
    [
      'a 404 that is an ingress speaking',
      (_, r) => r.writeHead(404, { 'content-type': 'text/html' }).end('<html>'),
    ],
    ['a 404 with a code about something else', (_, r) => r.writeHead(404).end(errorBody('UNSUPPORTED'))],
    ['a 404 without a body', (_, r) => r.writeHead(404).end()],
    ['a 204', (_, r) => r.writeHead(204).end()],
    ['a malformed digest', (_, r) => r.writeHead(200, { 'docker-content-digest': 'sha256:../..' }).end('{}')],
  ]
  it.each(lies)('is a fault of the primary when it is %s', async (what, lie) => {
    const { upstream } = await primary(lie)
    const reference = what === 'a malformed digest' ? TAG : BY_DIGEST

    await expect(upstream.getManifest(NAME, reference, ASK)).rejects.toMatchObject({ kind: 'faulty' })
  })

  it('by tag is a fault when it is JSON without a digest that could as well be anything', async () => {
    const { upstream } = await primary((_request, response) =>
      response.writeHead(200).end('{"login":"please"}'),
    )

    await expect(upstream.getManifest(NAME, TAG, ASK)).rejects.toMatchObject({ kind: 'faulty' })
  })

  it.each([
    ['by its length', { 'content-length': String(BYTES.length + 10) }],
    ['by its chunks', { 'transfer-encoding': 'chunked' }],
    ['by its chunks on a connection that ends', { 'transfer-encoding': 'chunked', connection: 'close' }],
  ])('that ends short %s is an outage', async (_what, headers) => {
    const { upstream } = await primary((request, response) => {
      response.writeHead(200, { ...OCI_TYPE, ...headers })
      response.write(BYTES, () => request.socket.end())
    })

    await expect(upstream.getManifest(NAME, BY_DIGEST, ASK)).rejects.toMatchObject({ kind: 'unavailable' })
  })

  it.each([
    [404, errorBody('MANIFEST_UNKNOWN'), 'absent'],
    [404, errorBody('OTHER', 'NAME_UNKNOWN'), 'absent'],
    [401, errorBody('UNAUTHORIZED'), 'unauthorized'],
    [403, errorBody('DENIED'), 'denied'],
    [429, 'slow down', 'limited'],
    [500, errorBody('UNKNOWN'), 'unavailable'],
    [502, '<html>', 'unavailable'],
  ] as const)('answered %i %s is %s', async (status, body, kind) => {
    const { upstream } = await primary((_request, response) => {
      response
        .writeHead(status, { 'retry-after': '7', 'www-authenticate': 'Bearer realm="https://t/"' })
        .end(body)
    })

    await expect(upstream.getManifest(NAME, TAG, ASK)).rejects.toMatchObject({
      kind,
      status,
      retryAfter: '7',
      challenge: 'Bearer realm="https://t/"',
      body: body.startsWith('{') ? Buffer.from(body) : undefined,
    })
  })

  it('tells the breaker of every failure, and of every tag check that was answered', async () => {
    const { upstream, reports, metrics } = await primary((request, response) => {
      response.writeHead(request.headers['if-none-match'] ? 304 : 500).end()
    })

    await upstream.getManifest(NAME, TAG, { ...ASK, heldDigest: DIGEST, check: true })
    await expect(upstream.getManifest(NAME, TAG, ASK)).rejects.toThrow()

    expect(reports.succeeded).toBe(1)
    expect(reports.failed).toEqual([['manifest', expect.objectContaining({ kind: 'unavailable' })]])
    const counted = await metrics.upstreamRequests.get()
    expect(counted.values.map(({ labels, value }) => [labels.operation, labels.code, value])).toEqual([
      ['tag-check', '304', 1],
      ['manifest', '500', 1],
    ])
  })
})

describe('confirming a manifest', () => {
  let get: RequestListener
  let head: RequestListener
  const confirm = async () => {
    const started = await primary((request, response) =>
      (request.method === 'HEAD' ? head : get)(request, response),
    )
    return { ...started, confirmed: started.upstream.confirmManifest(NAME, DIGEST, ASK) }
  }
  beforeEach(() => {
    head = (_request, response) => response.writeHead(404).end()
    get = (_request, response) => response.writeHead(200, OCI_TYPE).end(BYTES)
  })

  it('costs one HEAD, after which the connection is used again', async () => {
    head = (_request, response) =>
      response.writeHead(200, { 'docker-content-digest': DIGEST, 'content-length': 5 }).end()

    const { confirmed, requests, upstream } = await confirm()

    await expect(confirmed).resolves.toBeUndefined()
    await turn()
    await upstream.confirmManifest(NAME, DIGEST, ASK)
    expect(requests.map(({ method }) => method)).toEqual(['HEAD', 'HEAD'])
    expect(requests[1]?.socket === requests[0]?.socket).toBe(true)
  })

  it('settles a 404 of a HEAD, which has no body, by one GET', async () => {
    const { confirmed, requests } = await confirm()

    await expect(confirmed).resolves.toBeUndefined()
    expect(requests.map(({ method }) => method)).toEqual(['HEAD', 'GET'])
    expect(requests[1]?.socket === requests[0]?.socket).toBe(true)
  })

  it('is absent only by the GET in a registry that says so, not by an ingress', async () => {
    get = (_request, response) => response.writeHead(404).end(errorBody('MANIFEST_UNKNOWN'))
    await expect((await confirm()).confirmed).rejects.toMatchObject({ kind: 'absent' })

    get = (_request, response) => response.writeHead(404).end('<html>')
    await expect((await confirm()).confirmed).rejects.toMatchObject({ kind: 'faulty' })
  })

  it.each([
    ['another digest', { 'docker-content-digest': digestOf(Buffer.from('other')) }],
    ['a web page', { 'content-type': 'text/html' }],
  ])('is a fault when the HEAD is answered 200 with %s', async (_what, headers) => {
    head = (_request, response) => response.writeHead(200, headers).end()

    await expect((await confirm()).confirmed).rejects.toMatchObject({ kind: 'faulty' })
  })

  it.each([
    [401, 'unauthorized'],
    [403, 'denied'],
    [302, 'faulty'],
    [503, 'unavailable'],
  ])('answered %i is %s without a further question', async (status, kind) => {
    head = (_request, response) => response.writeHead(status).end()

    const { confirmed, requests } = await confirm()

    await expect(confirmed).rejects.toMatchObject({ kind, status })
    expect(requests).toHaveLength(1)
  })
})
