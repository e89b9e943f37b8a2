/** Law 4 through two proxies: what was written through one of them is what the other shows, at once. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { contentBytes } from '../support/content.ts'
import { buildImage, buildMultiArch, type Image } from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import type { RegistryApi } from '../support/registry-api.ts'
import { until } from '../support/wait.ts'
import { sourceOf } from './one-site.ts'
import { type ScaledOutSite, startScaledOutSite } from './scaled-out-site.ts'
import { expectSoundStore } from './store-files.ts'

const NAME = 'team/app'

// A long trust makes every confirmation that should have been withdrawn show.
describe.each([{ trust: '0s' }, { trust: '60s' }])('two proxies that trust a tag for $trust', ({ trust }) => {
  let site: ScaledOutSite
  let a: RegistryApi
  let b: RegistryApi
  let images: Image[]

  beforeAll(async () => {
    site = await startScaledOutSite({ repositories: [NAME, 'team/index'], config: { tags: { trust } } })
    a = site.a
    b = site.b
    images = await Promise.all(
      ['first', 'second', 'third'].map((seed) => buildImage({ seed, layers: [2000, 30_000] })),
    )
  })
  afterAll(() => site[Symbol.asyncDispose]())

  const image = (index: number): Image => images[index] ?? expect.unreachable('there are three')

  it('both show a push at once: tag, manifest and blobs', async () => {
    await pushImage(a, NAME, 'pushed', image(0))

    const byTag = await b.getManifest(NAME, 'pushed')
    const byDigest = await b.getManifest(NAME, image(0).digest)
    expect([byTag.status, byTag.digest, byDigest.digest]).toEqual([200, image(0).digest, image(0).digest])
    expect(sourceOf(byDigest)).toBe('local')
    for (const { digest } of image(0).blobs) {
      const blob = await b.getBlob(NAME, digest)
      // Captured as it passed the one, it is read from the store by the other.
      expect([blob.status, blob.digest, sourceOf(blob)]).toEqual([200, digest, 'local'])
    }
    expect(JSON.parse((await b.tags(NAME)).body.toString()).tags).toContain('pushed')
  })

  it('both show an index with its children, pushed through one of them', async () => {
    const index = await buildMultiArch({ seed: trust, layers: [3000] })
    await pushImage(b, 'team/index', 'v1', index)

    for (const { digest } of [index, ...index.children]) {
      expect((await a.getManifest('team/index', digest)).digest).toBe(digest)
    }
    expect((await a.getManifest('team/index', 'v1')).digest).toBe(index.digest)
  })

  it('show a tag as it was overwritten last, through whichever of them', async () => {
    for (const [writer, reader, pushed] of [
      [a, b, image(0)],
      [b, a, image(1)],
      [a, b, image(2)],
      [a, b, image(0)],
      [b, a, image(2)],
      [b, a, image(1)],
    ] as const) {
      await pushImage(writer, NAME, 'moving', pushed)
      for (const api of [reader, writer, reader]) {
        expect((await api.getManifest(NAME, 'moving')).digest).toBe(pushed.digest)
      }
    }
  })

  it('show no tag that was deleted through the other by its digest', async () => {
    const doomed = await buildImage({ seed: `doomed ${trust}`, layers: [1000] })
    await pushImage(a, NAME, 'doomed', doomed)
    await pushImage(b, NAME, 'doomed-too', doomed)
    for (const api of [a, b]) {
      for (const reference of ['doomed', 'doomed-too', doomed.digest]) {
        expect((await api.getManifest(NAME, reference)).status).toBe(200)
      }
    }

    expect((await a.deleteManifest(NAME, doomed.digest)).status).toBe(202)

    for (const api of [b, a]) {
      for (const reference of [doomed.digest, 'doomed', 'doomed-too']) {
        const answer = await api.getManifest(NAME, reference)
        expect([reference, answer.status]).toEqual([reference, 404])
        expect(answer.body.toString()).toContain('MANIFEST_UNKNOWN')
      }
    }
    await pushImage(b, NAME, 'doomed', doomed)
    expect((await a.getManifest(NAME, 'doomed')).digest).toBe(doomed.digest)
    expect((await a.getManifest(NAME, doomed.digest)).status).toBe(200)
  })

  it('show no blob that was deleted through the other', async () => {
    const [config] = image(1).blobs
    if (!config) return expect.unreachable('an image has a config')
    await pushImage(b, NAME, 'blobs', image(1))
    for (const api of [a, b]) expect((await api.getBlob(NAME, config.digest)).status).toBe(200)

    expect((await b.deleteBlob(NAME, config.digest)).status).toBe(202)

    for (const api of [a, b]) expect((await api.getBlob(NAME, config.digest)).status).toBe(404)
    expect((await a.pushBlob(NAME, config)).status).toBe(201)
    for (const api of [b, a]) expect((await api.getBlob(NAME, config.digest)).status).toBe(200)
  })

  it('go on with an upload that was begun through the other', async () => {
    const [, layer] = (await buildImage({ seed: `moved ${trust}`, layers: [200_000] })).blobs
    if (!layer) return expect.unreachable('an image has a layer')
    const started = await a.startUpload(NAME)
    const location = started.headers['location'] ?? ''
    const bytes = await contentBytes(layer)
    const first = await a.patchUpload(NAME, location, bytes.subarray(0, 50_000), { start: 0, end: 49_999 })
    expect(first.status).toBe(202)
    const next = new URL(first.headers['location'] ?? '', b.url)
    const moved = await b.patchUpload(NAME, next.pathname + next.search, bytes.subarray(50_000), {
      start: 50_000,
      end: bytes.length - 1,
    })
    const last = new URL(moved.headers['location'] ?? '', a.url)
    const finished = await a.finishUpload(NAME, last.pathname + last.search, layer.digest)

    expect([moved.status, finished.status]).toEqual([202, 201])
    for (const api of [a, b]) expect((await api.getBlob(NAME, layer.digest)).digest).toBe(layer.digest)
  })

  it('both show what was pushed at the primary, once its event has come', async () => {
    await pushImage(a, NAME, 'elsewhere', image(0))
    for (const api of [a, b]) expect((await api.getManifest(NAME, 'elsewhere')).digest).toBe(image(0).digest)

    await pushImage(site.there, NAME, 'elsewhere', image(1))

    // Within 60 s of trust nothing but the event can be the reason.
    for (const api of [a, b]) {
      await until(async () => (await api.getManifest(NAME, 'elsewhere')).digest === image(1).digest, {
        what: `${api.url} to show it`,
      })
    }
  })

  it('keep the copy in step by the replicator, which hears of every push', async () => {
    await site.inStep()

    expect(await site.status()).toMatchObject({ healthy: true, container_repositories_count: 2 })
    expect(await expectSoundStore(site.root)).toBeGreaterThan(10)
  })
})
