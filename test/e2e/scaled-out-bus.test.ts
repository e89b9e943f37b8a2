/** What the processes of one site tell each other: misses of clients, damage that was found, the traffic clients cause. */
import { open } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { createStorePaths } from '../../src/store/paths.ts'
import { randomContent } from '../support/content.ts'
import { buildImage, type Image } from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import { until } from '../support/wait.ts'
import { type ScaledOutSite, startScaledOutSite } from './scaled-out-site.ts'
import { isPublished } from './store-files.ts'

const NAME = 'team/app'
const MIB = 1024 * 1024

// Each has a site of its own.
describe.concurrent('the replicator', () => {
  it('hears of what clients of either proxy met and of what they wrote, without a single notification', async () => {
    await using site = await startScaledOutSite({
      repositories: [NAME, 'team/web', 'team/own'],
      notified: false,
    })
    await until(async () => (await site.status()).reconcile?.last_pass_timestamp, { what: 'the first pass' })
    const [asked, other, web] = await Promise.all(
      ['asked', 'other', 'web'].map((seed) => buildImage({ seed })),
    )
    if (!asked || !other || !web) return expect.unreachable('three were made')
    await pushImage(site.there, NAME, 'asked', asked)
    await pushImage(site.there, NAME, 'other', other)
    await pushImage(site.there, 'team/web', 'v1', web)

    expect((await site.a.getManifest(NAME, 'asked')).status).toBe(200)
    expect((await site.b.getManifest('team/web', 'v1')).status).toBe(200)
    await pushImage(site.b, 'team/own', 'v1', web)

    await allHere(site, [asked, other, web])
    await until(async () => (await site.status()).container_repositories_synced_count === 3, {
      what: 'every repository to be tracked and in step',
    })
  })

  it('has every proxy let go of a blob that it found damaged', async () => {
    await using site = await startScaledOutSite({
      repositories: [NAME],
      replicatorConfig: { replication: { scrub: '2s' } },
    })
    const image = await buildImage({ seed: 'damaged', layers: [4 * MIB], gzip: false })
    const layer = image.blobs.find(({ sizeBytes }) => sizeBytes > MIB)
    if (!layer) return expect.unreachable('it has a layer')
    await pushImage(site.a, NAME, 'v1', image)
    await site.inStep()
    for (const api of [site.a, site.b])
      expect((await api.getBlob(NAME, layer.digest)).digest).toBe(layer.digest)

    // The file that the proxies have open, as a disk would damage it.
    await using file = await open(createStorePaths(site.root).blob(layer.digest), 'r+')
    await file.write(Buffer.from('damage'), 0, 6, MIB)

    for (const api of [site.a, site.b]) {
      await until(async () => (await api.getBlob(NAME, layer.digest)).digest === layer.digest, {
        what: `${api.url} to serve the blob as it should be`,
        deadlineMs: 20_000,
      })
    }
  })
})

// Alone: it tells how long a client waits.
describe('the replicator', () => {
  it('stands back for what clients of the proxies cause on the line', async () => {
    await using site = await startScaledOutSite({
      repositories: [NAME, 'busy/app'],
      config: { replication: { modes: [{ pattern: 'busy/*', mode: 'ondemand' }] } },
      replicatorConfig: { replication: { bandwidth: '4MB/s' } },
    })
    const blob = await randomContent(40 * MIB, { seed: 'what a client wants' })
    await site.there.pushBlob('busy/app', blob)
    const image = await buildImage({ seed: 'what is copied', layers: [1000] })

    // The client is not held up; what it took is more than the replicator could have in five seconds.
    const startedAt = performance.now()
    expect((await site.a.getBlob('busy/app', blob.digest)).digest).toBe(blob.digest)
    const clientMs = performance.now() - startedAt
    await pushImage(site.there, NAME, 'v1', image)
    const pushedAt = performance.now()
    await allHere(site, [image])
    await site.inStep()

    expect(clientMs).toBeLessThan(8000)
    expect(performance.now() - pushedAt).toBeGreaterThan(2000)
  })
})

async function allHere(site: ScaledOutSite, images: readonly Image[]): Promise<void> {
  const wanted = images.flatMap((image) => [image, ...image.blobs])
  await until(
    async () =>
      (await Promise.all(wanted.map(({ digest }) => isPublished(site.root, digest)))).every(Boolean),
    { what: 'every image to be here', deadlineMs: 20_000 },
  )
}
