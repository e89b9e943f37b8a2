import { Readable } from 'node:stream'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { MEDIA_TYPES } from '../../src/oci/media-types.ts'
import { StoreError } from '../../src/store/blob-store.ts'
import { nameOf, putManifest, tagOf } from '../store/store-fixture.ts'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { type HttpListener, listenHttp } from '../support/http-listener.ts'
import { createRegistryApi } from '../support/registry-api.ts'
import { startWriteSite, type WriteSite, type WriteSiteOptions } from './write-site.ts'

const NAME = nameOf('team/app')
const TAG = tagOf('latest')
const INDEX = MEDIA_TYPES.ociIndex

/** Needs nothing that must be pushed before it. */
const index = (version: number) =>
  Buffer.from(
    JSON.stringify({ schemaVersion: 2, mediaType: INDEX, manifests: [], annotations: { v: `${version}` } }),
  )
const one = index(1)
const two = index(2)

type Answerer = (
  body: Buffer,
  answer: (status: number, headers?: Record<string, string>) => void,
  url: string,
) => void

let answerer: Answerer
let requests: { method: string; url: string }[]
let primary: HttpListener
let site: WriteSite
beforeEach(async () => {
  requests = []
  answerer = (body, answer) => answer(201, { 'docker-content-digest': digestOf(body) })
  primary = await listenHttp((request, response) => {
    const body: Buffer[] = []
    requests.push({ method: request.method ?? '', url: request.url ?? '' })
    request.on('data', (bytes: Buffer) => body.push(bytes))
    request.on('end', () => {
      const answer = (status: number, headers = {}) => {
        if (status === 0) response.destroy()
        else response.writeHead(status, { 'content-length': 0, ...headers }).end()
      }
      answerer(Buffer.concat(body), answer, request.url ?? '')
    })
  })
  site = await startWriteSite(primary.url)
})
afterEach(async () => {
  await site[Symbol.asyncDispose]()
  await primary[Symbol.asyncDispose]()
})

async function restart(options: WriteSiteOptions): Promise<void> {
  await site[Symbol.asyncDispose]()
  site = await startWriteSite(primary.url, options)
}

const push = (bytes: Buffer, reference: string = TAG) => site.api.putManifest(NAME, reference, bytes, INDEX)

async function heldTag(tag = TAG) {
  const held = await site.store.index.tag(NAME, tag)
  return held && { digest: held.digest, servable: held.confirmedAtMs !== undefined }
}

/** The tag as it was before a push, held and confirmed. */
async function holdTag(bytes: Buffer): Promise<Digest> {
  const digest = await putManifest(site.store, NAME, bytes.toString(), TAG)
  await site.freshness.confirm(await site.freshness.observe(NAME, TAG), digest)
  expect(await site.freshness.confirmed(NAME, TAG)).toBe(digest)
  return digest
}

describe('a manifest pushed by tag', () => {
  it('is stored, linked, tagged and fresh when the client hears of it', async () => {
    const answer = await push(one)

    expect(answer.status).toBe(201)
    expect(await site.store.blobs.read(digestOf(one), 10_000)).toEqual(one)
    expect(await site.store.index.link(NAME, 'manifest', digestOf(one))).toMatchObject({
      target: digestOf(one),
    })
    expect(await heldTag()).toEqual({ digest: digestOf(one), servable: true })
    expect(await site.freshness.confirmed(NAME, TAG)).toBe(digestOf(one))
  })

  it('replaces what was held', async () => {
    await holdTag(one)

    await push(two)

    expect(await heldTag()).toEqual({ digest: digestOf(two), servable: true })
    expect(await site.freshness.confirmed(NAME, TAG)).toBe(digestOf(two))
  })

  it('is not confirmed while it is on its way, and not by an answer asked for before it', async () => {
    await holdTag(one)
    const asked = await site.freshness.observe(NAME, TAG)
    const gate = Promise.withResolvers<void>()
    answerer = (body, answer) =>
      void gate.promise.then(() => answer(201, { 'docker-content-digest': digestOf(body) }))

    const pushing = push(two)
    await vi.waitFor(() => expect(requests).toHaveLength(1))
    expect(await site.freshness.confirmed(NAME, TAG)).toBeUndefined()
    gate.resolve()
    await pushing

    expect(await site.freshness.confirm(asked, digestOf(one))).toBe(false)
    expect(await site.freshness.confirmed(NAME, TAG)).toBe(digestOf(two))
  })

  it('overlapped by another push of the tag leaves it to the primary: neither value is served', async () => {
    await holdTag(index(0))
    const answers: (() => void)[] = []
    answerer = (body, answer) =>
      void answers.push(() => answer(201, { 'docker-content-digest': digestOf(body) }))
    const pushing = [push(one), push(two)]
    await vi.waitFor(() => expect(answers).toHaveLength(2))

    for (const send of answers.reverse()) send()
    const statuses = (await Promise.all(pushing)).map(({ status }) => status)

    expect(statuses).toEqual([201, 201])
    expect(await site.freshness.confirmed(NAME, TAG)).toBeUndefined()
    expect((await heldTag())?.servable).toBe(false)
    for (const bytes of [one, two]) {
      expect(await site.store.index.link(NAME, 'manifest', digestOf(bytes))).toBeDefined()
    }
  })

  it('beside a push of another tag is confirmed all the same', async () => {
    const [first, second] = [tagOf('a'), tagOf('b')]
    const answers: (() => void)[] = []
    answerer = (body, answer) =>
      void answers.push(() => answer(201, { 'docker-content-digest': digestOf(body) }))
    const pushing = [push(one, first), push(two, second)]
    await vi.waitFor(() => expect(answers).toHaveLength(2))
    for (const send of answers) send()
    await Promise.all(pushing)

    expect(await site.freshness.confirmed(NAME, first)).toBe(digestOf(one))
    expect(await site.freshness.confirmed(NAME, second)).toBe(digestOf(two))
  })

  it.each([
    ['is lost', 0, 503],
    ['is a 500', 500, 500],
    ['is an ingress that gave up', 504, 504],
  ])(
    'whose answer %s leaves the tag unconfirmed, and servable in an outage as last confirmed',
    async (_, status, told) => {
      const before = await holdTag(one)
      answerer = (_body, answer) => answer(status)

      expect((await push(two)).status).toBe(told)

      expect(await site.freshness.confirmed(NAME, TAG)).toBeUndefined()
      expect(await heldTag()).toEqual({ digest: before, servable: true })
      expect(await site.store.blobs.stat(digestOf(two))).toBeUndefined()
      expect(requests).toHaveLength(1)
    },
  )

  it('that the primary refuses changes nothing here, and its words reach the client', async () => {
    const before = await holdTag(one)
    answerer = (_body, answer) => answer(403, { 'x-reason': 'protected tag', 'retry-after': '7' })

    const refused = await push(two)

    expect(refused).toMatchObject({
      status: 403,
      headers: { 'x-reason': 'protected tag', 'retry-after': '7' },
    })
    expect(await heldTag()).toEqual({ digest: before, servable: true })
    expect(await site.store.blobs.stat(digestOf(two))).toBeUndefined()
  })

  it.each([
    ['names another digest (schema 1)', { 'docker-content-digest': digestOf(Buffer.from('other')) }],
    ['names none that can be read', { 'docker-content-digest': 'md5:abc' }],
  ])('for which the primary %s is not kept, and what was held is no longer served', async (_, headers) => {
    await holdTag(one)
    answerer = (_body, answer) => answer(201, headers)

    expect((await push(two)).status).toBe(201)

    expect(await site.store.blobs.stat(digestOf(two))).toBeUndefined()
    expect((await heldTag())?.servable).toBe(false)
    expect(await site.freshness.confirmed(NAME, TAG)).toBeUndefined()
  })

  it('under another type than its bytes say is left to the primary', async () => {
    await holdTag(one)

    const answer = await site.api.putManifest(NAME, TAG, two, MEDIA_TYPES.dockerList)

    expect(answer.status).toBe(201)
    expect(await site.store.index.link(NAME, 'manifest', digestOf(two))).toBeUndefined()
    expect((await heldTag())?.servable).toBe(false)
  })

  it('succeeds when this site cannot keep it, and what was held is no longer served', async () => {
    await restart({
      blobs: (real) => ({ ...real, write: () => Promise.reject(new StoreError('full', 'no space left')) }),
    })
    await putManifest(site.store, NAME, one.toString(), TAG)

    expect((await push(two)).status).toBe(201)
    expect((await heldTag())?.servable).toBe(false)
  })

  it('that could not be kept leaves no list of tags that would leave it out', async () => {
    const { holdings } = site.store
    await holdings.markComplete(NAME, site.store.index.mark())
    await push(one)
    const kept = await holdings.completeSince(NAME)
    answerer = (_body, answer) => answer(201, { 'docker-content-digest': digestOf(Buffer.from('other')) })

    await push(two, 'new')

    expect(kept).toBeDefined()
    expect(await holdings.tags(NAME)).toEqual([TAG])
    expect(await holdings.completeSince(NAME)).toBeUndefined()
  })

  it('is neither linked nor tagged here when a delete of its digest overtook it', async () => {
    const gate = Promise.withResolvers<void>()
    answerer = (body, answer) =>
      void gate.promise.then(() => answer(201, { 'docker-content-digest': digestOf(body) }))
    const pushing = push(one)
    await vi.waitFor(() => expect(requests).toHaveLength(1))
    await site.store.index.hideLink(NAME, 'manifest', digestOf(one))
    gate.resolve()

    expect((await pushing).status).toBe(201)
    expect(await site.store.index.link(NAME, 'manifest', digestOf(one))).toBeUndefined()
    expect(await heldTag()).toBeUndefined()
    expect(await site.freshness.confirmed(NAME, TAG)).toBeUndefined()
  })
})

describe('a manifest pushed by digest', () => {
  it('is linked, and its tags are those the primary says it set', async () => {
    const [a, b, c] = [tagOf('a'), tagOf('b'), tagOf('c')]
    answerer = (body, answer) => answer(201, { 'docker-content-digest': digestOf(body), 'oci-tag': 'a, b' })

    const answer = await push(one, `${digestOf(one)}?tag=a&tag=b&tag=c&tag=not%20a%20tag`)

    expect(answer.headers['oci-tag']).toBe('a, b')
    expect(requests[0]?.url).toBe(
      `/v2/${NAME}/manifests/${digestOf(one)}?tag=a&tag=b&tag=c&tag=not%20a%20tag`,
    )
    expect(await heldTag(a)).toEqual({ digest: digestOf(one), servable: true })
    expect(await site.freshness.confirmed(NAME, b)).toBe(digestOf(one))
    expect(await heldTag(c)).toBeUndefined()
  })

  it('is kept under sha512 too', async () => {
    const digest = digestOf(one, 'sha512')
    answerer = (_body, answer) => answer(201, { 'docker-content-digest': digest })

    await push(one, digest)

    expect(await site.store.blobs.read(digest, 10_000)).toEqual(one)
  })

  it('that contradicts its digest is refused before the primary is asked', async () => {
    const answer = await push(one, digestOf(two))

    expect(answer.status).toBe(400)
    expect(answer.body.toString()).toContain('DIGEST_INVALID')
    expect(requests).toEqual([])
  })
})

describe('a manifest that is too large', () => {
  it.each([
    ['says so', (bytes: Buffer) => bytes],
    ['does not say so', (bytes: Buffer) => Readable.from(chunksOf(bytes))],
  ])('gets 413 when it %s, and the primary is not asked', async (_, body) => {
    const answer = await site.api.request('PUT', `/v2/${NAME}/manifests/${TAG}`, {
      headers: { 'content-type': INDEX },
      body: body(Buffer.alloc(4 * 1024 * 1024 + 1, 32)),
    })

    expect(answer.status).toBe(413)
    expect(answer.body.toString()).toContain('MANIFEST_INVALID')
    expect(requests).toEqual([])
  })

  it('is larger than 4 MiB: one of exactly that size is pushed and kept', async () => {
    const bytes = Buffer.concat([one, Buffer.alloc(4 * 1024 * 1024 - one.length, 32)])

    expect((await push(bytes)).status).toBe(201)
    expect(await heldTag()).toEqual({ digest: digestOf(bytes), servable: true })
  })
})

describe('a manifest pushed to a real registry', () => {
  let registry: DockerRegistry
  beforeEach(async () => {
    registry = await startDockerRegistry()
    await site[Symbol.asyncDispose]()
    site = await startWriteSite(registry.url)
  })
  afterEach(() => registry[Symbol.asyncDispose]())

  it('is at both ends, and its Location leads through this site', async () => {
    await using direct = createRegistryApi(registry.url)

    const answer = await push(one)

    expect(answer.status).toBe(201)
    expect(answer.headers['location']).toBe(`/v2/${NAME}/manifests/${digestOf(one)}`)
    expect((await direct.getManifest(NAME, TAG)).body).toEqual(one)
    expect(await heldTag()).toEqual({ digest: digestOf(one), servable: true })
  })

  it('is refused with its words when a layer is missing there', async () => {
    const digest = digestOf(Buffer.from('missing'))
    const descriptor = { mediaType: MEDIA_TYPES.octetStream, digest, size: 7 }
    const manifest = {
      schemaVersion: 2,
      mediaType: MEDIA_TYPES.ociManifest,
      config: descriptor,
      layers: [descriptor],
    }

    const answer = await site.api.putManifest(NAME, TAG, JSON.stringify(manifest), MEDIA_TYPES.ociManifest)

    expect(answer.status).toBe(400)
    expect(answer.body.toString()).toContain('MANIFEST_BLOB_UNKNOWN')
    expect(await heldTag()).toBeUndefined()
  })
})

async function* chunksOf(bytes: Buffer): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += 65_536) yield bytes.subarray(at, at + 65_536)
}
