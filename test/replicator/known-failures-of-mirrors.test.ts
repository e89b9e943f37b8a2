/**
 * What mirrors and replicas of other registries got wrong, and what registries themselves do that surprises a copy: one
 * test for each report, as `project#number` or the measured fact.
 */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pino from 'pino'
import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import { createMetrics } from '../../src/metrics.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { MEDIA_TYPES } from '../../src/oci/media-types.ts'
import type { RepositoryName } from '../../src/oci/reference.ts'
import { createDispatcher } from '../../src/upstream/dispatcher.ts'
import { createRegistryClient } from '../../src/upstream/registry-client.ts'
import { createPasswordTokenSource } from '../../src/upstream/token-source.ts'
import { nameOf } from '../store/store-fixture.ts'
import { bytesContent, contentBytes } from '../support/content.ts'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import {
  allBlobs,
  allManifests,
  buildArtifact,
  buildImage,
  buildIndex,
  buildMultiArch,
  cosignTag,
  descriptorOf,
  type Image,
} from '../support/images.ts'
import { ociError } from '../support/lies.ts'
import { startLink } from '../support/link.ts'
import { sendHonestly, startLyingPrimary } from '../support/lying-primary.ts'
import { pushImage } from '../support/push-image.ts'
import { createRegistryApi } from '../support/registry-api.ts'
import { oddManifest } from './copy-scene.ts'
import { notified } from './notified.ts'
import { APP, syncFixture } from './sync-fixture.ts'

const MiB = 1024 * 1024
const primary: DockerRegistry = await startDockerRegistry()
const api = createRegistryApi(primary.url)
afterAll(async () => {
  await api[Symbol.asyncDispose]()
  await primary[Symbol.asyncDispose]()
})

let names = 0
let name: RepositoryName
beforeEach(() => {
  name = nameOf(`group/mirror-${++names}`)
})

/** Digests of all blobs in a registry's folder, sorted. */
async function blobsIn(root: string): Promise<string[]> {
  const folders = await readdir(join(root, 'docker/registry/v2/blobs/sha256'), { recursive: true })
  return folders.filter((path) => path.endsWith('/data')).toSorted()
}

async function catalogOf(registry: DockerRegistry): Promise<unknown> {
  await using reader = createRegistryApi(registry.url)
  return JSON.parse((await reader.request('GET', '/v2/_catalog?n=1000')).body.toString('utf8'))
}

describe('a tag under way', () => {
  it('is not here before the last of its blobs is: no pull meets an unknown blob (docker-registry-proxy#147, #51)', async () => {
    await using liar = await startLyingPrimary()
    await using site = await syncFixture(liar.url)
    const index = await buildMultiArch({ seed: name })
    const [last] = index.children[1]?.blobs.slice(-1) ?? []
    await liar.hold(APP, index, 'latest')
    const gate = liar.gate('GET', `/v2/${APP}/blobs/${last?.digest}`)

    const running = site.sync()
    await expect.poll(() => liar.asked('GET', /\/blobs\//).length).toBe(allBlobs(index).length)

    expect(await site.tags()).toEqual({})
    for (const digest of [index.digest, index.children[1]?.digest ?? index.digest]) {
      expect(await site.store.index.link(APP, 'manifest', digest)).toBeUndefined()
    }
    gate.open()
    await running
    expect(await site.tags()).toEqual({ latest: index.digest })
  })

  it('does not keep the other tags of its repository waiting (Quay’s “cannot be mirrored in parallel”)', async () => {
    await using liar = await startLyingPrimary()
    await using site = await syncFixture(liar.url)
    const slow = await buildImage({ seed: `${name} slow` })
    await liar.hold(APP, slow, 'a-slow')
    for (const at of [1, 2, 3]) await liar.hold(APP, await buildImage({ seed: `${name} ${at}` }), `v${at}`)
    const gate = liar.gate('GET', `/v2/${APP}/blobs/${slow.blobs[1]?.digest}`)

    const running = site.sync()

    await expect.poll(async () => Object.keys(await site.tags())).toEqual(['v1', 'v2', 'v3'])
    gate.open()
    await running
    expect(await site.row()).toMatchObject({ state: 'synced', tagsCount: 4 })
  })

  it('that is cut off goes on where it was instead of from the beginning (harbor#15150, #16393, zot#4357)', async () => {
    await using link = await startLink({ target: primary.url, connectionBytesPerSecond: 16 * MiB })
    await using site = await syncFixture(link.url)
    const image = await buildImage({ seed: name, layers: [16 * MiB], gzip: false })
    await pushImage(api, name, 'large', image)
    const stop = new AbortController()

    const cut = site.sync(name, stop.signal)
    await expect.poll(() => link.counts().down, { timeout: 10_000 }).toBeGreaterThan(8 * MiB)
    stop.abort(new Error('the site shuts down'))
    await cut
    expect(await site.tags(name)).toEqual({})
    const before = link.counts().down
    await site.sync(name)

    expect(await site.tags(name)).toEqual({ large: image.digest })
    expect(link.counts().down - before).toBeLessThan(12 * MiB)
  })
})

describe('an image whose copy takes longer than a token lives', () => {
  it('is copied all the same: each request has a token that is still good (GL#384862, GL!114511)', async () => {
    await using liar = await startLyingPrimary()
    await using owned = new AsyncDisposableStack()
    let issued = 0
    const firstSeenMs = new Map<string, number>()
    liar.lie('GET', /^\/token/, (ask) => {
      const body = Buffer.from(JSON.stringify({ token: `token-${++issued}` }))
      sendHonestly({ ...ask, honest: { status: 200, headers: { 'content-type': 'application/json' }, body } })
    })
    liar.lie('*', /^\/v2\//, async (ask) => {
      const token = ask.request.headers.authorization ?? ''
      const seenMs = firstSeenMs.get(token) ?? performance.now()
      firstSeenMs.set(token, seenMs)
      const challenge = { 'www-authenticate': `Bearer realm="${liar.url}/token",service="registry"` }
      if (!token || performance.now() - seenMs > 150) return ociError(401, 'UNAUTHORIZED', challenge)(ask)
      if (ask.request.url?.includes('/blobs/')) await delay(60)
      sendHonestly(ask)
    })
    await using site = await syncFixture(liar.url, {
      upstream: () => {
        const log = pino({ level: 'silent' })
        const dispatcher = createDispatcher({ metrics: createMetrics(), log }, { origin: liar.url })
        owned.defer(() => dispatcher.close())
        const login = () => ({ username: 'site', password: 'secret' })
        const tokens = createPasswordTokenSource(dispatcher, { login })
        const breaker = { failed: () => undefined, succeeded: () => undefined }
        return createRegistryClient({ dispatcher, tokens, breaker })
      },
    })
    const image = await buildImage({ seed: name, layers: Array.from({ length: 30 }, () => 1000) })
    await liar.hold(APP, image, 'latest')

    await site.sync()

    expect(issued).toBeGreaterThan(2)
    expect(await site.row()).toMatchObject({ state: 'synced', lastSyncFailure: undefined })
    expect(await site.whole.has(APP, image.digest, true)).toBe(true)
  })
})

describe('a registry that is copied whole', () => {
  it('is the same set of files here, each once, whatever was shared (harbor#22644, #18575, zot#2254)', async () => {
    await using whole = await startDockerRegistry()
    await using pusher = createRegistryApi(whole.url)
    await using site = await syncFixture(whole.url)
    const image = await buildImage({ seed: name })
    const repositories: Record<string, Record<string, Image>> = {
      'team/app': { v1: image, latest: image },
      // The same layers under another path: there they are linked, by the primary's word, and never fetched.
      'team/app/copy': { v1: image, all: buildIndex([image]) },
      'team/tools': { v1: await buildMultiArch({ seed: `${name} tools` }) },
      // Distribution 2.8 finds repositories by `_layers`, 3 by `_manifests`; this one has no layer of its own.
      'team/nothing': { empty: buildIndex([]) },
    }
    for (const [to, tags] of Object.entries(repositories)) {
      for (const [tag, pushed] of Object.entries(tags)) await pushImage(pusher, to, tag, pushed)
    }

    for (const each of Object.keys(repositories)) await site.sync(nameOf(each))

    expect(await blobsIn(site.root)).toEqual(await blobsIn(whole.root))
    await using served = await startDockerRegistry({ root: site.root, readonly: true })
    await using reader = createRegistryApi(served.url)
    for (const [from, tags] of Object.entries(repositories)) {
      for (const [tag, pushed] of Object.entries(tags)) {
        expect((await reader.getManifest(from, tag)).digest).toBe(pushed.digest)
        for (const { digest } of allManifests(pushed)) {
          expect((await reader.getManifest(from, digest)).status).toBe(200)
        }
        for (const { digest } of allBlobs(pushed)) {
          expect((await reader.getBlob(from, digest)).digest).toBe(digest)
        }
      }
    }
    const repositoriesHere = ['team/app', 'team/app/copy', 'team/nothing', 'team/tools']
    expect(await catalogOf(served)).toEqual({ repositories: repositoriesHere })
  })

  it('brings a layer that is named by its sha512, which Distribution keeps under its sha256', async () => {
    await using site = await syncFixture(primary.url)
    const config = bytesContent(Buffer.from('{}'), 'application/vnd.oci.empty.v1+json')
    const layer = bytesContent(Buffer.from(`layer of ${name}`))
    const sha512 = digestOf(await contentBytes(layer), 'sha512')
    expect((await api.pushBlob(name, { ...layer, digest: sha512 })).status).toBe(201)
    const image = oddManifest(
      MEDIA_TYPES.ociManifest,
      { config: descriptorOf(config), layers: [{ ...descriptorOf(layer), digest: sha512 }] },
      { blobs: [config] },
    )
    await pushImage(api, name, 'v1', image)

    await site.sync(name)

    expect(await site.row(name)).toMatchObject({ state: 'synced', lastSyncFailure: undefined })
    await using served = await startDockerRegistry({ root: site.root, readonly: true })
    await using reader = createRegistryApi(served.url)
    const answer = await reader.getBlob(name, sha512)
    expect([answer.status, answer.digest]).toEqual([200, layer.digest])
  })
})

describe('signatures and other referrers', () => {
  it('follow their image when they are pushed after it, tagged or not (zot#4060)', async () => {
    await using site = await syncFixture(primary.url)
    const image = await buildImage({ seed: name })
    await pushImage(api, name, 'v1', image)
    await site.sync(name)
    const signature = buildArtifact({ subject: image, payload: `${name} signature` })
    const cosigned = buildArtifact({ payload: `${name} cosign` })
    await pushImage(api, name, undefined, signature)
    await pushImage(api, name, cosignTag(image), cosigned)
    const events = [{ digest: signature.digest }, { digest: cosigned.digest, tag: cosignTag(image) }].map(
      (said, at) => ({
        id: `push-${name}-${at}`,
        action: 'push',
        target: { repository: name, mediaType: MEDIA_TYPES.ociManifest, ...said },
      }),
    )

    await notified(site, ...events)
    await site.run(name)

    expect(await site.tags(name)).toMatchObject({ [cosignTag(image)]: cosigned.digest })
    for (const { digest } of [signature, cosigned]) {
      expect(await site.whole.has(name, digest, true)).toBe(true)
    }
  })

  it('are gone when they are deleted there, and their image stays (harbor#19098)', async () => {
    await using site = await syncFixture(primary.url)
    const image = await buildImage({ seed: name })
    const signature = buildArtifact({ subject: image, payload: `${name} signature` })
    await pushImage(api, name, 'v1', image)
    await pushImage(api, name, undefined, signature)
    await site.hear({ action: 'push', repository: name, digest: signature.digest })
    await site.run(name)
    expect(await site.store.index.link(name, 'manifest', signature.digest)).toBeDefined()
    expect((await api.deleteManifest(name, signature.digest)).status).toBe(202)

    await notified(site, {
      id: `delete-${name}`,
      action: 'delete',
      target: { repository: name, digest: signature.digest },
    })
    await site.run(name)

    expect(await site.store.index.link(name, 'manifest', signature.digest)).toBeUndefined()
    expect(await site.tags(name)).toEqual({ v1: image.digest })
    expect(await site.whole.has(name, image.digest, true)).toBe(true)
  })
})

describe('notifications', () => {
  it('do not pile up: what one job has seen to is gone, however much it was (distribution#324, #2422)', async () => {
    await using site = await syncFixture(primary.url)
    const image = await buildImage({ seed: name })
    await pushImage(api, name, 'latest', image)
    const target = { repository: name, tag: 'latest', digest: image.digest, mediaType: image.mediaType }
    const events = Array.from({ length: 3000 }, (_, at) => ({
      id: `storm-${name}-${at}`,
      action: ['push', 'mount', 'pull', 'push'][at % 4] ?? 'push',
      target,
    }))
    await notified(site, ...events)
    expect((await site.tracking.counts()).eventsPending).toBe(2250)

    await site.run(name)

    expect((await site.tracking.counts()).eventsPending).toBe(0)
    expect((await site.asked())['manifest']).toBe(1)
    expect(await site.row(name)).toMatchObject({ state: 'synced' })
  })

  it('of a kind that nobody knows yet cost none of those beside them (GL#386389, GL!108687)', async () => {
    await using site = await syncFixture(primary.url)
    const image = await buildImage({ seed: name })
    await pushImage(api, name, 'latest', image)

    await notified(
      site,
      { id: 'x-1', action: 'promote', target: { repository: name, tag: 'latest' } },
      { id: 'x-2', action: 'push', target: { repository: 'Not/A_Name!', tag: 'latest' } },
      {
        id: 'x-3',
        action: 'push',
        target: { repository: name, tag: 'latest', digest: image.digest, new: [1] },
      },
    )
    await site.run(name)

    expect(await site.tags(name)).toEqual({ latest: image.digest })
    expect((await site.tracking.counts()).eventsPending).toBe(0)
  })

  it('of one tag that is pushed all the time leave the others confirmed (GitLab’s “perpetually out-of-date”)', async () => {
    await using site = await syncFixture(primary.url)
    const image = await buildImage({ seed: name })
    await pushImage(api, name, 'stable', image)
    await pushImage(api, name, 'nightly', image)
    await site.sync(name)
    const [stable, nightly] = (await site.store.holdings.tags(name)).toReversed()
    if (!stable || !nightly) throw new Error('both were copied')

    for (let at = 0; at < 5; at++) {
      const next = await buildImage({ seed: `${name} ${at}`, layers: [500] })
      await pushImage(api, name, 'nightly', next)
      await notified(site, {
        id: `nightly-${name}-${at}`,
        action: 'push',
        target: { repository: name, tag: 'nightly', digest: next.digest, mediaType: next.mediaType },
      })
      expect(await site.freshness.confirmed(name, nightly)).toBeUndefined()
      expect(await site.freshness.confirmed(name, stable)).toBe(image.digest)
      await site.run(name)
      expect(await site.freshness.confirmed(name, nightly)).toBe(next.digest)
    }
  })
})
