/** What a job makes of a repository of a real docker-registry, and how it ends. */
import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { type Digest, hexOf } from '../../src/oci/digest.ts'
import { nameOf } from '../store/store-fixture.ts'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { buildArtifact, buildImage, buildIndex, buildMultiArch, type Image } from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import { createRegistryApi, type RegistryApi } from '../support/registry-api.ts'
import { tempFolder } from '../support/temp.ts'
import { syncFixture } from './sync-fixture.ts'

const primary: DockerRegistry = await startDockerRegistry()
const api: RegistryApi = createRegistryApi(primary.url)
afterAll(async () => {
  await api[Symbol.asyncDispose]()
  await primary[Symbol.asyncDispose]()
})

let names = 0
const freshName = () => nameOf(`group/app-${++names}`)
const blobFile = (digest: Digest) =>
  join(primary.root, 'docker/registry/v2/blobs/sha256', hexOf(digest).slice(0, 2), hexOf(digest), 'data')

async function pushTags(name: string, tags: Record<string, Image>): Promise<void> {
  for (const [tag, image] of Object.entries(tags)) await pushImage(api, name, tag, image)
}

describe('a job of a repository', () => {
  it('brings every tag here, whole, and says so', async () => {
    await using site = await syncFixture(primary.url)
    const name = freshName()
    const one = await buildImage({ seed: `${name} one` })
    const two = await buildMultiArch({ seed: `${name} two` })
    await pushTags(name, {
      one,
      two,
      again: one,
      sbom: buildArtifact({ subject: one }),
      none: buildIndex([]),
    })

    await site.sync(name)

    expect(await site.tags(name)).toMatchObject({ one: one.digest, two: two.digest, again: one.digest })
    expect(await site.row(name)).toMatchObject({
      state: 'synced',
      verificationState: 'succeeded',
      tagsCount: 5,
      failingTagsCount: 0,
      lastSyncFailure: undefined,
    })
    for (const digest of [one.digest, two.digest, ...two.children.map((child) => child.digest)]) {
      expect(await site.whole.has(name, digest, true)).toBe(true)
    }
    expect(await site.store.holdings.completeSince(name)).toBeDefined()
  })

  it('asks about an unchanged repository with one list and a conditional question for each tag', async () => {
    await using site = await syncFixture(primary.url)
    const name = freshName()
    const image = await buildImage({ seed: name })
    await pushTags(name, { one: image, two: image, three: await buildImage({ seed: `${name} 3` }) })
    await site.sync(name)
    const before = await site.asked()
    const pulls = primary.logs().split('manifest get').length

    await site.sync(name)

    const after = await site.asked()
    expect(after.manifest - before.manifest).toBe(3)
    expect(after.blob).toBe(before.blob)
    expect(after.confirm).toBe(before.confirm)
    expect(primary.logs().split('manifest get').length).toBeLessThanOrEqual(pulls + 3)
    expect(await site.row(name)).toMatchObject({ state: 'synced' })
  })

  it('asks about nothing that the primary confirmed within the period because of one pushed tag', async () => {
    await using site = await syncFixture(primary.url, { reconcileMs: 3_600_000 })
    const name = freshName()
    const image = await buildImage({ seed: name })
    const tags = Object.fromEntries(Array.from({ length: 20 }, (_, at) => [`v${at}`, image]))
    await pushTags(name, tags)
    await site.sync(name)
    const comparedMs = Date.now()
    const before = await site.asked()
    const pushed = await buildImage({ seed: `${name} pushed` })
    await pushImage(api, name, 'v3', pushed)
    await site.hear({ action: 'push', repository: name, tag: 'v3', digest: pushed.digest })

    await site.run(name)

    expect((await site.asked()).manifest).toBe(before.manifest + 1)
    expect(await site.tags(name)).toMatchObject({ v2: image.digest, v3: pushed.digest })
    // The status must not claim to know of the others more lately than they were asked for.
    const { state, inventoryAtMs } = await site.row(name)
    expect(state).toBe('synced')
    expect(inventoryAtMs).toBeLessThanOrEqual(comparedMs)
  })

  it('compares everything again at half of the period, though nothing was heard', async () => {
    let nowMs = Date.now()
    await using site = await syncFixture(primary.url, { reconcileMs: 3_600_000, now: () => nowMs })
    const name = freshName()
    await pushTags(name, {
      one: await buildImage({ seed: name }),
      two: await buildImage({ seed: `${name} 2` }),
    })
    await site.sync(name)
    const changed = await buildImage({ seed: `${name} changed` })
    await pushImage(api, name, 'two', changed)

    await site.run(name)
    const unheard = await site.tags(name)
    nowMs += 1_800_000
    await site.run(name)

    expect(unheard['two']).not.toBe(changed.digest)
    expect((await site.tags(name))['two']).toBe(changed.digest)
    expect((await site.row(name)).inventoryAtMs).toBeGreaterThanOrEqual(nowMs)
  })

  it('compares everything again when a hand asks for it', async () => {
    await using site = await syncFixture(primary.url, { reconcileMs: 3_600_000 })
    const name = freshName()
    await pushTags(name, { one: await buildImage({ seed: name }) })
    await site.sync(name)
    const changed = await buildImage({ seed: `${name} changed` })
    await pushImage(api, name, 'one', changed)

    await site.tracking.reverify({}, { dryRun: false })
    await site.run(name)

    expect(await site.tags(name)).toEqual({ one: changed.digest })
  })

  it('rolls a tag back without fetching again what it held before', async () => {
    await using site = await syncFixture(primary.url)
    const name = freshName()
    const old = await buildImage({ seed: `${name} old` })
    const young = await buildImage({ seed: `${name} young` })
    await pushTags(name, { latest: old })
    await site.sync(name)
    await pushTags(name, { latest: young })
    await site.sync(name)
    const { blob } = await site.asked()
    await api.putManifest(name, 'latest', old.bytes, old.mediaType)

    await site.sync(name)

    expect(await site.tags(name)).toEqual({ latest: old.digest })
    expect((await site.asked()).blob).toBe(blob)
  })

  it('records the one tag of twenty whose layer is lost, passes it over, and mends it later', async () => {
    await using site = await syncFixture(primary.url)
    await using aside = await tempFolder()
    const name = freshName()
    const images = await Promise.all(
      Array.from({ length: 20 }, (_, at) => buildImage({ seed: `${name} ${at}`, layers: [1000 + at] })),
    )
    await pushTags(name, Object.fromEntries(images.map((image, at) => [`v${at}`, image])))
    const [layer] = images[7]?.blobs.slice(1) ?? []
    if (!layer) throw new Error('an image has a layer')
    await rename(blobFile(layer.digest), join(aside.path, 'layer'))

    await site.sync(name)

    expect(Object.keys(await site.tags(name))).toHaveLength(19)
    const row = await site.row(name)
    expect(row).toMatchObject({ state: 'failed', tagsCount: 20, failingTagsCount: 1, retryCount: 1 })
    expect(row.lastSyncFailure).toContain('1 of 20 tags: v7:')
    expect(row.bytesOutstanding).toBeGreaterThanOrEqual(layer.sizeBytes)
    expect(row.retryAtMs).toBeGreaterThan(Date.now())
    const failing = await site.tracking.failingTags(name)
    expect(failing).toMatchObject([{ tag: 'v7', digest: images.at(7)?.digest, kind: 'absent' }])
    expect(await site.store.holdings.completeSince(name)).toBeUndefined()

    await site.sync(name)
    expect(await site.tracking.failingTags(name)).toEqual(failing) // Failing since then, not since now.
    await rename(join(aside.path, 'layer'), blobFile(layer.digest))
    await primary.restart() // It remembers what it lacked.
    await site.sync(name)

    expect(Object.keys(await site.tags(name))).toHaveLength(20)
    expect(await site.row(name)).toMatchObject({ state: 'synced', failingTagsCount: 0, bytesOutstanding: 0 })
  })

  it('fetches again what is damaged or was lost here', async () => {
    await using site = await syncFixture(primary.url)
    const name = freshName()
    const image = await buildImage({ seed: name })
    await pushTags(name, { one: image })
    await site.sync(name)
    for (const { digest } of image.blobs) await site.store.blobs.quarantine(digest)
    await site.store.blobs.quarantine(image.digest)

    await site.sync(name)

    expect(await site.whole.has(name, image.digest, true)).toBe(true)
    expect(await site.row(name)).toMatchObject({ state: 'synced' })
  })

  it('forgets a repository that neither side has', async () => {
    await using site = await syncFixture(primary.url)
    const name = freshName()

    await site.sync(name)

    expect(await site.tracking.find(name)).toBeUndefined()
  })

  it('wakes itself when something was heard of while it ran', async () => {
    const name = freshName()
    await using site = await syncFixture(primary.url, {
      inventory: (real) => ({
        ...real,
        async tags(asked, signal) {
          const listed = await real.tags(asked, signal)
          await site.hear({ action: 'push', repository: name, tag: 'later' })
          return listed
        },
      }),
    })
    await pushTags(name, { one: await buildImage({ seed: name }) })

    await site.sync(name)

    expect(site.wakes.map(({ key }) => key)).toEqual([name])
    expect(await site.store.holdings.completeSince(name)).toBeUndefined()
    expect(await site.tracking.pendingEvents(name)).toHaveLength(1)
  })
})
