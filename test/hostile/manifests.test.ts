/** Manifests of every shape: through their readers, the walk over what they name, a push, and a replicator's copy. */
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { fromTheLeaves, readGraph } from '../../replicator/image-graph.ts'
import { type Descriptor, ManifestError, manifestChildren } from '../../replicator/manifest-children.ts'
import { type Digest, digestOf, parseDigest } from '../../src/oci/digest.ts'
import { errorCodesOf } from '../../src/oci/errors.ts'
import { type Manifest, manifestMediaType, manifestSubject } from '../../src/oci/manifest.ts'
import { FULL_ACCEPT, isManifestMediaType, MEDIA_TYPES } from '../../src/oci/media-types.ts'
import { expectSoundStore } from '../e2e/store-files.ts'
import { type CopyScene, copyScene } from '../replicator/copy-scene.ts'
import { nameOf } from '../store/store-fixture.ts'
import { bytesContent } from '../support/content.ts'
import { type GeoRegistry, startGeoRegistry } from '../support/geo-registry.ts'
import { buildImage, type Image } from '../support/images.ts'
import { type LyingPrimary, startLyingPrimary } from '../support/lying-primary.ts'
import { deeplyNested, HOSTILE_TIMEOUT_MS, holds, jsonWith, mutated, SEEDED } from './hostile.ts'
import { exchangeRaw, type RawAnswer, requestBytes } from './raw-exchange.ts'

const NAME = nameOf('team/app')
const LAYER = digestOf(Buffer.from('layer'))
const TYPES = [
  MEDIA_TYPES.ociManifest,
  MEDIA_TYPES.ociIndex,
  MEDIA_TYPES.dockerManifest,
  MEDIA_TYPES.dockerList,
  MEDIA_TYPES.ociArtifact,
]

const KEYS = [
  ...['schemaVersion', 'mediaType', 'config', 'layers', 'manifests', 'blobs', 'subject', 'annotations'],
  ...['digest', 'size', 'urls', 'data', 'platform', 'artifactType', 'history', 'fsLayers', 'signatures'],
]
const VALUES = [
  ...[
    2,
    1,
    '2',
    ...TYPES,
    MEDIA_TYPES.dockerSchema1,
    MEDIA_TYPES.octetStream,
    'text/html',
    LAYER,
    'sha256:beef',
  ],
  ...[
    '../../etc',
    `sha512:${'a'.repeat(128)}`,
    2 ** 53 - 1,
    2 ** 63,
    1e308,
    -1,
    0.5,
    '10',
    ['file:///etc/passwd'],
  ],
]
const sizes = fc.constantFrom<unknown>(5, 0, -1, 0.5, 2 ** 53 - 1, 2 ** 60, 1e308, '5', null, undefined)
const descriptor = (digests: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> =>
  fc.record(
    {
      mediaType: fc.constantFrom<unknown>(...TYPES, MEDIA_TYPES.octetStream, 7, undefined),
      digest: digests,
      size: sizes,
      urls: fc.constantFrom<unknown>(undefined, ['http://127.0.0.1:1/'], 'x', [7]),
      data: fc.constantFrom<unknown>(undefined, 'bGF5ZXI=', 7),
    },
    { requiredKeys: ['digest'] },
  )
const anyDigest = fc.oneof(
  fc.constantFrom<unknown>(LAYER, 'sha256:beef', '', 7, null, LAYER.toUpperCase()),
  fc.jsonValue({ maxDepth: 1 }),
)
const listed = fc.oneof(fc.array(descriptor(anyDigest), { maxLength: 4 }), jsonWith(KEYS, VALUES))
const shaped = fc.record(
  {
    schemaVersion: fc.constantFrom<unknown>(2, 2, 2, 1, '2', null),
    mediaType: fc.constantFrom<unknown>(...TYPES, 'text/html', 7, null),
    config: fc.oneof(descriptor(anyDigest), listed),
    layers: listed,
    manifests: listed,
    blobs: listed,
    subject: fc.oneof(descriptor(anyDigest), listed),
  },
  { requiredKeys: [] },
)
const text = fc.oneof(
  fc.oneof(shaped, shaped, jsonWith(KEYS, VALUES)).map((value) => JSON.stringify(value)),
  mutated(
    shaped.map((value) => JSON.stringify(value)),
    ['{', '}', '[', ']', '"', ',', '\\ud800', '\0', '\ufeff', '1e999', '{"__proto__":'],
  ),
)

describe(`the readers of a manifest (${SEEDED})`, { timeout: HOSTILE_TIMEOUT_MS }, () => {
  it('find what it names by digests that can be verified, or refuse it', async () => {
    const property = fc.property(text, fc.constantFrom('utf8', 'latin1'), (written, encoding) => {
      const bytes = Buffer.from(written, encoding)
      const mediaType = manifestMediaType(bytes)
      if (mediaType !== undefined) expect(isManifestMediaType(mediaType)).toBe(true)
      const subject = manifestSubject(bytes)
      if (subject !== undefined) expect(parseDigest(subject)).toBe(subject)
      for (const type of TYPES) expectChildren({ bytes, digest: digestOf(bytes), mediaType: type })
    })

    await holds(property, { runs: 800 })
  })

  it('are not worn out by what is huge or nested beyond any stack', () => {
    const nested = deeplyNested(100_000)
    const many = `{"schemaVersion":2,"layers":[${`{"digest":"${LAYER}","size":1},`.repeat(40_000)}{"digest":"${LAYER}"}]}`
    for (const written of [nested, `{"schemaVersion":2,"layers":${nested}}`, `{"subject":${nested}}`, many]) {
      const bytes = Buffer.from(written)
      manifestMediaType(bytes)
      manifestSubject(bytes)
      for (const type of TYPES) expectChildren({ bytes, digest: LAYER, mediaType: type })
    }
  })
})

function expectChildren(manifest: Manifest): void {
  try {
    const { manifests, blobs, subject } = manifestChildren(manifest)
    const isSound = ({ digest, sizeBytes }: Descriptor) =>
      parseDigest(digest) === digest && Number.isSafeInteger(sizeBytes) && sizeBytes >= 0
    expect([...manifests, ...blobs].filter((one) => !isSound(one))).toEqual([])
    if (subject !== undefined) expect(parseDigest(subject)).toBe(subject)
  } catch (error) {
    expect(error).toBeInstanceOf(ManifestError)
  }
}

describe(`the walk over a graph of manifests (${SEEDED})`, { timeout: HOSTILE_TIMEOUT_MS }, () => {
  const digests = Array.from({ length: 14 }, (_, index) => digestOf(Buffer.from(`node ${index}`)))
  const edges = fc.array(fc.array(fc.nat(13), { maxLength: 4 }), { minLength: 14, maxLength: 14 })

  /** As if digests could be made to order: a node of a graph with whatever cycles. */
  function nodeOf(index: number, all: readonly (readonly number[])[]): Manifest {
    const [first, ...children] = (all[index] ?? []).map((child) => ({
      mediaType: MEDIA_TYPES.ociIndex,
      digest: digests[child],
      size: 2 ** 53,
    }))
    const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: children, subject: first }))
    return { bytes, digest: digests[index] ?? LAYER, mediaType: MEDIA_TYPES.ociIndex }
  }

  it('ends, reads each once, and puts children before parents or says that it cannot', async () => {
    const property = fc.asyncProperty(edges, async (all) => {
      const loads: Digest[] = []
      const graph = await readGraph(digests[0] ?? LAYER, {
        load: async ({ digest }) => {
          loads.push(digest)
          return nodeOf(digests.indexOf(digest), all)
        },
        isFatal: (error) => !(error instanceof ManifestError),
        atOnce: 3,
      })
      expect(new Set(loads).size).toBe(loads.length)
      let levels: Digest[][]
      try {
        levels = fromTheLeaves(graph)
      } catch (error) {
        expect(error).toBeInstanceOf(ManifestError)
        return
      }
      const order = levels.flat()
      expect(order.length).toBe(graph.manifests.size)
      for (const [digest, { manifests }] of graph.manifests) {
        for (const child of manifests) {
          if (!graph.manifests.has(child.digest)) continue
          expect(order.indexOf(child.digest)).toBeLessThan(order.indexOf(digest))
        }
      }
    })

    await holds(property, { runs: 500 })
  })
})

describe(`a manifest that is pushed or copied (${SEEDED})`, { timeout: HOSTILE_TIMEOUT_MS }, () => {
  let primary: LyingPrimary
  let site: GeoRegistry
  let copies: CopyScene
  let sent = 0
  beforeAll(async () => {
    primary = await startLyingPrimary()
    site = await startGeoRegistry({ primary: primary.url, config: { auth: { none: { push: true } } } })
    copies = await copyScene(primary.url)
  })
  afterAll(async () => {
    for (const owned of [copies, site, primary]) await owned[Symbol.asyncDispose]()
  })

  async function send(method: string, target: string, type: string, body?: Buffer): Promise<RawAnswer> {
    const headers = [
      ['content-type', type],
      ['accept', FULL_ACCEPT],
    ] as const
    const answer = await exchangeRaw(site.port, requestBytes({ method, target, headers, body }), method)
    if (!answer) throw new Error('the site closed the connection without an answer')
    if (answer.status >= 400) expect(errorCodesOf(answer.body)).not.toEqual([])
    return answer
  }

  it('is what the primary took, to the byte, or nothing', async () => {
    const types = fc.constantFrom(
      ...TYPES,
      'text/html',
      'application/json',
      '',
      `${MEDIA_TYPES.ociManifest};x=y`,
    )
    const property = fc.asyncProperty(text, types, async (written, type) => {
      const bytes = Buffer.from(written)
      const target = `/v2/${NAME}/manifests/t${++sent}`
      const put = await send('PUT', target, type, bytes)
      expect(put.status).toBeOneOf([201, 400])
      if (put.status !== 201) return
      const got = await send('GET', target, type)
      // What is no manifest is passed on as the primary has it, or refused as none.
      expect(got.status).toBeOneOf([200, 502])
      if (got.status === 200) expect(got.body.equals(bytes)).toBe(true)
    })

    await holds(property, { runs: 150 })
    await expectSoundStore(site.root)
    expect(site.lines.filter(({ level }) => level === 'error' || level === 'fatal')).toEqual([])
  })

  it('is 413 when it is of 10 MB, and taken when it is nested beyond any stack', async () => {
    const target = `/v2/${NAME}/manifests/huge`
    expect((await send('PUT', target, MEDIA_TYPES.ociManifest, Buffer.alloc(10_000_000, ' '))).status).toBe(
      413,
    )
    const nested = Buffer.from(`{"schemaVersion":2,"config":{},"layers":${deeplyNested(100_000)}}`)
    expect((await send('PUT', target, MEDIA_TYPES.ociManifest, nested)).status).toBe(201)
    expect((await send('GET', target, MEDIA_TYPES.ociManifest)).body.equals(nested)).toBe(true)
  })

  it('stops no copy of the tag beside it, and is reported with figures that are numbers', async () => {
    const good = await buildImage({ seed: 'beside', layers: [100] })
    await primary.hold(NAME, good, 'good')
    const property = fc.asyncProperty(shaped, async (value) => {
      const hostile = heldAs(Buffer.from(JSON.stringify(value)))
      const tag = `c${++sent}`
      await primary.hold(NAME, hostile, tag)
      await copies.copyTag(NAME, tag).then(
        (report) => expect(Number.isSafeInteger(report.bytes)).toBe(true),
        // `Error`: the scene's own, for what is of a kind that is not kept.
        (error: unknown) =>
          expect(Object(error).name).toBeOneOf(['CopyError', 'ManifestError', 'UpstreamError', 'Error']),
      )
      const missing = await copies.copying.missing(NAME, hostile.digest)
      expect(missing.blobs >= 0 && missing.bytes >= 0 && Number.isFinite(missing.bytes)).toBe(true)
    })

    await holds(property, { runs: 100 })
    expect(await copies.copyTag(NAME, 'good')).toMatchObject({ manifests: 1, blobs: 2 })
    await expectSoundStore(copies.root)
  })
})

function heldAs(bytes: Buffer): Image {
  const mediaType = manifestMediaType(bytes) ?? MEDIA_TYPES.ociManifest
  const manifest = bytesContent(bytes, mediaType)
  return { manifest, digest: manifest.digest, mediaType, bytes, blobs: [], children: [] }
}
