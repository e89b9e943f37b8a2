/** Events are hints: late, early, out of order, about things without a tag. The primary's answer decides. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { appliedThrough, readEvents } from '../../replicator/heard-events.ts'
import { digestOf } from '../../src/oci/digest.ts'
import type { StoredEvent } from '../../src/tracking/tracking.ts'
import { UpstreamError } from '../../src/upstream/errors.ts'
import { nameOf, tagOf } from '../store/store-fixture.ts'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { allBlobs, buildArtifact, buildImage } from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import { createRegistryApi } from '../support/registry-api.ts'
import { APP, syncFixture } from './sync-fixture.ts'

const primary: DockerRegistry = await startDockerRegistry()
const api = createRegistryApi(primary.url)
afterAll(async () => {
  await api[Symbol.asyncDispose]()
  await primary[Symbol.asyncDispose]()
})

let names = 0
const freshName = () => nameOf(`group/event-${++names}`)
const LATEST = tagOf('latest')
const A = digestOf(Buffer.from('a'))
const B = digestOf(Buffer.from('b'))

describe('an event of a push', () => {
  it('that comes before its effect leaves the tag unconfirmed until the primary shows what was pushed', async () => {
    const name = freshName()
    const first = await buildImage({ seed: name })
    const second = await buildImage({ seed: `${name} second` })
    const asked: boolean[] = []
    await using site = await syncFixture(primary.url, {
      eventRetryMs: [1, 5, 20, 50, 10_000],
      upstream: (real) => ({
        ...real,
        async getManifest(asking, reference, ask) {
          const answer = await real.getManifest(asking, reference, ask)
          if (reference.kind === 'tag' && site.wakes.length === 0) {
            asked.push((await site.freshness.confirmed(name, LATEST)) !== undefined)
            if (asked.length === 3) await pushImage(api, name, 'latest', second)
          }
          return answer
        },
      }),
    })
    await pushImage(api, name, 'latest', first)
    await site.hear({ action: 'push', repository: name, tag: 'latest', digest: second.digest })

    await site.run(name)

    expect(asked).toEqual([false, false, false, false])
    expect(await site.tags(name)).toEqual({ latest: second.digest })
    expect(await site.freshness.confirmed(name, LATEST)).toBe(second.digest)
    expect(await site.tracking.pendingEvents(name)).toEqual([])
  })

  it('of a new repository finds it though the primary knows neither its name nor its tag yet', async () => {
    const name = freshName()
    const image = await buildImage({ seed: name })
    let asked = 0
    await using site = await syncFixture(primary.url, {
      eventRetryMs: [1, 5, 20, 10_000],
      upstream: (real) => ({
        ...real,
        async getManifest(asking, reference, ask) {
          if (++asked === 2) await pushImage(api, name, 'latest', image)
          return real.getManifest(asking, reference, ask)
        },
      }),
    })
    await site.hear({ action: 'push', repository: name, tag: 'latest', digest: image.digest })

    await site.run(name)

    expect(await site.tags(name)).toEqual({ latest: image.digest })
    expect(await site.row(name)).toMatchObject({ state: 'synced', tagsCount: 1 })
  })

  it('that is older than the primary’s answer holds it up for the last step, and no other tag', async () => {
    const name = freshName()
    const first = await buildImage({ seed: name })
    const second = await buildImage({ seed: `${name} second` })
    await using site = await syncFixture(primary.url, { eventRetryMs: [1, 1000] })
    await pushImage(api, name, 'latest', second)
    await pushImage(api, name, 'other', first)
    await site.hear({ action: 'push', repository: name, tag: 'latest', digest: first.digest })

    const running = site.run(name)
    await expect.poll(() => site.tags(name)).toEqual({ latest: second.digest, other: first.digest })
    const before = await site.freshness.confirmed(name, LATEST)
    await running

    expect(before).toBeUndefined()
    expect(await site.freshness.confirmed(name, LATEST)).toBe(second.digest)
    expect(await site.row(name)).toMatchObject({ state: 'synced' })
  })

  it('that was heard longer ago than the last step holds nothing up', async () => {
    const name = freshName()
    const image = await buildImage({ seed: name })
    await using site = await syncFixture(primary.url, { eventRetryMs: [100, 60_000] })
    await pushImage(api, name, 'latest', image)
    const receivedAtMs = Date.now() - 60_000
    await site.hear({ action: 'push', repository: name, tag: 'latest', digest: A, receivedAtMs })
    await site.hear({ action: 'push', repository: name, digest: B, receivedAtMs })

    await site.run(name)

    expect(await site.freshness.confirmed(name, LATEST)).toBe(image.digest)
    expect(await site.row(name)).toMatchObject({ state: 'synced' })
  })

  it('does not let an answer that lags behind put back what was pushed through this site', async () => {
    const name = freshName()
    const first = await buildImage({ seed: name })
    const second = await buildImage({ seed: `${name} second` })
    await using site = await syncFixture(primary.url, { eventRetryMs: [1, 5, 20, 50, 100, 200, 10_000] })
    await pushImage(api, name, 'latest', second)
    await site.sync(name)
    await pushImage(api, name, 'latest', first)
    await site.hear({ action: 'push', repository: name, tag: 'latest', digest: second.digest })

    const running = site.run(name)
    await expect.poll(async () => (await site.asked()).manifest).toBeGreaterThan(2)
    expect(await site.tags(name)).toEqual({ latest: second.digest })
    await pushImage(api, name, 'latest', second)
    await running

    expect(await site.tags(name)).toEqual({ latest: second.digest })
  })

  it('without a tag brings the manifest, and its referrer, by digest', async () => {
    const name = freshName()
    await using site = await syncFixture(primary.url)
    const image = await buildImage({ seed: name })
    const signature = buildArtifact({ subject: image, payload: name })
    await pushImage(api, name, 'latest', await buildImage({ seed: `${name} other` }))
    await pushImage(api, name, undefined, image)
    await pushImage(api, name, undefined, signature)
    await site.hear(
      { action: 'push', repository: name, digest: image.digest },
      { action: 'push', repository: name, digest: signature.digest },
      { action: 'push', repository: name, digest: A },
      { action: 'mount', repository: name, digest: B },
    )

    await site.run(name)

    for (const { digest } of [image, signature]) expect(await site.whole.has(name, digest, true)).toBe(true)
    expect(await site.tracking.pendingEvents(name)).toEqual([])
  })
})

describe('an event of a delete', () => {
  it('is asked about however lately the primary confirmed what it names', async () => {
    const name = freshName()
    await using site = await syncFixture(primary.url, { reconcileMs: 3_600_000 })
    const image = await buildImage({ seed: name })
    const kept = await buildImage({ seed: `${name} kept` })
    const untagged = await buildImage({ seed: `${name} untagged` })
    for (const tag of ['one', 'two']) await pushImage(api, name, tag, image)
    for (const tag of ['three', 'four']) await pushImage(api, name, tag, untagged)
    await pushImage(api, name, 'kept', kept)
    await site.sync(name)
    await api.deleteManifest(name, image.digest)
    const tags = join(primary.root, 'docker/registry/v2/repositories', name, '_manifests/tags')
    for (const tag of ['three', 'four']) await rm(join(tags, tag), { recursive: true })
    const { manifest } = await site.asked()

    // Of the four tags that are gone, events name one and the digest of two: the list lacks all.
    await site.hear({ action: 'delete', repository: name, digest: image.digest })
    await site.hear({ action: 'delete', repository: name, tag: 'three' })
    await site.run(name)

    expect(await site.tags(name)).toEqual({ kept: kept.digest })
    expect(await site.row(name)).toMatchObject({ state: 'synced', tagsCount: 1 })
    expect((await site.asked()).manifest).toBe(manifest + 4)
  })

  it('of a digest hides every tag of it and its link, and leaves the rest', async () => {
    const name = freshName()
    await using site = await syncFixture(primary.url)
    const image = await buildImage({ seed: name })
    const kept = await buildImage({ seed: `${name} kept` })
    for (const tag of ['one', 'two', 'three']) await pushImage(api, name, tag, image)
    await pushImage(api, name, 'kept', kept)
    await site.sync(name)
    await api.deleteManifest(name, image.digest)
    await site.hear({ action: 'delete', repository: name, digest: image.digest })

    await site.run(name)

    expect(await site.tags(name)).toEqual({ kept: kept.digest })
    expect(await site.store.index.link(name, 'manifest', image.digest)).toBeUndefined()
    expect(await site.row(name)).toMatchObject({ state: 'synced', tagsCount: 1 })
  })

  it('of a blob hides the layer’s link', async () => {
    const name = freshName()
    await using site = await syncFixture(primary.url)
    const image = await buildImage({ seed: name })
    const [blob] = allBlobs(image)
    if (!blob) throw new Error('an image has a config')
    await pushImage(api, name, 'latest', image)
    await site.sync(name)
    await api.deleteBlob(name, blob.digest)
    await site.hear({ action: 'delete', repository: name, digest: blob.digest })

    await site.run(name)

    expect(await site.store.index.link(name, 'layer', blob.digest)).toBeUndefined()
  })

  it('of what the primary still has changes nothing', async () => {
    const name = freshName()
    await using site = await syncFixture(primary.url)
    const image = await buildImage({ seed: name })
    await pushImage(api, name, 'latest', image)
    await site.sync(name)
    await site.hear(
      { action: 'delete', repository: name, digest: image.digest },
      { action: 'delete', repository: name, tag: 'latest' },
      { action: 'delete', repository: name },
    )

    await site.run(name)

    expect(await site.tags(name)).toEqual({ latest: image.digest })
    expect(await site.row(name)).toMatchObject({ state: 'synced' })
  })

  it('stays in the inbox while the primary cannot say whether it still has the digest', async () => {
    const name = freshName()
    const line: { broken: boolean } = { broken: true }
    await using site = await syncFixture(primary.url, {
      upstream: (real) => ({
        ...real,
        confirmManifest: (...given) =>
          line.broken
            ? Promise.reject(new UpstreamError('faulty', 'a page'))
            : real.confirmManifest(...given),
      }),
    })
    const image = await buildImage({ seed: name })
    const kept = await buildImage({ seed: `${name} kept` })
    await pushImage(api, name, 'kept', kept)
    await pushImage(api, name, 'gone', image)
    await site.sync(name)
    await api.deleteManifest(name, image.digest)
    await site.hear(
      { action: 'push', repository: name, tag: 'kept', digest: kept.digest },
      { action: 'delete', repository: name, digest: image.digest },
    )

    await site.run(name)
    expect((await site.tracking.pendingEvents(name)).map(({ action }) => action)).toEqual(['delete'])
    expect(await site.row(name)).toMatchObject({ state: 'failed' })
    line.broken = false
    await site.sync(name)

    expect(await site.tracking.pendingEvents(name)).toEqual([])
    expect(await site.row(name)).toMatchObject({ state: 'synced' })
    expect(await site.store.index.link(name, 'manifest', image.digest)).toBeUndefined()
  })
})

describe('what was heard', () => {
  let sequence = 0
  const event = (action: StoredEvent['action'], rest: Partial<StoredEvent> = {}): StoredEvent => ({
    id: `id-${++sequence}`,
    sequence,
    action,
    repository: APP,
    tag: undefined,
    digest: undefined,
    renamedTo: undefined,
    receivedAtMs: sequence,
    ...rest,
  })

  it('expects of a tag what its last event says', () => {
    const { expected } = readEvents([
      event('push', { tag: LATEST, digest: A }),
      event('delete', { tag: LATEST }),
      event('push', { tag: LATEST, digest: B }),
    ])

    expect(expected.get(LATEST)?.digest).toBe(B)
  })

  it('is done with up to the first event that only the inbox knows of', () => {
    const none = {
      digests: new Set<typeof A>(),
      tags: new Set<typeof LATEST>(),
      awaited: new Set<typeof LATEST>(),
    }
    const events = [
      event('push', { tag: LATEST, digest: A }),
      event('push', { digest: A }),
      event('push', { digest: B }),
      event('delete', { tag: LATEST }),
    ]
    const [, second, , last] = events.map((each) => each.sequence)

    expect(appliedThrough(events, none)).toBe(last)
    expect(appliedThrough(events, { ...none, digests: new Set([B]) })).toBe(second)
    expect(appliedThrough(events, { ...none, tags: new Set([LATEST]) })).toBe((last ?? 0) - 1)
    // Also of a tag: when it is overwritten, no list names what it was.
    expect(appliedThrough(events, { ...none, digests: new Set([A]) })).toBeUndefined()
    expect(appliedThrough(events, { ...none, awaited: new Set([LATEST]) })).toBeUndefined()
    expect(appliedThrough([], none)).toBeUndefined()
  })
})
