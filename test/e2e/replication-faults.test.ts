/** Whatever ends or goes away while the site keeps in step: it converges without a hand. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { describe, expect, it } from 'vitest'
import { buildImage, type Image } from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import { until } from '../support/wait.ts'
import { type Ingress, startIngress } from './ingress.ts'
import { registryFolder } from './registry-folder.ts'
import { type ReplicatedSite, startReplicatedSite } from './replicated-site.ts'
import { expectSoundStore, filesBelow } from './store-files.ts'

// These two have sites of their own, and run side by side.
describe.concurrent('a site that is killed again and again while it copies', () => {
  it('converges, with a sound store and nearly nothing fetched twice', async () => {
    const repositories = ['kill/a', 'kill/b', 'kill/c']
    await using site = await startReplicatedSite({ repositories })
    const { root } = site.one.site
    site.link.shape({ bytesPerSecond: 4 * 1024 * 1024 })
    const images = await Promise.all(
      Array.from({ length: 12 }, (_, number) =>
        buildImage({ seed: `kill ${number}`, gzip: false, layers: [300_000, 100_000, 100_000] }),
      ),
    )
    const pushing = pushAll(site, repositories, images)

    for (let kills = 1; kills <= 3; kills++) {
      // At another moment each time: a few more files than when it was last started, wherever they lie.
      const more = (await filesBelow(root)).length + 1 + Math.floor(Math.random() * 40)
      await until(async () => (await filesBelow(root)).length >= more || (await isDone(site, images)), {
        what: 'the next kill',
        deadlineMs: 20_000,
        everyMs: 20,
      })
      await site.one.site.kill()
      await expectSoundStore(root)
      haveWaited(site)
      await site.one.site.start()
    }
    await pushing
    await site.converged(30_000)

    await expectSoundStore(root)
    expect(await site.status()).toMatchObject({ failing_tags: 0, events_pending: 0, in_step: true })
    const wholeBytes = images.flatMap(({ blobs }) => blobs).reduce((sum, blob) => sum + blob.sizeBytes, 0)
    expect(site.link.counts().down).toBeLessThan(wholeBytes * 1.5)
  })
})

describe.concurrent('a primary that is away for a while', () => {
  it('finds all its tags here when it is back; nothing was removed, and pulls went on meanwhile', async () => {
    await using site = await startReplicatedSite({ repositories: ['team/app', 'team/new'] })
    const before = await buildImage({ seed: 'before', layers: [1000] })
    await pushImage(site.there, 'team/app', 'v1', before)
    await site.converged()

    site.link.refuse()
    site.link.cut()
    const during = await buildImage({ seed: 'during', layers: [1000] })
    await pushImage(site.there, 'team/app', 'v2', during)
    await pushImage(site.there, 'team/new', 'v1', during)
    await until(async () => (await site.rows()).every(({ state }) => state === 'failed'), {
      what: 'the jobs to give up for now',
      deadlineMs: 20_000,
    })
    const status = await site.status()
    expect(status).toMatchObject({ in_step: false, needs_attention: 0 })
    expect((await site.here.getManifest('team/app', 'v1')).digest).toBe(before.digest)

    // A site that is started anew meanwhile does not take what it cannot ask about for gone.
    const here = await registryFolder(site.one.site.root).allTags()
    await site.one.site.restart()
    expect(await registryFolder(site.one.site.root).allTags()).toEqual(here)

    await site.link.accept()
    haveWaited(site)

    await site.converged()
    expect((await site.here.getManifest('team/new', 'v1')).digest).toBe(during.digest)
  })
})

describe('a repository that fails for ever', () => {
  it('delays no other, whether the primary lacks its content or never answers for it', async () => {
    let ingress: Ingress | undefined
    await using site = await startReplicatedSite({
      repositories: ['bad/absent', 'bad/silent', 'good/one', 'good/two'],
      config: { replication: { concurrency: 2 } },
      front: async (url) => {
        ingress = await startIngress(url)
        return ingress
      },
    })
    ingress?.answers((target) => (target.startsWith('/v2/bad/silent/') ? 'silence' : undefined))
    const lost = await buildImage({ seed: 'lost', layers: [1000, 2000] })
    await site.admin('POST', '/pause')
    await pushImage(site.there, 'bad/absent', 'v1', lost)
    await pushImage(site.there, 'bad/silent', 'v1', await buildImage({ seed: 'silent', layers: [1000] }))
    for (const { digest } of lost.blobs) await rm(registryFolder(site.primary.root).blob(digest))
    await site.admin('POST', '/resume')
    await until(async () => (await rowOf(site, 'bad/absent'))?.state === 'failed', { what: 'it to fail' })

    for (const name of ['good/one', 'good/two']) {
      await pushImage(site.there, name, 'v1', await buildImage({ seed: name, layers: [1000] }))
    }
    await until(
      async () => {
        const states = await Promise.all(['good/one', 'good/two'].map((name) => rowOf(site, name)))
        return states.every((row) => row?.state === 'synced')
      },
      { what: 'the others to be in step', deadlineMs: 5000 },
    )

    expect(await rowOf(site, 'bad/silent')).toMatchObject({ state: 'started' })
    expect(await site.status()).toMatchObject({ in_step: false, failing_tags: 1 })
  })
})

async function pushAll(site: ReplicatedSite, names: readonly string[], images: readonly Image[]) {
  for (const [number, image] of images.entries()) {
    await pushImage(site.there, names[number % names.length] ?? '', `v${number}`, image)
  }
}

async function isDone(site: ReplicatedSite, images: readonly Image[]): Promise<boolean> {
  return Object.keys(await registryFolder(site.one.site.root).allTags()).length === images.length
}

async function rowOf(site: ReplicatedSite, path: string) {
  return (await site.rows()).find((row) => row.path === path)
}

/** Failed jobs wait at least 15 s before they are tried again, and those of a killed process as long: as if that had passed. */
function haveWaited(site: ReplicatedSite): void {
  using database = new DatabaseSync(join(site.one.site.root, 'geo-registry/tracking.db'), { timeout: 5000 })
  const nowMs = Date.now()
  database.prepare(`update tracked_repositories set retry_at = ? where state = 'failed'`).run(nowMs)
  database.prepare(`update tracked_repositories set lease_expires_at = ? where state = 'started'`).run(nowMs)
}
