/** A site that begins with the folder of an old registry, and the check before it takes the primary's place. */
import { cp, mkdir, rm } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startDockerRegistry } from '../support/docker-registry.ts'
import { allBlobs, buildImage, buildMultiArch, type Image } from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import { createRegistryApi } from '../support/registry-api.ts'
import { type TempFolder, tempFolder } from '../support/temp.ts'
import { until } from '../support/wait.ts'
import { registryFolder } from './registry-folder.ts'
import { type ReplicatedSite, startReplicatedSite } from './replicated-site.ts'
import { expectSoundStore, treeOf } from './store-files.ts'

let old: TempFolder
let site: ReplicatedSite
let app1: Image
let app2: Image
let images: readonly (readonly [name: string, tag: string, image: Image])[]
let blobBytes = 0

beforeAll(async () => {
  old = await tempFolder('old-registry')
  site = await startReplicatedSite({ repositories: ['team/app', 'team/multi'] })
  await site.admin('POST', '/pause')
  app1 = await buildImage({ seed: 'app 1', gzip: false, layers: [400_000, 300_000] })
  app2 = await buildImage({ seed: 'app 2', gzip: false, layers: [500_000] })
  images = [
    ['team/app', 'v1', app1],
    ['team/app', 'v2', app2],
    ['team/multi', 'latest', await buildMultiArch({ seed: 'multi', gzip: false, layers: [300_000] })],
  ]
  for (const [, , image] of images) {
    for (const { sizeBytes } of allBlobs(image)) blobBytes += sizeBytes
  }
  await using registry = await startDockerRegistry({ root: old.path })
  await using api = createRegistryApi(registry.url)
  for (const [name, tag, image] of images) await pushImage(api, name, tag, image)
  await registry.stop()
  // The primary has the same content, and a site's clients pull from it while it is brought here.
  await site.primary.stop()
  await mkdir(site.primary.root, { recursive: true })
  await cp(old.path, site.primary.root, { recursive: true })
  await site.primary.start()
})
afterAll(async () => {
  await site[Symbol.asyncDispose]()
  await old[Symbol.asyncDispose]()
})

describe('before anything is here', () => {
  it('export-check lists every tag as lost and ends with status 1', async () => {
    const { status, output } = await site.command('export-check')

    expect(status).toBe(1)
    for (const [name, tag] of images) expect(output).toContain(`${name}:${tag}: absent: not here`)
  })

  it('plan says what replicating would fetch', async () => {
    const { status, output } = await site.command('plan')

    expect(status).toBe(0)
    expect(output).toMatch(/^repositories: 2$/m)
    expect(output).toMatch(/^bytes here: 0 B$/m)
  })
})

describe('adopt', () => {
  it('with --dry-run counts and takes over nothing', async () => {
    const { status, output } = await site.command('adopt', old.path, '--dry-run')

    expect(status).toBe(0)
    expect(output).toContain('Nothing was taken over; this is what would be.')
    expect(await registryFolder(site.one.site.root).blobBytes()).toBe(0)
  })

  it('takes the blobs over without writing in the folder, and without asking the primary', async () => {
    const before = await treeOf(old.path)
    const { down } = site.link.counts()

    expect(await site.command('adopt', old.path)).toMatchObject({ status: 0 })

    expect(await treeOf(old.path)).toEqual(before)
    expect(site.link.counts().down).toBe(down)
    expect(await registryFolder(site.one.site.root).blobBytes()).toBe(
      await registryFolder(old.path).blobBytes(),
    )
  })

  it('serves nothing of it before the primary has said so', async () => {
    expect(Object.keys(await registryFolder(site.one.site.root).allTags())).toEqual([])
    expect(await site.command('plan')).toMatchObject({
      status: 0,
      output: expect.not.stringMatching(/^bytes here: 0 B$/m),
    })
  })

  it('lets replication end without one byte of a blob crossing the link', async () => {
    const { down } = site.link.counts()
    await site.admin('POST', '/resume')
    await site.longWork('POST', '/rebuild')
    await site.converged()

    expect(blobBytes).toBeGreaterThan(1_500_000)
    expect(site.link.counts().down - down).toBeLessThan(50_000)
    await expectSoundStore(site.one.site.root)
    for (const [name, tag, image] of images) {
      expect((await site.here.getManifest(name, tag)).digest).toBe(image.digest)
    }
  })
})

describe('export-check', () => {
  it('says that nothing would be lost once all is here', async () => {
    expect(await site.command('export-check')).toMatchObject({
      status: 0,
      output: expect.stringContaining('Nothing would be lost.'),
    })
  })

  it('lists what is absent, older and incomplete, and ends with status 1', async () => {
    await site.admin('POST', '/pause')
    const there = registryFolder(site.primary.root)
    await there.writeTags('team/app', ['new'], app1.digest)
    await there.writeTags('team/app', ['v1'], app2.digest)
    const layer = app2.blobs.at(-1)
    if (!layer) throw new Error('no layer')
    await rm(registryFolder(site.one.site.root).blob(layer.digest))

    const { status, output } = await site.command('export-check')

    expect(status).toBe(1)
    expect(output).toContain('team/app:new: absent: not here')
    expect(output).toContain(`team/app:v1: older: ${app1.digest} here, ${app2.digest} there`)
    expect(output).toMatch(/^team\/app:v2: incomplete: 1 blob \(.*\) are missing$/m)
    expect(output).not.toContain('team/multi:')
  })

  it('counts nothing as safe while the primary is away', async () => {
    await site.primary.stop()

    const { status, output } = await site.command('export-check')

    expect(status).toBe(1)
    expect(output).toContain('What the primary has that was never heard of here would be lost, too.')
  })

  it('is mended by replication: the site is in step again', async () => {
    await site.primary.start()
    await site.admin('POST', '/resume')
    await site.admin('POST', '/repositories/reverify?all=true')
    await until(async () => (await site.command('export-check')).status === 0, {
      what: 'nothing to be lost',
      deadlineMs: 20_000,
      everyMs: 500,
    })
    await site.converged()
  })
})
