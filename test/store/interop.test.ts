/** Law 11 against the real thing: Debian's docker-registry on the same folder, before us and after us. */
import { readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { digestOf, parseDigest } from '../../src/oci/digest.ts'
import { linkEntry } from '../../src/store/paths.ts'
import type { Store } from '../../src/store/store.ts'
import { contentBytes } from '../support/content.ts'
import { startDockerRegistry } from '../support/docker-registry.ts'
import { allBlobs, allManifests, buildImage, buildMultiArch, type Image } from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import { createRegistryApi, locationOf } from '../support/registry-api.ts'
import { nameOf, putBlob, storeFixture, tagOf } from './store-fixture.ts'

const name = nameOf('team/app')
const latest = tagOf('latest')

async function storeImage({ blobs, index }: Store, image: Image): Promise<void> {
  for (const blob of allBlobs(image)) {
    await blobs.write(blob.digest, await contentBytes(blob))
    await index.putLink(name, 'layer', blob.digest, index.mark())
  }
  for (const manifest of allManifests(image)) {
    await blobs.write(manifest.digest, manifest.bytes)
    await index.putLink(name, 'manifest', manifest.digest, index.mark())
  }
  await index.putTag(name, latest, image.digest, index.mark())
}

describe('docker-registry on a folder that we filled', () => {
  it('serves every tag, manifest and layer, and lists them', async () => {
    await using fixture = await storeFixture()
    const image = await buildMultiArch()
    await storeImage(fixture.store, image)
    await using registry = await startDockerRegistry({ root: fixture.root })
    await using api = createRegistryApi(registry.url)

    expect(await api.getManifest(name, latest)).toMatchObject({ status: 200, digest: image.digest })
    for (const manifest of allManifests(image)) {
      const answer = await api.getManifest(name, manifest.digest)
      expect(answer).toMatchObject({ status: 200, digest: manifest.digest })
      expect(answer.headers['content-type']).toBe(manifest.mediaType)
    }
    for (const { digest } of allBlobs(image)) {
      expect(await api.getBlob(name, digest)).toMatchObject({ status: 200, digest })
    }
    expect((await api.tags(name)).body.toString()).toBe('{"name":"team/app","tags":["latest"]}\n')
    expect((await api.request('GET', '/v2/_catalog')).body.toString()).toBe('{"repositories":["team/app"]}\n')
  })

  it('serves what we stored by sha512', async () => {
    await using fixture = await storeFixture()
    const { store } = fixture
    const image = await buildImage()
    await storeImage(store, image)
    const bytes = Buffer.from(`${image.bytes.toString()} `)
    const manifest = digestOf(bytes, 'sha512')
    await store.blobs.write(manifest, bytes)
    await store.index.putLink(name, 'manifest', manifest, store.index.mark())
    await store.index.putTag(name, tagOf('wide'), manifest, store.index.mark())
    const layer = await putBlob(store, 'a layer', 'sha512')
    await store.index.putLink(name, 'layer', layer, store.index.mark())
    await using registry = await startDockerRegistry({ root: fixture.root })
    await using api = createRegistryApi(registry.url)

    expect((await api.getManifest(name, manifest)).body).toEqual(bytes)
    expect((await api.getManifest(name, 'wide')).body).toEqual(bytes)
    expect(await api.getBlob(name, layer)).toMatchObject({ status: 200, sizeBytes: 7 })
  })

  it('no longer has what we hid', async () => {
    await using fixture = await storeFixture()
    const { store } = fixture
    const image = await buildImage()
    await storeImage(store, image)
    const [layer] = image.blobs
    await store.index.hideLink(name, 'manifest', image.digest)
    if (layer) await store.index.hideLink(name, 'layer', layer.digest)
    await using registry = await startDockerRegistry({ root: fixture.root })
    await using api = createRegistryApi(registry.url)

    expect((await api.getManifest(name, latest)).status).toBe(404)
    expect((await api.getManifest(name, image.digest)).status).toBe(404)
    expect((await api.getBlob(name, layer?.digest ?? '')).status).toBe(404)
    expect((await api.tags(name)).body.toString()).not.toContain('latest')
  })

  it('takes pushes on top of ours, which we then read', async () => {
    await using fixture = await storeFixture()
    await storeImage(fixture.store, await buildImage())
    const newer = await buildImage({ seed: 'newer' })
    await using registry = await startDockerRegistry({ root: fixture.root })
    await using api = createRegistryApi(registry.url)

    await pushImage(api, name, latest, newer)

    const { index } = await fixture.reopen()
    expect(await index.tag(name, latest)).toEqual({ digest: newer.digest, confirmedAtMs: undefined })
  })
})

describe('a folder that docker-registry filled', () => {
  it('is readable without a change, and nothing in it counts as confirmed', async () => {
    await using fixture = await storeFixture()
    await using registry = await startDockerRegistry({ root: fixture.root })
    await using api = createRegistryApi(registry.url)
    const image = await buildMultiArch()
    await pushImage(api, name, latest, image)
    await registry.stop()
    const { blobs, index } = await fixture.reopen()

    expect(await index.tag(name, latest)).toEqual({ digest: image.digest, confirmedAtMs: undefined })
    for (const { digest, bytes } of allManifests(image)) {
      expect(await index.link(name, 'manifest', digest)).toEqual({ target: digest, confirmedAtMs: undefined })
      expect(await blobs.read(digest, bytes.length)).toEqual(bytes)
    }
    for (const blob of allBlobs(image)) {
      expect(await index.link(name, 'layer', blob.digest)).toEqual({
        target: blob.digest,
        confirmedAtMs: undefined,
      })
      expect(await blobs.read(blob.digest, blob.sizeBytes)).toEqual(await contentBytes(blob))
    }
  })

  it('becomes confirmed link by link, and docker-registry still serves it', async () => {
    await using fixture = await storeFixture()
    await using registry = await startDockerRegistry({ root: fixture.root })
    await using api = createRegistryApi(registry.url)
    const image = await buildImage()
    await pushImage(api, name, latest, image)
    await registry.stop()
    const { index } = await fixture.reopen()

    const mark = index.mark()
    for (const { digest } of image.blobs) expect(await index.putLink(name, 'layer', digest, mark)).toBe(true)
    expect(await index.putLink(name, 'manifest', image.digest, mark)).toBe(true)
    expect(await index.putTag(name, latest, image.digest, mark)).toBe(true)

    expect(await index.tag(name, latest)).toEqual({ digest: image.digest, confirmedAtMs: mark.atMs })
    await registry.start()
    expect(await api.getManifest(name, latest)).toMatchObject({ status: 200, digest: image.digest })
    for (const { digest } of image.blobs) {
      expect(await api.getBlob(name, digest)).toMatchObject({ status: 200, digest })
    }
  })

  it('has sha512 pushes under a link that names the sha256, which is followed', async () => {
    await using fixture = await storeFixture()
    await using registry = await startDockerRegistry({ root: fixture.root })
    await using api = createRegistryApi(registry.url)
    const bytes = Buffer.from('pushed by its sha512')
    const asked = digestOf(bytes, 'sha512')
    const location = locationOf(await api.startUpload(name))
    expect((await api.finishUpload(name, location, asked, bytes)).status).toBe(201)
    await registry.stop()
    const { blobs, index, paths } = await fixture.reopen()

    const link = await index.link(name, 'layer', asked)

    expect(link?.target).toBe(digestOf(bytes))
    expect(parseDigest(await readFile(paths.link(name, linkEntry('layer', asked)), 'utf8'))).toBe(
      link?.target,
    )
    expect(await blobs.read(digestOf(bytes), 1000)).toEqual(bytes)
  })
})
