/** Copies that cannot be whole: what is brought all the same, what is said of the rest, and what is never linked. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { CopyError } from '../../replicator/copying.ts'
import type { Digest } from '../../src/oci/digest.ts'
import { buildArtifact, buildImage, buildIndex, buildMultiArch, type Image } from '../support/images.ts'
import { ociError, wrongBytes } from '../support/lies.ts'
import { type LyingPrimary, startLyingPrimary } from '../support/lying-primary.ts'
import { until } from '../support/wait.ts'
import { APP, type CopyScene, type CopySceneOptions, copyScene, OTHER } from './copy-scene.ts'

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

async function reopen(options: CopySceneOptions): Promise<void> {
  await site[Symbol.asyncDispose]()
  site = await copyScene(primary.url, options)
}

/** What a copy that must fail fails with. */
async function failure(copying: Promise<unknown>): Promise<CopyError> {
  const error = await copying.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (!(error instanceof CopyError)) throw new Error('no CopyError', { cause: error })
  return error
}

function layerOf(image: Image | undefined, index: number): { digest: Digest; sizeBytes: number } {
  const layer = image?.blobs[index + 1]
  if (!layer) throw new Error(`the image has no layer ${index}`)
  return layer
}

async function isHere({ digest }: { digest: Digest }): Promise<boolean> {
  return (await site.store.blobs.stat(digest)) !== undefined
}

const blobPath = ({ digest }: { digest: Digest }) => `/v2/${APP}/blobs/${digest}`
const manifestPath = ({ digest }: { digest: Digest }) => `/v2/${APP}/manifests/${digest}`

describe('one blob that the primary', () => {
  it.each([
    ['does not have', 'absent', ociError(404, 'BLOB_UNKNOWN')],
    ['answers 500 for', 'unavailable', ociError(500, 'UNKNOWN')],
    ['has wrong bytes of', 'faulty', wrongBytes()],
  ])('%s stops no other, and only it is fetched by the next copy', async (_title, kind, lie) => {
    const image = await buildImage({ layers: [1000, 2000, 3000, 4000, 5000, 6000] })
    const failing = layerOf(image, 1)
    await primary.hold(APP, image, 'latest')
    const takeBack = primary.lie('*', blobPath(failing), lie)

    const error = await failure(site.copyTag(APP))

    expect(error).toMatchObject({ digest: failing.digest, cause: { kind } })
    // The blob, and the manifest that is not linked without it.
    expect(error.missing).toEqual({ blobs: 2, bytes: failing.sizeBytes })
    expect(await site.store.index.link(APP, 'manifest', image.digest)).toBeUndefined()
    takeBack()
    expect(await site.copyTag(APP)).toMatchObject({ blobs: 7, bytes: failing.sizeBytes })
    expect(await site.copying.missing(APP, image.digest)).toEqual(NOTHING)
  })

  it('does not have fails its own image of an index, and the others are whole', async () => {
    const index = await buildMultiArch({ architectures: ['amd64', 'arm64', 's390x'] })
    const [amd64, arm64, s390x] = index.children
    await primary.hold(APP, index, 'latest')
    primary.forget(APP, layerOf(arm64, 0).digest)

    const error = await failure(site.copyTag(APP))

    expect(error.digest).toBe(layerOf(arm64, 0).digest)
    expect(await site.copying.missing(APP, amd64?.digest ?? index.digest)).toEqual(NOTHING)
    expect(await site.copying.missing(APP, s390x?.digest ?? index.digest)).toEqual(NOTHING)
    // That layer, its manifest and the index.
    expect(error.missing.blobs).toBe(3)
  })
})

describe('a child manifest', () => {
  it.each([
    ['is not there', ociError(404, 'MANIFEST_UNKNOWN')],
    ['is another than asked for', wrongBytes(5)],
  ])('that %s leaves the index unlinked and its siblings whole', async (_title, lie) => {
    const index = await buildMultiArch()
    const [amd64, arm64] = index.children
    await primary.hold(APP, index, 'latest')
    primary.lie('*', manifestPath(amd64 ?? index), lie)

    const error = await failure(site.copyTag(APP))

    expect(error.digest).toBe(amd64?.digest)
    expect(error.missing.blobs).toBe(2)
    expect(await site.copying.missing(APP, arm64?.digest ?? index.digest)).toEqual(NOTHING)
    expect(await site.store.index.link(APP, 'manifest', index.digest)).toBeUndefined()
  })
})

describe('a primary that goes away', () => {
  it('is asked a few times, not for every blob of a large image', async () => {
    const image = await buildImage({ layers: Array.from({ length: 40 }, (_, index) => 100 + index) })
    await primary.hold(APP, image, 'latest')
    primary.lie('GET', /\/blobs\//, ociError(503, 'UNAVAILABLE'))

    const error = await failure(site.copyTag(APP))

    expect(error.cause).toMatchObject({ kind: 'unavailable' })
    expect(error.missing.blobs).toBe(42)
    // Nine blobs at most (five troubles, and what was under way), four times each.
    expect(primary.asked('GET', /\/blobs\//).length).toBeLessThanOrEqual(36)
  })

  it('while the subject is copied keeps what refers to it from being linked', async () => {
    const subject = await buildImage({ seed: 'subject' })
    const signature = buildArtifact({ subject })
    await primary.hold(APP, subject)
    await primary.hold(APP, signature, 'latest')
    primary.lie('GET', blobPath(layerOf(subject, 0)), ociError(502, 'UNKNOWN'))

    await failure(site.copyTag(APP))

    expect(await site.store.index.link(APP, 'manifest', signature.digest)).toBeUndefined()
  })

  it('for a moment is asked again inside the copy', async () => {
    const image = await buildImage()
    await primary.hold(APP, image, 'latest')
    primary.lie('GET', /\/blobs\//, ociError(503, 'UNAVAILABLE'), { times: 2 })

    expect(await site.copyTag(APP)).toMatchObject({ blobs: 3 })
  })
})

describe('law 3', () => {
  it('holds for content another repository brought: no word, no link', async () => {
    const image = await buildImage()
    const layer = layerOf(image, 0)
    await primary.hold(APP, image, 'latest')
    await primary.hold(OTHER, image, 'latest')
    primary.forget(OTHER, layer.digest)
    await site.copyTag(APP)

    const error = await failure(site.copyTag(OTHER))

    expect(error).toMatchObject({ digest: layer.digest, missing: { blobs: 2, bytes: 0 } })
    expect(await isHere(layer)).toBe(true)
    expect(await site.store.index.link(OTHER, 'layer', layer.digest)).toBeUndefined()
    expect(await site.store.index.link(OTHER, 'manifest', image.digest)).toBeUndefined()
  })

  it('asks again for what was confirmed longer ago than the recheck', async () => {
    let laterMs = 0
    await reopen({ now: () => Date.now() + laterMs, recheckMs: 60_000 })
    const image = await buildImage()
    await primary.hold(APP, image, 'latest')
    await site.copyTag(APP)
    expect(primary.asked('HEAD', /./)).toEqual([])

    laterMs = 60_001
    await site.copyTag(APP)

    expect(primary.asked('HEAD', /\/blobs\//)).toHaveLength(3)
  })

  it('asks about the manifest itself when it is not known when its answer was asked for', async () => {
    const image = await buildImage()
    await primary.hold(APP, image, 'latest')
    const { signal } = new AbortController()

    await site.copying.copy(APP, await site.ask(APP), { signal })

    expect(primary.asked('HEAD', manifestPath(image))).toHaveLength(1)
    expect(await site.copying.missing(APP, image.digest)).toEqual(NOTHING)
  })

  it('believes no answer that was asked for before a removal', async () => {
    const image = await buildImage()
    await primary.hold(APP, image, 'latest')
    const mark = site.store.index.mark()
    const manifest = await site.ask(APP)
    await site.store.index.hideLink(APP, 'manifest', image.digest)
    primary.forget(APP, image.digest)
    const { signal } = new AbortController()

    const error = await failure(site.copying.copy(APP, manifest, { signal, mark }))

    expect(error).toMatchObject({ digest: image.digest, cause: { kind: 'absent' } })
    expect(await site.store.index.link(APP, 'manifest', image.digest)).toBeUndefined()
  })
})

describe('a copy', () => {
  it('that is given up says so and links nothing more', async () => {
    const image = await buildImage({ layers: [1000, 2000, 3000, 4000, 5000, 6000] })
    await primary.hold(APP, image, 'latest')
    primary.gate('GET', /\/blobs\//)
    const giveUp = new AbortController()

    const copying = site.copyTag(APP, 'latest', { signal: giveUp.signal })
    await until(() => primary.asked('GET', /\/blobs\//).length === 4, { what: 'four blobs to be asked for' })
    giveUp.abort(new Error('another lease'))

    await expect(copying).rejects.toThrow('another lease')
    expect(primary.asked('GET', /\/blobs\//)).toHaveLength(4)
  })

  it('asks for no more blobs at a time than it may', async () => {
    await reopen({ blobsAtOnce: 2 })
    await primary.hold(APP, await buildImage({ layers: [1000, 2000, 3000, 4000] }), 'latest')
    const asked = () => primary.asked('GET', /\/blobs\//).length
    const gate = primary.gate('GET', /\/blobs\//)

    const copying = site.copyTag(APP)
    await until(() => asked() === 2, { what: 'two blobs to be asked for' })
    // A question more would be here long before an answer that crosses the same sockets.
    await site.ask(APP)

    expect(asked()).toBe(2)
    gate.open()
    expect(await copying).toMatchObject({ blobs: 5 })
  })

  it('for which there is no room reads nothing and says so', async () => {
    await reopen({ blobs: (blobs) => ({ ...blobs, hasRoom: async () => false }) })
    await primary.hold(APP, await buildImage(), 'latest')

    await expect(site.copyTag(APP)).rejects.toMatchObject({ name: 'StoreError', kind: 'full' })

    expect(primary.asked('*', /\/blobs\//)).toEqual([])
  })

  it('for which the disk fails in the middle stops there', async () => {
    await primary.hold(
      APP,
      await buildImage({ layers: Array.from({ length: 20 }, (_, n) => 100 + n) }),
      'latest',
    )
    let hasRoom = true
    await reopen({ blobs: (blobs) => ({ ...blobs, hasRoom: async () => hasRoom }) })
    primary.lie('GET', /\/blobs\//, ({ response, honest }) => {
      hasRoom = false
      response.writeHead(honest.status, { ...honest.headers, 'content-length': String(honest.body.length) })
      response.end(honest.body)
    })

    await expect(site.copyTag(APP)).rejects.toMatchObject({ name: 'StoreError', kind: 'full' })

    expect(primary.asked('GET', /\/blobs\//).length).toBeLessThan(20)
  })
})

describe('what is missing', () => {
  it('is told without a question: all that is known to be, while nothing is here', async () => {
    const image = await buildImage()

    expect(await site.copying.missing(APP, image.digest)).toEqual({ blobs: 1, bytes: 0 })
    expect(primary.requests).toEqual([])
  })

  it('counts links and content by themselves', async () => {
    const index = buildIndex([await buildImage({ seed: 1 }), await buildImage({ seed: 2 })])
    const [first] = index.children
    const [config, layer] = first?.blobs ?? []
    await primary.hold(APP, index, 'latest')
    await site.copyTag(APP)

    await site.store.index.hideLink(APP, 'layer', config?.digest ?? index.digest)
    await site.store.blobs.quarantine(layer?.digest ?? index.digest)

    expect(await site.copying.missing(APP, index.digest)).toEqual({ blobs: 2, bytes: layer?.sizeBytes })
    expect(await site.copying.missing(OTHER, index.digest)).toMatchObject({
      blobs: 9,
      bytes: layer?.sizeBytes,
    })
  })
})
