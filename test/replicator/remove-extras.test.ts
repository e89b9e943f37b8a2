/** What is here and no longer there: hidden on the primary's own word alone, and only as far as the brake allows. */
import { cp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import type { Removal } from '../../replicator/brake.ts'
import type { RepositoryName } from '../../src/oci/reference.ts'
import { UpstreamError } from '../../src/upstream/errors.ts'
import { nameOf, tagOf } from '../store/store-fixture.ts'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { buildArtifact, buildImage, buildMultiArch, type Image } from '../support/images.ts'
import { html, ociError } from '../support/lies.ts'
import { startLyingPrimary } from '../support/lying-primary.ts'
import { pushImage } from '../support/push-image.ts'
import { createRegistryApi } from '../support/registry-api.ts'
import { tempFolder } from '../support/temp.ts'
import { APP, syncFixture } from './sync-fixture.ts'

const primary: DockerRegistry = await startDockerRegistry()
const api = createRegistryApi(primary.url)
afterAll(async () => {
  await api[Symbol.asyncDispose]()
  await primary[Symbol.asyncDispose]()
})

let names = 0
let name: RepositoryName
let image: Image
beforeEach(async () => {
  name = nameOf(`group/extra-${++names}`)
  image = await buildImage({ seed: name })
})

const folder = (...parts: string[]) => join(primary.root, 'docker/registry/v2/repositories', name, ...parts)
const deleteTag = (tag: string) => rm(folder('_manifests/tags', tag), { recursive: true })

async function putTags(count: number): Promise<void> {
  await pushImage(api, name, 'v0', image)
  for (let at = 1; at < count; at++) await api.putManifest(name, `v${at}`, image.bytes, image.mediaType)
}

describe('a tag that is not listed any more', () => {
  it('is hidden when the primary, asked for it, does not have it, and can be restored', async () => {
    await using site = await syncFixture(primary.url)
    await putTags(2)
    await site.sync(name)
    await deleteTag('v1')

    await site.sync(name)

    expect(await site.tags(name)).toEqual({ v0: image.digest })
    expect(await site.row(name)).toMatchObject({ state: 'synced', tagsCount: 1 })
    const hidden: string[] = []
    for await (const { id } of site.store.holdings.hidden()) hidden.push(id)
    expect(await site.store.holdings.restore(hidden[0] ?? '')).toBe(true)
    expect(Object.keys(await site.tags(name))).toEqual(['v0', 'v1'])
  })

  it('stays when the list was cut short and the primary still has it', async () => {
    await putTags(3)
    await using cut = await syncFixture(primary.url, {
      inventory: (real) => {
        let lists = 0
        const tags = async (...given: Parameters<typeof real.tags>) => {
          const listed = await real.tags(...given)
          return ++lists === 1 ? listed : listed.slice(0, 1)
        }
        return { ...real, tags }
      },
    })
    await cut.sync(name)
    await cut.sync(name)
    expect(Object.keys(await cut.tags(name))).toEqual(['v0', 'v1', 'v2'])
    expect(await cut.row(name)).toMatchObject({ state: 'synced', tagsCount: 3 })
  })

  it('stays when it is pushed through this site while the primary is asked', async () => {
    const pushed: { tag?: string } = {}
    await using site = await syncFixture(primary.url, {
      brake: (real) => ({
        ...real,
        async allows(removals) {
          await site.freshness.hear(name, [{ tag: tagOf(pushed.tag ?? 'v1') }])
          return real.allows(removals)
        },
      }),
    })
    await putTags(2)
    await site.sync(name)
    await deleteTag('v1')

    await site.sync(name)

    expect(Object.keys(await site.tags(name))).toEqual(['v0', 'v1'])
    expect(await site.row(name)).toMatchObject({ state: 'failed' })
  })

  it('waits for a hand, with all the others, when too much is gone; the rest is brought in step', async () => {
    await using site = await syncFixture(primary.url)
    await putTags(130)
    await site.sync(name)
    for (let at = 10; at < 130; at++) await deleteTag(`v${at}`)
    const pushed = await buildImage({ seed: `${name} pushed` })
    await pushImage(api, name, 'v0', pushed)

    await site.sync(name)

    expect(Object.keys(await site.tags(name))).toHaveLength(130)
    expect((await site.tags(name))['v0']).toBe(pushed.digest)
    expect(await site.row(name)).toMatchObject({ state: 'failed', needsAttention: false })
    expect((await site.row(name)).lastSyncFailure).toContain('held back by the brake: 120 tags')
    expect(await site.brake.status()).toMatchObject({ tags: 120 })

    await site.brake.release()
    await site.sync(name)
    expect(Object.keys(await site.tags(name))).toHaveLength(10)
    expect(await site.row(name)).toMatchObject({ state: 'synced' })
  })

  it('is no surprise when an event told of it', async () => {
    const asked: Removal[] = []
    await using site = await syncFixture(primary.url, {
      brake: (real) => ({
        ...real,
        async allows(removals) {
          asked.push(...removals)
          return false
        },
      }),
    })
    await putTags(4)
    await site.sync(name)
    for (const tag of ['v1', 'v2']) await deleteTag(tag)
    await site.hear({ action: 'delete', repository: name, tag: 'v1' })

    await site.run(name)

    expect(Object.keys(await site.tags(name))).toEqual(['v0', 'v2', 'v3'])
    expect(asked).toEqual([{ repository: name, tags: 1, whole: false }])
  })
})

describe('a repository that the primary does not know', () => {
  it('is hidden as a whole and forgotten', async () => {
    await using site = await syncFixture(primary.url)
    await putTags(2)
    await site.sync(name)
    await rm(folder(), { recursive: true })

    await site.sync(name)

    expect(await site.tags(name)).toEqual({})
    for (const { digest } of image.blobs) {
      expect(await site.store.index.link(name, 'layer', digest)).toBeUndefined()
    }
    expect(await site.tracking.find(name)).toBeUndefined()
  })

  it('stays while the brake holds, unless it was renamed away or deleted', async () => {
    const asked: Removal[] = []
    await using site = await syncFixture(primary.url, {
      brake: (real) => ({
        ...real,
        async allows(removals) {
          asked.push(...removals)
          return false
        },
      }),
    })
    await putTags(2)
    await site.sync(name)
    await rm(folder(), { recursive: true })

    await site.sync(name)
    expect(Object.keys(await site.tags(name))).toEqual(['v0', 'v1'])
    expect(asked).toEqual([{ repository: name, tags: 2, whole: true }])

    await site.hear({ action: 'rename', repository: name, renamedTo: nameOf('group/elsewhere') })
    await site.run(name)
    expect(await site.tags(name)).toEqual({})
    expect(await site.tracking.find(name)).toBeUndefined()
  })

  it('that lost its last tag on object storage keeps its manifests: only the tags are gone', async () => {
    await using site = await syncFixture(primary.url)
    await putTags(2)
    await site.sync(name)
    await rm(folder('_manifests/tags'), { recursive: true })

    await site.sync(name)

    expect(await site.tags(name)).toEqual({})
    expect(await site.store.index.link(name, 'manifest', image.digest)).toBeDefined()
    expect(await site.row(name)).toMatchObject({ state: 'synced', tagsCount: 0 })
  })
})

describe('an answer that is not the primary’s', () => {
  it.each([
    ['an ingress’s 404', html(404)],
    ['a 404 that names no reason of a registry', ociError(404, 'NOT_FOUND')],
    ['a sign-in page', html(200)],
    ['a refused credential', ociError(401, 'UNAUTHORIZED')],
    ['a refused repository', ociError(403, 'DENIED')],
    ['a broken backend', html(502)],
  ])('removes nothing: %s for the list, or for the tags', async (_, lie) => {
    await using liar = await startLyingPrimary()
    await using site = await syncFixture(liar.url)
    await liar.hold(APP, image, 'one')
    await liar.hold(APP, image, 'two')
    await site.sync()
    await site.row()

    const takeBack = liar.lie('GET', /\/tags\/list/, lie)
    await site.sync()
    expect(Object.keys(await site.tags())).toEqual(['one', 'two'])
    expect(await site.row()).toMatchObject({ state: 'failed', needsAttention: false })
    takeBack()

    liar.forget(APP, 'two') // Not in the list any more, and what asks for it gets the lie.
    liar.lie('GET', /\/manifests\/two/, lie)
    await site.sync()
    expect(Object.keys(await site.tags())).toEqual(['one', 'two'])
    expect(await site.tracking.failingTags(APP)).toMatchObject([{ tag: 'two' }])
  })

  it('ends the job when the primary goes away in the middle: what failed before still does, nothing else', async () => {
    const line: { broken: boolean } = { broken: false }
    const away = () => Promise.reject(new UpstreamError('unavailable', 'gone'))
    let asked = 0
    await using site = await syncFixture(primary.url, {
      upstream: (real) => ({
        ...real,
        getManifest: (...given) => {
          if (line.broken) asked++
          return line.broken ? away() : real.getManifest(...given)
        },
        forward: (...given) => (line.broken && asked > 0 ? away() : real.forward(...given)),
      }),
    })
    await putTags(60)
    await site.sync(name)
    line.broken = true

    await site.sync(name)

    expect(asked).toBeLessThan(60)
    expect(Object.keys(await site.tags(name))).toHaveLength(60)
    expect(await site.tracking.failingTags(name)).toEqual([])
    expect(await site.row(name)).toMatchObject({ state: 'failed', lastSyncFailure: 'gone' })
  })
})

describe('a primary that was restored from a backup', () => {
  it('gets its old tags back here, and what it has not is hidden, not deleted', async () => {
    await using backup = await tempFolder()
    await using site = await syncFixture(primary.url)
    await putTags(3)
    await cp(folder(), join(backup.path, 'r'), { recursive: true })
    const later = await buildImage({ seed: `${name} later` })
    await pushImage(api, name, 'v1', later)
    await pushImage(api, name, 'new', later)
    await site.sync(name)
    await rm(folder(), { recursive: true })
    await cp(join(backup.path, 'r'), folder(), { recursive: true })

    await site.sync(name)

    expect(await site.tags(name)).toEqual({ v0: image.digest, v1: image.digest, v2: image.digest })
    expect(await site.store.blobs.stat(later.digest)).toBeDefined()
    expect(await site.row(name)).toMatchObject({ state: 'synced' })
  })
})

describe('a manifest without a tag', () => {
  it('is asked for once past recheck, hidden when the primary has it no longer, and completed when it has', async () => {
    let nowMs = Date.now()
    await using site = await syncFixture(primary.url, { recheckMs: 1000, now: () => nowMs })
    const gone = await buildImage({ seed: `${name} gone` })
    const kept = buildArtifact({ subject: image, payload: name })
    const index = await buildMultiArch({ seed: `${name} index` })
    await pushImage(api, name, 'v0', index)
    for (const untagged of [gone, kept]) {
      await pushImage(api, name, undefined, untagged)
      await site.hear({ action: 'push', repository: name, digest: untagged.digest })
    }
    await site.run(name)
    await api.deleteManifest(name, gone.digest)
    for (const { digest } of kept.blobs) await site.store.blobs.quarantine(digest)
    site.whole.forget()
    const before = await site.asked()

    await site.sync(name)
    expect((await site.asked()).confirm).toBe(before.confirm)
    nowMs += 2000
    await site.sync(name)

    expect(await site.store.index.link(name, 'manifest', gone.digest)).toBeUndefined()
    expect(await site.whole.has(name, kept.digest, true)).toBe(true)
    expect(await site.whole.has(name, index.digest, true)).toBe(true)
    // The two, and what the lost blob's link cost: none for the index's children, for which the index vouches.
    expect((await site.asked()).confirm - before.confirm).toBeLessThanOrEqual(5)
  })
})
