/**
 * Content that two repositories share, or that the primary itself has lost: what mirrors of other registries made of it.
 */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import { hexOf } from '../../src/oci/digest.ts'
import type { RepositoryName } from '../../src/oci/reference.ts'
import { nameOf } from '../store/store-fixture.ts'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { allBlobs, buildImage, buildMultiArch } from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import { createRegistryApi } from '../support/registry-api.ts'
import { syncFixture } from './sync-fixture.ts'

const DAY_MS = 24 * 60 * 60 * 1000
const primary: DockerRegistry = await startDockerRegistry()
const api = createRegistryApi(primary.url)
afterAll(async () => {
  await api[Symbol.asyncDispose]()
  await primary[Symbol.asyncDispose]()
})

let names = 0
let name: RepositoryName
beforeEach(() => {
  name = nameOf(`group/content-${++names}`)
})

const folder = (of: string) => join(primary.root, 'docker/registry/v2/repositories', of)

describe('a blob of two repositories', () => {
  it('outlives the end of one of them, and goes with the other (distribution#2367, #1356)', async () => {
    let nowMs = Date.now()
    await using site = await syncFixture(primary.url, { now: () => nowMs })
    const image = await buildMultiArch({ seed: name })
    const other = nameOf(`${name}-other`)
    for (const each of [name, other]) {
      await pushImage(api, each, 'v1', image)
      await site.sync(each)
    }
    const held = () => Promise.all(allBlobs(image).map(({ digest }) => site.store.blobs.stat(digest)))
    async function end(of: RepositoryName): Promise<void> {
      await rm(folder(of), { recursive: true })
      await primary.restart() // It remembers what it had.
      nowMs += 1000
      await site.sync(of)
      nowMs += 30 * DAY_MS // Past the grace in which what was hidden can be restored.
      await site.store.collectGarbage()
    }

    await end(name)
    expect(await site.whole.has(other, image.digest, true)).toBe(true)
    await site.sync(other)
    expect(await site.row(other)).toMatchObject({ state: 'synced', tagsCount: 1 })
    await end(other)

    expect(new Set(await held())).toEqual(new Set([undefined]))
  })
})

describe('what the primary has itself lost', () => {
  it('fails nothing else, though its tag is still listed, and is here once it is pushed again (zot#3157)', async () => {
    await using site = await syncFixture(primary.url)
    const image = await buildImage({ seed: name })
    await pushImage(api, name, 'v1', image)
    await pushImage(api, name, 'v2', await buildImage({ seed: `${name} v2` }))
    // Garbage collection of a registry that lost count: the tag is listed, and its manifest is not there.
    await rm(join(folder(name), '_manifests/revisions/sha256', hexOf(image.digest)), { recursive: true })
    await primary.restart()

    await site.sync(name)
    expect(Object.keys(await site.tags(name))).toEqual(['v2'])
    expect(await site.row(name)).toMatchObject({ state: 'synced', failingTagsCount: 0 })
    await pushImage(api, name, 'v1', image)
    await site.sync(name)

    expect(await site.tags(name)).toMatchObject({ v1: image.digest })
    expect(await site.row(name)).toMatchObject({ state: 'synced', tagsCount: 2 })
  })
})
