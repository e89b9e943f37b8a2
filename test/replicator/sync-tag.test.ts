/** What comes between the primary's answer and the tag: writes, lists that are older, copies that fail. */
import { afterAll, describe, expect, it } from 'vitest'
import type { Inventory, ListedTag } from '../../replicator/inventory.ts'
import type { RepositoryName } from '../../src/oci/reference.ts'
import { nameOf, tagOf } from '../store/store-fixture.ts'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { buildImage, type Image } from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import { createRegistryApi } from '../support/registry-api.ts'
import { syncFixture } from './sync-fixture.ts'

const primary: DockerRegistry = await startDockerRegistry()
const api = createRegistryApi(primary.url)
afterAll(async () => {
  await api[Symbol.asyncDispose]()
  await primary[Symbol.asyncDispose]()
})

let names = 0
const freshName = () => nameOf(`group/tag-${++names}`)
const LATEST = tagOf('latest')

/** Lists digests too, as GitLab's API does: those of now, or what a test makes of them. */
function withDigests(
  then: (listed: readonly ListedTag[], name: RepositoryName) => Promise<readonly ListedTag[]>,
) {
  return (real: Inventory): Inventory => ({
    ...real,
    async tags(name, signal) {
      const listed = await Promise.all(
        (await real.tags(name, signal)).map(async ({ tag }) => ({
          tag,
          digest: (await api.getManifest(name, tag)).digest,
        })),
      )
      return then(listed, name)
    },
  })
}

describe('a tag', () => {
  it('is confirmed by a list that says its digest, without a question of its own', async () => {
    await using site = await syncFixture(primary.url, { inventory: withDigests(async (listed) => listed) })
    const name = freshName()
    const image = await buildImage({ seed: name })
    await pushImage(api, name, 'latest', image)
    await site.sync(name)
    await site.freshness.hear(name, [{ tag: LATEST }])
    const { manifest } = await site.asked()

    await site.sync(name)

    expect((await site.asked()).manifest).toBe(manifest)
    expect(await site.freshness.confirmed(name, LATEST)).toBe(image.digest)
    expect(await site.row(name)).toMatchObject({ state: 'synced', checksumMismatch: false })
  })

  it('is what it was pushed to between the list and the question', async () => {
    const third: { image?: Image } = {}
    await using site = await syncFixture(primary.url, {
      inventory: withDigests(async (listed, name) => {
        if (third.image) await pushImage(api, name, 'latest', third.image)
        return listed
      }),
    })
    const name = freshName()
    await pushImage(api, name, 'latest', await buildImage({ seed: name }))
    await site.sync(name)
    await pushImage(api, name, 'latest', await buildImage({ seed: `${name} second` }))
    const image = await buildImage({ seed: `${name} third` })
    third.image = image

    await site.sync(name)

    expect(await site.tags(name)).toEqual({ latest: image.digest })
    expect(await site.freshness.confirmed(name, LATEST)).toBe(image.digest)
  })

  it('is not confirmed by a list that is older than a push through this site', async () => {
    let during = async () => {}
    await using site = await syncFixture(primary.url, {
      inventory: withDigests(async (listed) => {
        await during()
        return listed
      }),
    })
    const name = freshName()
    await pushImage(api, name, 'latest', await buildImage({ seed: name }))
    await site.sync(name)
    during = async () => {
      await site.freshness.endWrite(await site.freshness.beginWrite(name, [LATEST]))
    }

    await site.sync(name)

    expect(await site.freshness.confirmed(name, LATEST)).toBeUndefined()
  })

  it('is asked for again when it was written while its image was copied', async () => {
    const name = freshName()
    const first = await buildImage({ seed: name })
    const second = await buildImage({ seed: `${name} second` })
    let copies = 0
    await using site = await syncFixture(primary.url, {
      copying: (real) => ({
        ...real,
        async copy(asked, manifest, options) {
          const report = await real.copy(asked, manifest, options)
          if (++copies === 1) {
            await pushImage(api, name, 'latest', second)
            await site.freshness.hear(name, [{ tag: LATEST }])
          }
          return report
        },
      }),
    })
    await pushImage(api, name, 'latest', first)

    await site.sync(name)

    expect(copies).toBe(2)
    expect(await site.tags(name)).toEqual({ latest: second.digest })
  })

  it('that is written all the time is given up, and keeps no other waiting', async () => {
    const name = freshName()
    await using site = await syncFixture(primary.url, {
      copying: (real) => ({
        ...real,
        async copy(asked, manifest, options) {
          const report = await real.copy(asked, manifest, options)
          await site.freshness.hear(name, [{ tag: LATEST }])
          return report
        },
      }),
    })
    const image = await buildImage({ seed: name })
    await pushImage(api, name, 'latest', image)
    await pushImage(api, name, 'other', await buildImage({ seed: `${name} other` }))

    await site.sync(name)

    expect(Object.keys(await site.tags(name))).toEqual(['other'])
    expect(await site.tracking.failingTags(name)).toMatchObject([{ tag: 'latest', kind: 'overtaken' }])
  })

  it('is served stale no longer once the primary has something newer that cannot be copied', async () => {
    const name = freshName()
    const disk: { broken: boolean } = { broken: false }
    await using site = await syncFixture(primary.url, {
      copying: (real) => ({
        ...real,
        copy: (...given) => (disk.broken ? Promise.reject(new Error('no')) : real.copy(...given)),
      }),
    })
    const first = await buildImage({ seed: name })
    const second = await buildImage({ seed: `${name} second` })
    await pushImage(api, name, 'latest', first)
    await site.sync(name)
    expect((await site.store.index.tag(name, LATEST))?.confirmedAtMs).toBeDefined()
    expect(await site.store.holdings.completeSince(name)).toBeDefined()
    await pushImage(api, name, 'latest', second)
    disk.broken = true

    await site.sync(name)

    expect(await site.store.index.tag(name, LATEST)).toEqual({
      digest: first.digest,
      confirmedAtMs: undefined,
    })
    expect(await site.tracking.failingTags(name)).toMatchObject([{ digest: second.digest, message: 'no' }])
    expect(await site.store.holdings.completeSince(name)).toBeUndefined()
  })

  it('in doubt becomes the primary’s word again when the primary says the same', async () => {
    await using site = await syncFixture(primary.url)
    const name = freshName()
    await pushImage(api, name, 'latest', await buildImage({ seed: name }))
    await site.sync(name)
    await site.store.index.doubtTag(name, LATEST)

    await site.sync(name)

    expect((await site.store.index.tag(name, LATEST))?.confirmedAtMs).toBeDefined()
  })

  it('in a form that cannot be kept is called a failing one, and what was here before is not served for it', async () => {
    const name = freshName()
    const first: { pushed: boolean } = { pushed: true }
    await using site = await syncFixture(primary.url, {
      upstream: (real) => ({
        ...real,
        getManifest: async (...given) => (first.pushed ? real.getManifest(...given) : 'not-kept'),
      }),
    })
    await pushImage(api, name, 'latest', await buildImage({ seed: name }))
    await site.sync(name)
    first.pushed = false

    await site.sync(name)

    expect(await site.tracking.failingTags(name)).toMatchObject([{ tag: 'latest', kind: 'not-kept' }])
    expect((await site.store.index.tag(name, LATEST))?.confirmedAtMs).toBeUndefined()
    expect(await site.row(name)).toMatchObject({ state: 'failed' })
  })
})
