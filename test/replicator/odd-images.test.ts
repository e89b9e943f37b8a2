/** Manifests that no docker-registry would take, or that mean harm: what is left out, and what is refused. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { CopyError } from '../../replicator/copying.ts'
import { ManifestError } from '../../replicator/manifest-children.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { MEDIA_TYPES } from '../../src/oci/media-types.ts'
import { bytesContent, type Content } from '../support/content.ts'
import { buildArtifact, buildIndex, descriptorOf, type Image } from '../support/images.ts'
import { type LyingPrimary, startLyingPrimary } from '../support/lying-primary.ts'
import { APP, type CopyScene, copyScene, oddManifest } from './copy-scene.ts'

const NOTHING = { blobs: 0, bytes: 0 }
let primary: LyingPrimary
let site: CopyScene

beforeEach(async () => {
  primary = await startLyingPrimary()
  site = await copyScene(primary.url)
})
afterEach(async () => {
  await site[Symbol.asyncDispose]()
  await primary[Symbol.asyncDispose]()
})

const LAYER = 'application/vnd.oci.image.layer.v1.tar+gzip'
const CONFIG = bytesContent(Buffer.from('{}'), 'application/vnd.oci.empty.v1+json')

function content(text: string, mediaType = LAYER): Content {
  return bytesContent(Buffer.from(text), mediaType)
}

/** An image of which the primary holds the config and these layers, and lists descriptors besides. */
function imageListing(listed: readonly object[], held: readonly Content[] = []): Image {
  const layers = [...held.map(descriptorOf), ...listed]
  return oddManifest(
    MEDIA_TYPES.ociManifest,
    { config: descriptorOf(CONFIG), layers },
    { blobs: [CONFIG, ...held] },
  )
}

async function copy(image: Image) {
  await primary.hold(APP, image, 'latest')
  return site.copyTag(APP)
}

/** What a copy that must fail says is wrong with the manifest. */
async function refusal(image: Image): Promise<string> {
  const error = await copy(image).catch((thrown: unknown) => thrown)
  if (!(error instanceof CopyError) || !(error.cause instanceof ManifestError)) {
    throw new Error('not refused', { cause: error })
  }
  return error.cause.message
}

describe('layers that registries do not hold', () => {
  it.each([
    'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
    'application/vnd.docker.image.rootfs.foreign.diff.tar',
    'application/vnd.oci.image.layer.nondistributable.v1.tar',
    'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
    'application/vnd.oci.image.layer.nondistributable.v1.tar+zstd',
  ])('are left out by their type: %s', async (mediaType) => {
    const foreign = content('somewhere else', mediaType)
    const image = imageListing([
      descriptorOf(foreign),
      { ...descriptorOf(foreign), urls: ['https://example.com/'] },
    ])

    expect(await copy(image)).toMatchObject({ manifests: 1, blobs: 1 })

    expect(await site.copying.missing(APP, image.digest)).toEqual(NOTHING)
    expect(primary.asked('*', new RegExp(foreign.digest))).toEqual([])
  })

  it.each([
    ['elsewhere too', { urls: ['https://example.com/layer'] }],
    ['in the manifest itself', { data: Buffer.from('here').toString('base64') }],
  ])('may be missing when their content is %s', async (_title, fields) => {
    const image = imageListing([{ ...descriptorOf(content('here')), ...fields }])

    expect(await copy(image)).toMatchObject({ manifests: 1, blobs: 1 })

    expect(await site.copying.missing(APP, image.digest)).toEqual(NOTHING)
  })

  it('are copied when the primary holds them all the same', async () => {
    const layer = content('both here and there')
    const listed = { ...descriptorOf(layer), urls: ['https://example.com/layer'] }
    const image = { ...imageListing([listed]), blobs: [CONFIG, layer] }

    expect(await copy(image)).toMatchObject({ blobs: 2 })

    expect(await site.store.index.link(APP, 'layer', layer.digest)).toMatchObject({ target: layer.digest })
  })

  it('are no excuse for the same digest where it is listed without one', async () => {
    const layer = descriptorOf(content('only claimed to be elsewhere'))
    const image = imageListing([{ ...layer, urls: ['https://example.com/layer'] }, layer])

    await expect(copy(image)).rejects.toMatchObject({ name: 'CopyError', digest: layer.digest })
    expect(await site.copying.missing(APP, image.digest)).toMatchObject({ bytes: layer.size })
  })
})

describe('manifests of unusual shape', () => {
  it('are copied: an OCI artifact manifest, which lists blobs', async () => {
    const blobs = [content('one'), content('two')]
    const artifact = oddManifest(MEDIA_TYPES.ociArtifact, { blobs: blobs.map(descriptorOf) }, { blobs })

    expect(await copy(artifact)).toMatchObject({ manifests: 1, blobs: 2 })
  })

  it.each([
    ['null lists', { config: descriptorOf(CONFIG), layers: null, subject: null }],
    ['no config', { layers: [] }],
    ['a subject that is no descriptor', { config: null, layers: [], subject: 'sha256:17' }],
  ])('are copied: %s', async (_title, fields) => {
    const image = oddManifest(MEDIA_TYPES.ociManifest, fields, { blobs: [CONFIG] })

    expect(await copy(image)).toMatchObject({ manifests: 1 })
  })

  it('are copied: an index whose entries have no media type', async () => {
    const child = buildArtifact()
    const { digest, size } = descriptorOf(child.manifest)
    const index = oddManifest(MEDIA_TYPES.ociIndex, { manifests: [{ digest, size }] }, { children: [child] })

    expect(await copy(index)).toMatchObject({ manifests: 2, blobs: 2 })
  })

  it.each([
    ['an algorithm nobody here can check', { digest: `sha384:${'0'.repeat(96)}`, size: 1 }],
    ['a digest that is a path', { digest: 'sha256:../../../../etc/passwd', size: 1 }],
    ['no digest', { size: 1 }],
    ['something else', 'sha256:'],
  ])('are refused whole: a layer of %s', async (_title, layer) => {
    const held = content('a good layer')
    const image = imageListing([layer as object], [held])

    expect(await refusal(image)).toMatch(/lists/)
    expect(await site.store.index.link(APP, 'manifest', image.digest)).toBeUndefined()
  })

  it('are counted by what they are, whatever size they claim', async () => {
    const layer = content('twelve bytes')
    for (const size of [-1, Number.NaN, '12', 1e300]) {
      const fields = { config: descriptorOf(CONFIG), layers: [{ ...descriptorOf(layer), size }] }
      const image = oddManifest(MEDIA_TYPES.ociManifest, fields, { blobs: [CONFIG, layer] })
      expect(await copy(image)).toMatchObject({ blobs: 2 })
    }
  })
})

describe('limits', () => {
  it('let indexes be nested eight deep, and no deeper', async () => {
    const nested = Array.from({ length: 7 }).reduce<Image>((image) => buildIndex([image]), buildArtifact())

    expect(await copy(nested)).toMatchObject({ manifests: 8, blobs: 2 })
    expect(await refusal(buildIndex([nested]))).toMatch(/deep/)
  })

  it('refuse more than 10 000 descriptors before a single blob is asked for', async () => {
    const digests = Array.from({ length: 10_001 }, (_, index) => digestOf(Buffer.from(String(index))))
    const image = imageListing(digests.map((digest) => ({ mediaType: LAYER, digest, size: 1 })))

    expect(await refusal(image)).toMatch(/10000/)
    expect(primary.asked('*', /\/blobs\//)).toEqual([])
  })

  it('read a manifest once however many paths lead to it', async () => {
    let image: Image = buildArtifact()
    for (let depth = 1; depth < 8; depth++) {
      image = buildIndex([image, image, buildIndex([image], { annotations: { depth: String(depth) } })])
    }
    await primary.hold(APP, image, 'latest')

    await site.copyTag(APP)

    const asked = primary.asked('GET', /\/manifests\/sha256/).map(({ url }) => url)
    expect(new Set(asked).size).toBe(asked.length)
    expect(await site.copying.missing(APP, image.digest)).toEqual(NOTHING)
  })
})
