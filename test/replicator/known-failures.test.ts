/**
 * What GitLab Geo's container replication got wrong, one test for each report that concerns copying: GL# and GL! are
 * gitlab-org/gitlab. What other registries' mirrors got wrong is in `known-failures-of-mirrors.test.ts`.
 */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import type { RepositoryName } from '../../src/oci/reference.ts'
import { nameOf } from '../store/store-fixture.ts'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { startGitlabApi } from '../support/gitlab-api.ts'
import {
  allBlobs,
  allManifests,
  buildArtifact,
  buildImage,
  buildIndex,
  buildMultiArch,
  cosignTag,
  type Image,
} from '../support/images.ts'
import { html, ociError } from '../support/lies.ts'
import { startLyingPrimary } from '../support/lying-primary.ts'
import { pushImage } from '../support/push-image.ts'
import { createRegistryApi } from '../support/registry-api.ts'
import { buildkitCache } from './copy-scene.ts'
import { notified } from './notified.ts'
import { APP, type SyncFixture, syncFixture } from './sync-fixture.ts'

const primary: DockerRegistry = await startDockerRegistry()
const api = createRegistryApi(primary.url)
afterAll(async () => {
  await api[Symbol.asyncDispose]()
  await primary[Symbol.asyncDispose]()
})

let names = 0
let name: RepositoryName
beforeEach(() => {
  name = nameOf(`group/known-${++names}`)
})

const OCI_INDEX = 'application/vnd.oci.image.index.v1+json'
const tagsFolder = (of: string) =>
  join(primary.root, 'docker/registry/v2/repositories', of, '_manifests/tags')
const deleteTag = (tag: string) => rm(join(tagsFolder(name), tag), { recursive: true })

async function push(tags: Readonly<Record<string, Image>>, to: string = name): Promise<void> {
  for (const [tag, image] of Object.entries(tags)) await pushImage(api, to, tag, image)
}

/** Every tag with all under it, as an unchanged docker-registry serves it from the site's folder. */
async function expectServed(site: SyncFixture, tags: Readonly<Record<string, Image>>): Promise<void> {
  await using registry = await startDockerRegistry({ root: site.root, readonly: true })
  await using reader = createRegistryApi(registry.url)
  const listed = JSON.parse((await reader.tags(name)).body.toString('utf8')) as { tags: string[] }
  expect(new Set(listed.tags)).toEqual(new Set(Object.keys(tags)))
  for (const [tag, image] of Object.entries(tags)) {
    const answer = await reader.getManifest(name, tag)
    expect([tag, answer.status, answer.digest]).toEqual([tag, 200, image.digest])
    for (const { digest } of allManifests(image)) {
      expect((await reader.getManifest(name, digest)).digest).toBe(digest)
    }
    for (const { digest } of allBlobs(image)) expect((await reader.getBlob(name, digest)).digest).toBe(digest)
  }
}

describe('a repository of everything that GitLab’s own users push', () => {
  it('is here whole, and an unchanged docker-registry serves all of it (GL#600486, GL#600487, GL#336013)', async () => {
    await using site = await syncFixture(primary.url)
    const image = await buildImage({ seed: name })
    const bare = await buildImage({ seed: `${name} bare`, declareMediaType: false })
    const tags = {
      image,
      docker: await buildMultiArch({ seed: `${name} docker`, format: 'docker' }),
      // Children without a type are what buildkit writes; the index without one is what HEAD without its type hides.
      'no-type': buildIndex([bare], { declareMediaType: false }),
      index: await buildMultiArch({ seed: `${name} oci`, architectures: ['amd64', 'arm64', 's390x'] }),
      nested: buildIndex([buildIndex([image]), bare]),
      'empty-index': buildIndex([]),
      'config-only': await buildImage({ seed: `${name} config`, layers: [] }),
      cache: buildkitCache(OCI_INDEX),
      sbom: buildArtifact({ subject: image, payload: 'sbom' }),
      [cosignTag(image)]: buildArtifact({ payload: 'signature' }),
    }
    await push(tags)

    await site.sync(name)

    expect(await site.row(name)).toMatchObject({ state: 'synced', tagsCount: 10, failingTagsCount: 0 })
    await expectServed(site, tags)
  })

  it('has its index tag followed to another index, which a HEAD without its type would call the same (GL#600486)', async () => {
    await using site = await syncFixture(primary.url)
    await push({ latest: await buildMultiArch({ seed: `${name} old` }) })
    await site.sync(name)
    const moved = await buildMultiArch({ seed: `${name} new` })
    await push({ latest: moved })

    await site.sync(name)

    expect(await site.tags(name)).toEqual({ latest: moved.digest })
    await expectServed(site, { latest: moved })
  })

  it('gets an index that was pushed by digest alone, of which Geo hears nothing', async () => {
    await using site = await syncFixture(primary.url)
    const index = await buildMultiArch({ seed: name })
    await push({ other: await buildImage({ seed: `${name} other` }) })
    await pushImage(api, name, undefined, index)
    await site.hear({ action: 'push', repository: name, digest: index.digest })

    await site.run(name)

    expect(await site.whole.has(name, index.digest, true)).toBe(true)
  })
})

describe('a tag', () => {
  it('that is deleted by its name goes alone, though another one has its digest, and stays gone (GL#465580)', async () => {
    await using site = await syncFixture(primary.url)
    const image = await buildImage({ seed: name })
    await push({ kept: image, gone: image })
    await site.sync(name)
    await deleteTag('gone')
    await site.hear({ action: 'delete', repository: name, tag: 'gone' })

    await site.run(name)

    expect(await site.tags(name)).toEqual({ kept: image.digest })
    expect(await site.store.index.link(name, 'manifest', image.digest)).toBeDefined()
    expect(await site.whole.has(name, image.digest, true)).toBe(true)
    await site.sync(name)
    expect(await site.row(name)).toMatchObject({ state: 'synced', tagsCount: 1, retryCount: 0 })
  })

  it('that is another image there than here is mended, an extra one goes, and both sides count the same (GL#458428)', async () => {
    await using site = await syncFixture(primary.url)
    const old = await buildImage({ seed: `${name} old` })
    const now = await buildImage({ seed: `${name} now` })
    await push({ differs: old, extra: old, Same: now, 'same-too': now })
    await site.sync(name)
    await push({ differs: now })
    await deleteTag('extra')

    await site.sync(name)

    expect(await site.tags(name)).toEqual({ differs: now.digest, Same: now.digest, 'same-too': now.digest })
    const row = await site.row(name)
    expect(row).toMatchObject({ state: 'synced', verificationState: 'succeeded', checksumMismatch: false })
  })

  it('has the same checksum however often and by whichever list it is compared (GL#442667, GL#577445)', async () => {
    await using gitlab = await startGitlabApi(primary)
    await using one = await syncFixture(primary.url)
    await using other = await syncFixture(gitlab.url)
    const image = await buildImage({ seed: name })
    await push({ b: image, A: image, 'a.1': image, a: await buildMultiArch({ seed: name }), _: image })

    for (const site of [one, other, one, other]) await site.sync(name)

    const rows = await Promise.all([one, other].map((site) => site.row(name)))
    expect(rows.map((row) => row.verificationChecksum)).toEqual(Array(2).fill(rows[0]?.verificationChecksum))
    expect(rows).toMatchObject(Array(2).fill({ verificationState: 'succeeded', state: 'synced' }))
  })

  it('that is overwritten keeps what it was before pullable by digest (GL#590744)', async () => {
    await using site = await syncFixture(primary.url)
    const builds = await Promise.all([1, 2, 3, 4].map((at) => buildImage({ seed: `${name} ${at}` })))
    const event = (build: Image | undefined) =>
      ({ action: 'push', repository: name, tag: 'latest', digest: build?.digest }) as const
    for (const build of builds.slice(0, 1)) {
      await push({ latest: build })
      await site.hear(event(build))
      await site.run(name)
    }
    // Three builds in the time of one job: nobody ever saw the two in the middle under their tag.
    for (const build of builds.slice(1)) await push({ latest: build })
    await site.hear(...builds.slice(1).map(event))

    await site.run(name)

    expect(await site.tags(name)).toEqual({ latest: builds.at(-1)?.digest })
    const whole = await Promise.all(builds.map(({ digest }) => site.whole.has(name, digest, true)))
    expect(whole).toEqual([true, true, true, true])
    await using registry = await startDockerRegistry({ root: site.root, readonly: true })
    await using reader = createRegistryApi(registry.url)
    for (const { digest } of builds) expect((await reader.getManifest(name, digest)).digest).toBe(digest)
  })
})

describe('an image that was overwritten before it could be copied', () => {
  it('is copied later by its event, which stays in the inbox until then (GL#590744)', async () => {
    const [old, now] = await Promise.all(
      ['old', 'now'].map((seed) => buildImage({ seed: `${name} ${seed}` })),
    )
    if (!old || !now) throw new Error('both were built')
    const line: { broken: boolean } = { broken: true }
    await using site = await syncFixture(primary.url, {
      copying: (real) => ({
        ...real,
        copyByDigest: (...given) =>
          line.broken ? Promise.reject(new Error('the line broke')) : real.copyByDigest(...given),
      }),
    })
    await push({ latest: old })
    await push({ latest: now })
    for (const { digest } of [old, now]) {
      await site.hear({ action: 'push', repository: name, tag: 'latest', digest })
    }

    await site.run(name)
    expect(await site.tags(name)).toEqual({ latest: now.digest })
    expect(await site.row(name)).toMatchObject({ state: 'failed', failingTagsCount: 0 })
    expect(await site.tracking.pendingEvents(name)).toHaveLength(2)
    line.broken = false
    await site.sync(name)

    expect(await site.whole.has(name, old.digest, true)).toBe(true)
    expect(await site.row(name)).toMatchObject({ state: 'synced' })
    expect(await site.tracking.pendingEvents(name)).toEqual([])
  })
})

describe('a repository that cannot be copied', () => {
  it.each([
    ['a sign-in page', html(200)],
    ['an ingress without a backend', html(404)],
    ['a registry that does not trust the issuer', ociError(401, 'UNAUTHORIZED')],
    ['an API that is no registry', ociError(404, 'NOT_FOUND')],
  ])('is not called synced: %s is all that the URL answers (GL#431944, GL!148105)', async (_what, lie) => {
    await using liar = await startLyingPrimary()
    await using site = await syncFixture(liar.url)
    liar.lie('*', /./, lie)

    await site.sync()

    const row = await site.row()
    expect(row).toMatchObject({ state: 'failed', verificationState: 'pending', missingOnPrimary: false })
    expect(row.lastSyncedAtMs).toBeUndefined()
    expect(row.lastSyncFailure).toMatch(/\S/)
    expect((await site.tracking.counts()).byState.synced).toBe(0)
    expect(await site.store.holdings.completeSince(APP)).toBeUndefined()
  })

  it('waits longer after each failure, and no event sets that back to its beginning (GL!253811)', async () => {
    let nowMs = Date.now()
    await using liar = await startLyingPrimary()
    await using site = await syncFixture(liar.url, { now: () => nowMs })
    liar.lie('*', /./, ociError(403, 'DENIED'))
    const delays: number[] = []

    await site.sync()
    for (let failures = 1; failures <= 8; failures++) {
      const { retryCount, retryAtMs = 0 } = await site.row()
      expect(retryCount).toBe(failures)
      delays.push(retryAtMs - nowMs)
      await site.run() // Its time has not come.
      expect((await site.row()).retryCount).toBe(failures)
      if (failures % 2 === 0) await site.hear({ action: 'push', tag: 'latest' })
      else nowMs = retryAtMs
      await site.run()
    }

    // n⁴ + 15 s and up to 30·(n + 1) s: what the eighth waits, a first attempt never does.
    expect(delays[0]).toBeLessThan(76_000)
    expect(delays[7]).toBeGreaterThanOrEqual(3_300_000)
    expect(Math.max(...delays)).toBeLessThanOrEqual(3_600_000)
  })

  it('is taken over when its process died in the middle, and not stuck as started (GL#337752, GL#301249)', async () => {
    let nowMs = Date.now()
    await using site = await syncFixture(primary.url, { now: () => nowMs })
    const image = await buildImage({ seed: name })
    await push({ latest: image })
    await site.tracking.touch([name], { priority: 2 })
    await site.tracking.lease(name, 300_000) // By a process of which nothing was heard again.
    await site.run(name)
    expect(await site.row(name)).toMatchObject({ state: 'started' })

    nowMs += 300_001
    expect((await site.tracking.due(nowMs, 10)).map(({ path }) => path)).toEqual([name])
    await site.run(name)

    expect(await site.row(name)).toMatchObject({ state: 'synced' })
    expect(await site.tags(name)).toEqual({ latest: image.digest })
  })
})

describe('a repository with many tags', () => {
  it('is read to its last page, and when unchanged costs the pages alone (GL#398155, Geo’s 10 000 tags)', async () => {
    await using gitlab = await startGitlabApi(primary)
    await using site = await syncFixture(gitlab.url, {
      // As a registry that gives no more than 50 at a time, whatever it is asked for.
      upstream: (real) => ({
        ...real,
        forward: (ask) => real.forward({ ...ask, url: ask.url.replace('n=1000', 'n=50') }),
      }),
    })
    const image = await buildImage({ seed: name, layers: [1000] })
    await push({ 'v-0': image })
    for (let at = 1; at < 120; at++) await api.putManifest(name, `v-${at}`, image.bytes, image.mediaType)
    await site.sync(name)
    expect(Object.keys(await site.tags(name))).toHaveLength(120)
    const asked = gitlab.requests.length

    await site.sync(name)

    const lists = new RegExp(`^GET /gitlab/v1/repositories/${name}/tags/list/\\?`)
    expect(gitlab.requests.slice(asked).map((line) => lists.test(line))).toEqual([true, true, true])
    expect(await site.row(name)).toMatchObject({ state: 'synced', tagsCount: 120 })
  })
})

describe('a repository that moves or goes', () => {
  it('is here under its new path and gone under the old one, with all beneath it, and trips no brake (GL#495147, CR#1357)', async () => {
    await using gitlab = await startGitlabApi(primary)
    await using site = await syncFixture(gitlab.url, {
      brake: (real) => ({ ...real, allows: async () => false }), // A rename is no surprise: it may not be asked.
    })
    const [from, to] = [`${name}/old`, `${name}/new`]
    const parts = ['', '/sub', '/sub/deeper']
    for (const part of parts) {
      await push({ v1: await buildImage({ seed: `${name}${part}` }) }, from + part)
      await site.sync(nameOf(from + part))
    }
    const before = await site.tags(nameOf(`${from}/sub`))
    const { blob } = await site.asked()
    const moved = await fetch(`${gitlab.url}/gitlab/v1/repositories/${from}/`, {
      method: 'PATCH',
      body: JSON.stringify({ name: 'new' }),
    })
    expect(moved.status).toBe(204)

    await notified(site, {
      id: 'rename-1',
      action: 'rename',
      target: { repository: from, rename: { type: 'name', from, to } },
    })
    for (const path of [...parts.map((part) => from + part), ...parts.map((part) => to + part)]) {
      await site.run(nameOf(path))
    }

    expect(await site.tags(nameOf(`${to}/sub`))).toEqual(before)
    for (const part of parts) {
      expect(await site.tags(nameOf(from + part))).toEqual({})
      expect(await site.tracking.find(nameOf(from + part))).toBeUndefined()
      expect(await site.row(nameOf(to + part))).toMatchObject({ state: 'synced', tagsCount: 1 })
    }
    expect((await site.asked())['blob']).toBe(blob) // Nothing was downloaded again.
    expect((await site.tracking.counts()).eventsPending).toBe(0)
  })

  it('leaves nothing that could be pulled when its project is deleted, though no event told of it (GL#231264)', async () => {
    await using site = await syncFixture(primary.url)
    const image = await buildMultiArch({ seed: name })
    await push({ v1: image })
    await site.sync(name)
    await rm(join(tagsFolder(name), '../..'), { recursive: true })
    await primary.restart() // It remembers what it had.

    await site.sync(name)

    expect(await site.tags(name)).toEqual({})
    for (const { digest } of allManifests(image)) {
      expect(await site.store.index.link(name, 'manifest', digest)).toBeUndefined()
    }
    for (const { digest } of allBlobs(image)) {
      expect(await site.store.index.link(name, 'layer', digest)).toBeUndefined()
    }
    expect(await site.tracking.find(name)).toBeUndefined()
  })
})
