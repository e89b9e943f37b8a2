/** What is pushed at the primary is here before anyone asks, and what is deleted there is gone here. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { buildImage, buildMultiArch } from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import { until } from '../support/wait.ts'
import { sourceOf } from './one-site.ts'
import { type ReplicatedSite, startReplicatedSite } from './replicated-site.ts'
import { expectSoundStore, isPublished } from './store-files.ts'

const REPOSITORIES = ['team/app', 'team/multi', 'team/gone', 'team/old']
let site: ReplicatedSite

beforeAll(async () => {
  site = await startReplicatedSite({ repositories: REPOSITORIES })
})
afterAll(() => site[Symbol.asyncDispose]())

describe('a push at the primary', () => {
  it('is here with all its blobs before anyone asks, and pulled without the primary sending a blob', async () => {
    const image = await buildImage({ seed: 'pushed there', layers: [20_000, 30_000] })
    await pushImage(site.there, 'team/app', 'v1', image)

    await until(async () => await heldTag('team/app', 'v1', image.digest), { what: 'the tag to be here' })

    const answers = await Promise.all(image.blobs.map(({ digest }) => site.here.getBlob('team/app', digest)))
    expect(answers.map((answer) => [answer.status, sourceOf(answer)])).toEqual(
      image.blobs.map(() => [200, 'local']),
    )
    expect((await site.here.getManifest('team/app', 'v1')).digest).toBe(image.digest)
  })

  it('of an index brings every platform', async () => {
    const index = await buildMultiArch({ seed: 'multi' })
    await pushImage(site.there, 'team/multi', 'latest', index)

    await until(async () => await heldTag('team/multi', 'latest', index.digest), {
      what: 'the tag to be here',
    })

    for (const child of index.children) {
      expect(await isPublished(site.one.site.root, child.digest)).toBe(true)
      for (const { digest } of child.blobs) expect(await isPublished(site.one.site.root, digest)).toBe(true)
    }
  })
})

describe('a delete at the primary', () => {
  it('takes the tags away here without a pull', async () => {
    const image = await buildImage({ seed: 'to be deleted', layers: [1000] })
    await pushImage(site.there, 'team/gone', 'v1', image)
    await pushImage(site.there, 'team/gone', 'v2', image)
    await until(async () => await heldTag('team/gone', 'v2', image.digest), { what: 'the tags to be here' })

    await site.there.deleteManifest('team/gone', image.digest)

    await until(async () => (await tagsHere('team/gone')).length === 0, { what: 'the tags to be gone' })
    expect((await site.here.getManifest('team/gone', image.digest)).status).toBe(404)
  })
})

describe('the status', () => {
  it('says that the site is in step, and the store is sound', async () => {
    const status = await site.inStep()

    expect(status).toMatchObject({
      healthy: true,
      health_status: 'Healthy',
      events_pending: 0,
      failing_tags: 0,
      lag_seconds: 0,
      container_repositories_synced_in_percentage: '100.00%',
    })
    await expectSoundStore(site.one.site.root)
  })
})

/** Read from the disk: asking the site would make it ask the primary. */
async function heldTag(name: string, tag: string, digest: string): Promise<boolean> {
  const link = join(tagsFolder(name), tag, 'current/link')
  return (await readFile(link, 'utf8').catch(() => '')) === digest
}

async function tagsHere(name: string): Promise<string[]> {
  return await readdir(tagsFolder(name)).catch(() => [])
}

function tagsFolder(name: string): string {
  return join(site.one.site.root, 'docker/registry/v2/repositories', name, '_manifests/tags')
}
