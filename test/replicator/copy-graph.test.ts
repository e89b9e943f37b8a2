/** Every kind of image a registry holds, from a real docker-registry into the store, which a real one then serves. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { MEDIA_TYPES } from '../../src/oci/media-types.ts'
import { bytesContent } from '../support/content.ts'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import {
  allBlobs,
  allManifests,
  buildArtifact,
  buildImage,
  buildIndex,
  buildMultiArch,
  descriptorOf,
  type Image,
} from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import { createRegistryApi, type RegistryApi } from '../support/registry-api.ts'
import { APP, buildkitCache, type CopyScene, copyScene, OTHER, oddManifest } from './copy-scene.ts'

const MiB = 1024 * 1024
let primary: DockerRegistry
let api: RegistryApi
let site: CopyScene

beforeAll(async () => {
  primary = await startDockerRegistry()
  api = createRegistryApi(primary.url)
})
afterAll(async () => {
  await api[Symbol.asyncDispose]()
  await primary[Symbol.asyncDispose]()
})
beforeEach(async () => {
  site = await copyScene(primary.url)
})
afterEach(() => site[Symbol.asyncDispose]())

/** Reads everything of the image from a docker-registry on the folder of the site. */
async function servedByRegistry(image: Image): Promise<void> {
  await using registry = await startDockerRegistry({ root: site.root, readonly: true })
  await using reader = createRegistryApi(registry.url)
  for (const { digest } of allManifests(image)) {
    const answer = await reader.getManifest(APP, digest)
    expect([answer.status, answer.digest]).toEqual([200, digest])
  }
  for (const { digest } of allBlobs(image)) {
    const answer = await reader.getBlob(APP, digest)
    expect([answer.status, answer.digest]).toEqual([200, digest])
  }
}

const docker = { format: 'docker' } as const
const bare = { declareMediaType: false } as const

const KINDS: Record<string, () => Promise<Image>> = {
  'an OCI image': () => buildImage({ seed: 'a' }),
  'a Docker image': () => buildImage({ seed: 'b', ...docker }),
  'an image without mediaType': () => buildImage({ seed: 'c', ...bare }),
  'an image of the same layer twice': () => buildImage({ seed: 'd', layers: [2000, 2000] }),
  'a config without layers': () => buildImage({ seed: 'e', layers: [] }),
  'an OCI index': () => buildMultiArch({ seed: 'f' }),
  'a manifest list': () => buildMultiArch({ seed: 'g', ...docker }),
  'an index without mediaType, of images without': async () =>
    buildIndex([await buildImage({ seed: 'h', ...bare })], bare),
  'an index of an index': async () =>
    buildIndex([await buildMultiArch({ seed: 'i' }), await buildImage({ seed: 'j' })]),
  'an index of the same image twice': async () => {
    const image = await buildImage({ seed: 'k' })
    return buildIndex([image, image])
  },
  'an empty index': async () => buildIndex([], { annotations: { kind: 'empty' } }),
  'an artifact': async () => buildArtifact({ payload: 'an SBOM' }),
  'an artifact of an empty blob': async () => {
    const config = bytesContent(Buffer.from('{}'), 'application/vnd.oci.empty.v1+json')
    const layer = bytesContent(Buffer.alloc(0), 'application/octet-stream')
    const fields = { config: descriptorOf(config), layers: [descriptorOf(layer)] }
    return oddManifest(MEDIA_TYPES.ociManifest, fields, { blobs: [config, layer] })
  },
  'a cache of buildkit, in OCI’s words': async () => buildkitCache(MEDIA_TYPES.ociIndex),
  'a cache of buildkit, in Docker’s words': async () => buildkitCache(MEDIA_TYPES.dockerList),
}

describe('a copy', () => {
  it.each(Object.entries(KINDS))('of %s is whole, and a docker-registry serves it', async (_kind, build) => {
    const image = await build()
    await pushImage(api, APP, 'latest', image)
    const blobBytes = allBlobs(image).reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)
    const told: number[] = []

    const report = await site.copyTag(APP, 'latest', { onBytes: (bytes) => void told.push(bytes) })

    const manifests = new Map(allManifests(image).map((one) => [one.digest, one]))
    const childBytes = [...manifests.values()].reduce(
      (sum, one) => sum + one.bytes.length,
      -image.bytes.length,
    )
    expect(report).toEqual({
      manifests: manifests.size,
      blobs: allBlobs(image).length,
      bytes: blobBytes + childBytes,
      bytesHere: 0,
    })
    expect(told.reduce((sum, bytes) => sum + bytes, 0)).toBe(report.bytes)
    expect(await site.copying.missing(APP, image.digest)).toEqual({ blobs: 0, bytes: 0 })
    await servedByRegistry(image)
  })

  it('asks the primary nothing but the tag when all of it is here', async () => {
    const image = await buildMultiArch({ seed: 'again' })
    await pushImage(api, APP, 'again', image)
    await site.copyTag(APP, 'again')
    const before = await site.asked()

    const report = await site.copyTag(APP, 'again')

    expect(await site.asked()).toEqual({ ...before, manifest: before.manifest + 1 })
    expect(report).toMatchObject({ manifests: 3, blobs: 6, bytes: 0 })
  })

  it('of what another repository brought crosses no blob byte, and is linked by the primary’s word', async () => {
    const image = await buildMultiArch({ seed: 'shared' })
    await pushImage(api, APP, 'shared', image)
    await pushImage(api, OTHER, 'shared', image)
    await site.copyTag(APP, 'shared')
    const before = await site.asked()
    const { down } = site.link.counts()

    const report = await site.copyTag(OTHER, 'shared')

    const after = await site.asked()
    expect(report).toMatchObject({ manifests: 3, blobs: 6, bytes: 0 })
    expect(report.bytesHere).toBeGreaterThan(100_000)
    expect(after.blob).toBe(before.blob)
    // Six blobs and two manifests were asked about; the tag brought its own manifest.
    expect(after.confirm).toBe(before.confirm + 8)
    expect(site.link.counts().down - down).toBeLessThan(10_000)
    expect(await site.copying.missing(OTHER, image.digest)).toEqual({ blobs: 0, bytes: 0 })
  })

  it('of a referrer brings its subject first', async () => {
    const subject = await buildImage({ seed: 'subject' })
    const signature = buildArtifact({ subject, payload: 'signed' })
    await pushImage(api, APP, undefined, subject)
    await pushImage(api, APP, 'signature', signature)

    const report = await site.copyTag(APP, 'signature')

    expect(report).toMatchObject({ manifests: 2, blobs: 5 })
    expect(await site.copying.missing(APP, subject.digest)).toEqual({ blobs: 0, bytes: 0 })
  })

  it('of a referrer does without a subject that the primary does not have', async () => {
    const signature = buildArtifact({ subject: await buildImage({ seed: 'nowhere' }) })
    await pushImage(api, APP, 'orphan', signature)

    const report = await site.copyTag(APP, 'orphan')

    expect(report).toMatchObject({ manifests: 1, blobs: 2 })
    expect(await site.copying.missing(APP, signature.digest)).toEqual({ blobs: 0, bytes: 0 })
  })

  it('by digest takes the manifest from the primary once, and from the store from then on', async () => {
    const image = await buildImage({ seed: 'by digest' })
    await pushImage(api, APP, 'by-digest', image)
    const { signal } = new AbortController()

    const first = await site.copying.copyByDigest(APP, image.digest, { signal })
    const before = await site.asked()
    const second = await site.copying.copyByDigest(APP, image.digest, { signal })

    expect([first.bytes, first.bytesHere]).toEqual([second.bytesHere, second.bytes])
    expect(await site.asked()).toEqual(before)
  })

  it.each([
    [1, 'no more than three connections: its own, the next part’s, and another blob’s', 0, 3],
    [4, 'at least four, each no faster than the line allows one', 4, 8],
  ])('of a large blob over %i at a time uses %s', async (connections, _title, atLeast, atMost) => {
    const options = { pieceBytes: 4 * MiB, parallelAboveBytes: MiB, connections }
    await using parallel = await copyScene(primary.url, options)
    const image = await buildImage({ seed: `over ${connections}`, layers: [12 * MiB], gzip: false })
    await pushImage(api, APP, 'large', image)
    parallel.link.shape({ connectionBytesPerSecond: 8 * MiB })
    let most = 0
    const onBytes = () => {
      most = Math.max(most, parallel.link.counts().open)
    }

    await parallel.copyTag(APP, 'large', { onBytes })

    expect(most).toBeGreaterThanOrEqual(atLeast)
    expect(most).toBeLessThanOrEqual(atMost)
    expect(await parallel.copying.missing(APP, image.digest)).toEqual({ blobs: 0, bytes: 0 })
  })
})
