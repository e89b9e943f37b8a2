/** The dry run: what it counts must be what a copy would bring, and it must bring nothing itself. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createInventory } from '../../replicator/open-inventory.ts'
import { type Plan, type PlanOptions, plan } from '../../replicator/plan.ts'
import { createLogger } from '../../src/log.ts'
import { createModeOf, type ModeRule } from '../../src/oci/repository-mode.ts'
import { nameOf, type StoreFixture, storeFixture, tagOf } from '../store/store-fixture.ts'
import { contentBytes } from '../support/content.ts'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { type GitlabApi, startGitlabApi } from '../support/gitlab-api.ts'
import {
  allBlobs,
  allManifests,
  buildArtifact,
  buildImage,
  buildIndex,
  buildMultiArch,
  type Image,
} from '../support/images.ts'
import { html, ociError } from '../support/lies.ts'
import { startLyingPrimary } from '../support/lying-primary.ts'
import { pushImage } from '../support/push-image.ts'
import { createRegistryApi, type RegistryApi } from '../support/registry-api.ts'
import { clientOf } from '../upstream/primary.ts'

const log = createLogger({ level: 'silent' })

let stack: AsyncDisposableStack
let registry: DockerRegistry
let gitlab: GitlabApi
let api: RegistryApi
let fixture: StoreFixture

beforeEach(async () => {
  stack = new AsyncDisposableStack()
  registry = stack.use(await startDockerRegistry())
  gitlab = stack.use(await startGitlabApi(registry))
  api = stack.use(createRegistryApi(registry.url))
  fixture = stack.use(await storeFixture())
})
afterEach(() => stack.disposeAsync())

async function planOf(
  url: string,
  options: Partial<PlanOptions> = {},
  rules: ModeRule[] = [],
): Promise<Plan> {
  const { upstream, dispatcher } = clientOf(url)
  stack.defer(() => dispatcher.close())
  const { blobs, index } = fixture.store
  const inventory = createInventory({ upstream, log })
  return await plan(
    { inventory, upstream, blobs, index, modeOf: createModeOf(rules) },
    { bytesPerSecond: undefined, ...options },
  )
}

/** Each digest once, over all images. */
function sizesOf(...images: readonly Image[]): Map<string, number> {
  const blobs = images.flatMap(allBlobs).map(({ digest, sizeBytes }) => [digest, sizeBytes] as const)
  const manifests = images.flatMap(allManifests).map(({ digest, bytes }) => [digest, bytes.length] as const)
  return new Map([...blobs, ...manifests])
}
function sum(sizes: Iterable<number>): number {
  return [...sizes].reduce((total, size) => total + size, 0)
}

async function keep(image: Image): Promise<void> {
  for (const blob of allBlobs(image)) await fixture.store.blobs.write(blob.digest, await contentBytes(blob))
  for (const { digest, bytes } of allManifests(image)) await fixture.store.blobs.write(digest, bytes)
}

describe('the plan of a replication', () => {
  it('counts every digest once, over tags, repositories and architectures', async () => {
    const image = await buildImage({ seed: 1 })
    const both = await buildMultiArch({ seed: 2 })
    const nested = buildIndex([both, image])
    for (const [name, tag, pushed] of [
      ['team/app', 'v1', image],
      ['team/app', 'latest', image],
      ['team/copy', 'v1', image],
      ['team/multi', 'v1', nested],
    ] as const) {
      await pushImage(api, name, tag, pushed)
    }

    const counted = await planOf(registry.url, { bytesPerSecond: 10 })

    const bytes = sum(sizesOf(image, nested).values())
    expect(counted).toEqual({
      repositories: 3,
      tags: 4,
      manifests: 5,
      blobs: new Set(allBlobs(nested).map(({ digest }) => digest)).size,
      bytes,
      bytesHere: 0,
      days: bytes / 10 / 86_400,
      failures: 0,
      examples: [],
    })
  })

  it('counts the same by both kinds of lists', async () => {
    await pushImage(api, 'team/app', 'v1', await buildImage({ seed: 1 }))
    await pushImage(api, 'team/multi', 'v1', await buildMultiArch({ seed: 2 }))

    expect(await planOf(gitlab.url)).toEqual(await planOf(registry.url))
  })

  it('knows what is here already, of whatever repository it is', async () => {
    const here = await buildImage({ seed: 1 })
    const there = await buildImage({ seed: 2 })
    await keep(here)
    await pushImage(api, 'team/here', 'v1', here)
    await pushImage(api, 'team/there', 'v1', there)

    const counted = await planOf(registry.url, { bytesPerSecond: 1000 })

    const missing = sum(sizesOf(there).values())
    expect(counted.bytesHere).toBe(sum(sizesOf(here).values()))
    expect(counted.bytes - counted.bytesHere).toBe(missing)
    expect(counted.days).toBeCloseTo(missing / 1000 / 86_400)
  })

  it('fetches no manifest whose digest is listed and that is here', async () => {
    const image = await buildMultiArch({ seed: 1 })
    await keep(image)
    await pushImage(api, 'team/app', 'v1', image)

    const counted = await planOf(gitlab.url)

    expect(counted).toMatchObject({ manifests: 3, failures: 0 })
    expect(gitlab.requests.filter((line) => line.includes('/manifests/'))).toEqual([])
  })

  it('asks only whether a tag still stands where its manifest is here and no digest is listed', async () => {
    const image = await buildImage({ seed: 1 })
    await keep(image)
    await pushImage(api, 'team/app', 'v1', image)
    const { index } = fixture.store
    const name = nameOf('team/app')
    await index.putLink(name, 'manifest', image.digest, index.mark())
    await index.putTag(name, tagOf('v1'), image.digest, index.mark())

    expect(await planOf(registry.url)).toMatchObject({ tags: 1, manifests: 1, failures: 0 })
    expect(registry.logs()).toMatch(/"GET \/v2\/team\/app\/manifests\/v1 HTTP\/1.1" 304/)
  })

  it('counts what is to be replicated, and nothing else', async () => {
    await pushImage(api, 'team/app', 'v1', await buildImage({ seed: 1 }))
    await pushImage(api, 'cache/app', 'v1', await buildImage({ seed: 2 }))

    const counted = await planOf(registry.url, {}, [{ pattern: 'cache/*', mode: 'ondemand' }])

    expect(counted).toMatchObject({ repositories: 1, tags: 1 })
  })

  it('passes over what cannot be had, and says so', async () => {
    await using primary = await startLyingPrimary()
    const good = await buildImage({ seed: 1 })
    await primary.hold('team/app', good, 'good')
    await primary.hold('team/app', await buildImage({ seed: 2 }), 'lost')
    const body = JSON.stringify({ repositories: ['team/app', 'team/broken', 'team/deleted'] })
    primary.lie('GET', '/v2/_catalog', ({ response }) => void response.end(body))
    primary.lie('GET', '/v2/team/app/manifests/lost', html(404))
    primary.lie('GET', '/v2/team/broken/tags/list', html(403))
    primary.lie('GET', '/v2/team/deleted/tags/list', ociError(404, 'NAME_UNKNOWN'))

    const counted = await planOf(primary.url)

    expect(counted).toMatchObject({ repositories: 3, tags: 2, failures: 2 })
    expect(counted.bytes).toBe(sum(sizesOf(good).values()))
    expect(counted.examples.toSorted((one, other) => (one < other ? -1 : 1))).toEqual([
      expect.stringMatching(/^team\/app:lost: /),
      expect.stringMatching(/^team\/broken: /),
    ])
  })

  it('gives up when the primary goes away rather than calling it all failed', async () => {
    for (const name of ['team/a', 'team/b', 'team/c']) {
      await pushImage(api, name, 'v1', buildArtifact({ payload: name }))
    }
    const onProgress = () => void stopped.push(gitlab.stop())
    const stopped: Promise<void>[] = []

    await expect(planOf(gitlab.url, { onProgress, atOnce: 1 })).rejects.toMatchObject({ unreachable: true })
    await Promise.all(stopped)
  })

  it('tells how far it is, keeps nothing, and stops when told to', async () => {
    for (const seed of [1, 2, 3]) await pushImage(api, 'team/app', `v${seed}`, await buildImage({ seed }))
    const tags: number[] = []
    const giveUp = new AbortController()
    const onProgress = (soFar: Plan) => {
      tags.push(soFar.tags)
      if (soFar.tags === 2) giveUp.abort(new Error('enough'))
    }

    await expect(
      planOf(registry.url, { onProgress, atOnce: 1, signal: giveUp.signal }),
    ).rejects.toMatchObject({ kind: 'aborted' })

    expect(tags.slice(0, 2)).toEqual([1, 2])
    expect(await firstOf(fixture.store.holdings.repositories())).toBeUndefined()
    expect(await firstOf(fixture.store.holdings.blobs(undefined))).toBeUndefined()
  })
})

async function firstOf<T>(items: AsyncIterable<T>): Promise<T | undefined> {
  for await (const item of items) return item
  return undefined
}
