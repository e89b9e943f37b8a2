import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { digestOf } from '../../src/oci/digest.ts'
import { MEDIA_TYPES } from '../../src/oci/media-types.ts'
import { nameOf, putBlob, putManifest, tagOf } from '../store/store-fixture.ts'
import { randomContent } from '../support/content.ts'
import { startDockerRegistry } from '../support/docker-registry.ts'
import { type HttpListener, listenHttp } from '../support/http-listener.ts'
import { startWriteSite, type WriteSite } from './write-site.ts'

const NAME = nameOf('team/app')
const TAG = tagOf('latest')
const OTHER = tagOf('other')
const MANIFEST = JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests: [] })
const DIGEST = digestOf(Buffer.from(MANIFEST))

let status: number
let gate: Promise<void>
let requests: string[]
let primary: HttpListener
let contentType: string
let apiVersion: Record<string, string>
let site: WriteSite
beforeEach(async () => {
  status = 202
  contentType = 'application/json; charset=utf-8'
  apiVersion = {}
  gate = Promise.resolve()
  requests = []
  primary = await listenHttp((request, response) => {
    requests.push(`${request.method} ${request.url}`)
    void gate.then(() => {
      if (status === 0) response.destroy()
      else
        response.writeHead(status, { 'content-length': 0, 'content-type': contentType, ...apiVersion }).end()
    })
  })
  site = await startWriteSite(primary.url)
  const { index } = site.store
  await putManifest(site.store, NAME, MANIFEST, TAG)
  await index.putTag(NAME, OTHER, DIGEST, index.mark())
  for (const tag of [TAG, OTHER])
    await site.freshness.confirm(await site.freshness.observe(NAME, tag), DIGEST)
})
afterEach(async () => {
  await site[Symbol.asyncDispose]()
  await primary[Symbol.asyncDispose]()
})

const confirmed = () =>
  Promise.all([TAG, OTHER].map(async (tag) => (await site.freshness.confirmed(NAME, tag)) === DIGEST))
const held = () =>
  Promise.all([TAG, OTHER].map(async (tag) => (await site.store.index.tag(NAME, tag))?.digest))

describe('a delete through the site', () => {
  it('of a tag hides that tag alone before the client hears of it', async () => {
    expect((await site.api.deleteManifest(NAME, TAG)).status).toBe(202)

    expect(await held()).toEqual([undefined, DIGEST])
    expect(await confirmed()).toEqual([false, true])
    expect(await site.store.index.link(NAME, 'manifest', DIGEST)).toBeDefined()
  })

  it('of a digest hides the manifest and every tag of it', async () => {
    expect((await site.api.deleteManifest(NAME, DIGEST)).status).toBe(202)

    expect(await held()).toEqual([undefined, undefined])
    expect(await confirmed()).toEqual([false, false])
    expect(await site.store.index.link(NAME, 'manifest', DIGEST)).toBeUndefined()
  })

  it('of a blob hides it in its repository and in no other', async () => {
    const other = nameOf('team/other')
    const blob = await putBlob(site.store, 'a layer')
    for (const name of [NAME, other])
      await site.store.index.putLink(name, 'layer', blob, site.store.index.mark())

    expect((await site.api.deleteBlob(NAME, blob)).status).toBe(202)

    expect(await site.store.index.link(NAME, 'layer', blob)).toBeUndefined()
    expect(await site.store.index.link(other, 'layer', blob)).toBeDefined()
  })

  it('unconfirms what it names while it is under way', async () => {
    const { promise, resolve } = Promise.withResolvers<void>()
    gate = promise
    const deleting = site.api.deleteManifest(NAME, DIGEST)
    await vi.waitFor(() => expect(requests).toHaveLength(1))

    expect(await confirmed()).toEqual([false, false])
    const asked = await site.freshness.observe(NAME, TAG)
    resolve()
    await deleting

    expect(await site.freshness.confirm(asked, DIGEST)).toBe(false)
  })

  it.each([404, 403, 405, 409])(
    'that the primary answers %i hides nothing, and that is what the client gets',
    async (code) => {
      status = code

      expect((await site.api.deleteManifest(NAME, TAG)).status).toBe(code)
      expect((await site.api.deleteManifest(NAME, DIGEST)).status).toBe(code)

      expect(await held()).toEqual([DIGEST, DIGEST])
    },
  )

  it('of a digest that the primary does not know has its next reader ask the primary', async () => {
    const { index } = site.store
    const blob = await putBlob(site.store, 'a layer')
    await index.putLink(NAME, 'layer', blob, index.mark())
    expect((await index.link(NAME, 'manifest', DIGEST))?.confirmedAtMs).toBeGreaterThan(0)
    expect((await index.link(NAME, 'layer', blob))?.confirmedAtMs).toBeGreaterThan(0)
    status = 404

    await site.api.deleteManifest(NAME, DIGEST)
    await site.api.deleteBlob(NAME, blob)

    expect((await index.link(NAME, 'manifest', DIGEST))?.confirmedAtMs).toBe(1) // Past any recheck, still served in an outage.
    expect((await index.link(NAME, 'layer', blob))?.confirmedAtMs).toBe(1)
  })

  it('that a registry answers in text, with its API version, has the next reader ask too', async () => {
    status = 404
    contentType = 'text/plain; charset=utf-8' // As olareg answers for the parts of an index that it deleted.
    apiVersion = { 'docker-distribution-api-version': 'registry/2.0' }

    await site.api.deleteManifest(NAME, DIGEST)

    expect((await site.store.index.link(NAME, 'manifest', DIGEST))?.confirmedAtMs).toBe(1)
  })

  it.each([
    ['', {}],
    // The NGINX recipe of Docker's documentation adds it to pages of its own.
    [' under the registry’s API version', { 'docker-distribution-api-version': 'registry/2.0' }],
  ])('that an ingress answers with its own page%s leaves what is held as it was', async (_how, headers) => {
    const { index } = site.store
    const before = await index.link(NAME, 'manifest', DIGEST)
    status = 404
    contentType = 'text/html'
    apiVersion = headers

    expect((await site.api.deleteManifest(NAME, DIGEST)).status).toBe(404)

    expect(before?.confirmedAtMs).toBeGreaterThan(1)
    expect(await index.link(NAME, 'manifest', DIGEST)).toEqual(before)
  })

  it('whose answer is lost hides nothing, and every tag it could concern is asked about again', async () => {
    status = 0

    expect((await site.api.deleteManifest(NAME, DIGEST)).status).toBe(503)

    expect(await confirmed()).toEqual([false, false])
    expect(await held()).toEqual([DIGEST, DIGEST])
    expect(requests).toEqual([`DELETE /v2/${NAME}/manifests/${DIGEST}`])
  })

  it('of a blob in a real registry is gone at both ends', async () => {
    await using registry = await startDockerRegistry()
    await using real = await startWriteSite(registry.url)
    const content = await randomContent(1000)
    await real.api.pushBlob(NAME, content)
    expect(await real.store.index.link(NAME, 'layer', content.digest)).toBeDefined()

    const answer = await real.api.deleteBlob(NAME, content.digest)

    expect(answer.status).toBe(202)
    expect(await real.store.index.link(NAME, 'layer', content.digest)).toBeUndefined()
  })
})
