/** Without a single notification: what clients ask for and push is reason enough to look at a repository. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { buildImage } from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import { until } from '../support/wait.ts'
import { type ReplicatedSite, startReplicatedSite } from './replicated-site.ts'
import { isPublished } from './store-files.ts'

let site: ReplicatedSite

beforeAll(async () => {
  const config = { replication: { modes: [{ pattern: 'asked/*', mode: 'ondemand' }] } }
  const repositories = ['team/app', 'team/pushed', 'asked/app']
  site = await startReplicatedSite({ repositories, notified: false, config })
  await until(async () => (await site.status()).reconcile?.last_pass_timestamp, { what: 'the first pass' })
})
afterAll(() => site[Symbol.asyncDispose]())

describe('a manifest that a client asked for', () => {
  it('brings the rest of its image, and every other tag of its repository', async () => {
    const asked = await buildImage({ seed: 'asked', layers: [20_000, 30_000] })
    const other = await buildImage({ seed: 'other', layers: [10_000] })
    await pushImage(site.there, 'team/app', 'asked', asked)
    await pushImage(site.there, 'team/app', 'other', other)

    expect((await site.here.getManifest('team/app', 'asked')).status).toBe(200)

    const wanted = [...asked.blobs, ...other.blobs, other]
    await until(async () => (await Promise.all(wanted.map(isHere))).every(Boolean), { what: 'both images' })
  })

  it('brings nothing else of a repository that is kept on demand', async () => {
    const image = await buildImage({ seed: 'on demand', layers: [20_000] })
    await pushImage(site.there, 'asked/app', 'v1', image)

    expect((await site.here.getManifest('asked/app', 'v1')).status).toBe(200)
    const behind = await buildImage({ seed: 'behind it', layers: [1000] })
    await pushImage(site.there, 'team/app', 'behind', behind)
    expect((await site.here.getManifest('team/app', 'behind')).status).toBe(200)
    await until(async () => (await Promise.all(behind.blobs.map(isHere))).every(Boolean), {
      what: 'what was asked for later',
    })

    expect(await Promise.all(image.blobs.map(isHere))).toEqual(image.blobs.map(() => false))
  })
})

describe('a push through the site', () => {
  it('is in the status as soon as it is done, without a copy crossing the line again', async () => {
    const image = await buildImage({ seed: 'pushed here', layers: [500_000] })
    await pushImage(site.here, 'team/pushed', 'v1', image)
    const before = site.link.counts().down

    await until(async () => (await tracked('team/pushed')).state === 'synced', { what: 'the row' })

    expect(site.link.counts().down - before).toBeLessThan(100_000)
    expect((await tracked('team/pushed')).tagsCount).toBe(1)
  })
})

async function isHere({ digest }: { readonly digest: Parameters<typeof isPublished>[1] }): Promise<boolean> {
  return await isPublished(site.one.site.root, digest)
}

async function tracked(name: string): Promise<{ readonly state: string; readonly tagsCount: number }> {
  return (await site.admin('GET', `/repositories/${name}`)) as { state: string; tagsCount: number }
}
