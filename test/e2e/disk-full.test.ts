/**
 * A disk without room: clients still get their bytes and pushes still reach the primary; nothing half-written stays,
 * and it is logged and counted. The store lies on a small tmpfs in a mount namespace of the site's own, which ends with
 * it; an ordinary user gets one through a user namespace.
 */
import { statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createStorePaths } from '../../src/store/paths.ts'
import { type Content, randomContent } from '../support/content.ts'
import type { Tree } from '../support/deep-merge.ts'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { type GeoRegistry, startGeoRegistry } from '../support/geo-registry.ts'
import { buildImage } from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import { createRegistryApi, type RegistryApi } from '../support/registry-api.ts'
import { tempFolder } from '../support/temp.ts'
import { until } from '../support/wait.ts'
import { expectSoundStore, filesBelow, isPublished, spoolsOf } from './store-files.ts'

const NAME = 'team/app'
const MIB = 1024 * 1024
const DISK_BYTES = 24 * MIB

let owned: AsyncDisposableStack
let primary: DockerRegistry
let there: RegistryApi
beforeEach(async () => {
  owned = new AsyncDisposableStack()
  primary = owned.use(await startDockerRegistry())
  there = owned.use(createRegistryApi(primary.url))
})
afterEach(() => owned.disposeAsync())

interface SmallSite {
  readonly site: GeoRegistry
  readonly api: RegistryApi
  /** The store's root as the site sees it: a path into its mount namespace. */
  readonly root: string
}

async function start(storage: Tree): Promise<SmallSite> {
  const folder = owned.use(await tempFolder('disk-full'))
  const script = `mount -t tmpfs -o size=${DISK_BYTES} geo-registry-test "$0" && exec "$@"`
  const namespaces = process.getuid?.() === 0 ? ['--mount'] : ['--user', '--map-root-user', '--mount']
  const site = owned.use(
    await startGeoRegistry({
      primary: primary.url,
      root: folder.path,
      config: { storage, auth: { none: { push: true } } },
      launcher: ['unshare', ...namespaces, 'sh', '-c', script, folder.path],
    }),
  )
  const root = `/proc/${site.pid}/root${folder.path}`
  const { type, bsize, blocks } = await statfs(root)
  expect([type, bsize * blocks]).toEqual([0x01_02_19_94, DISK_BYTES])
  return { site, root, api: owned.use(createRegistryApi(site.url)) }
}

async function heldBlob(sizeBytes: number, seed: string): Promise<Content> {
  const content = await randomContent(sizeBytes, { seed: `disk ${seed}` })
  expect((await there.pushBlob(NAME, content)).status).toBe(201)
  return content
}

async function storeErrors(site: GeoRegistry): Promise<number> {
  const lines = (await site.metrics()).split('\n')
  const counts = lines.flatMap(
    (line) => /^geo_registry_store_errors_total\{.*\} (\d+)$/.exec(line)?.[1] ?? [],
  )
  return counts.reduce((sum, count) => sum + Number(count), 0)
}

const freeBytes = async (root: string) => {
  const { bavail, bsize } = await statfs(root)
  return bavail * bsize
}

const isLogged = (site: GeoRegistry) => site.lines.some(({ level }) => level === 'error')

describe('a disk that fills up', () => {
  it('in the middle of a fill costs no client a byte, and holds nothing of it afterwards', async () => {
    const { site, api, root } = await start({})
    const small = await heldBlob(MIB, 'small')
    expect((await api.getBlob(NAME, small.digest)).digest).toBe(small.digest)
    await until(() => isPublished(root, small.digest), { what: 'the small blob to be kept' })
    const large = await heldBlob(2 * DISK_BYTES, 'large')

    const pulls = await Promise.all(Array.from({ length: 4 }, () => api.getBlob(NAME, large.digest)))

    expect(pulls.map(({ digest, cut }) => [digest, cut])).toEqual(Array(4).fill([large.digest, undefined]))
    expect(await isPublished(root, large.digest)).toBe(false)
    await until(async () => (await spoolsOf(root)).length === 0, { what: 'the spool to be gone' })
    await until(async () => (await freeBytes(root)) > DISK_BYTES - 2 * MIB, {
      what: 'its room to be free again',
    })
    expect(await filesBelow(createStorePaths(root).incoming)).toEqual([])
    expect(await storeErrors(site)).toBeGreaterThan(0)
    expect(isLogged(site)).toBe(true)
    expect((await api.getBlob(NAME, small.digest)).headers['geo-registry-source']).toBe('local')
    expect(await expectSoundStore(root)).toBe(1)
  })

  it('in the middle of a push does not stop it, and holds nothing of it afterwards', async () => {
    const { site, api, root } = await start({})
    const image = await buildImage({ seed: 'disk push', layers: [2 * DISK_BYTES, 1000], gzip: false })
    const [, large] = image.blobs

    await pushImage(api, NAME, 'v1', image)

    expect((await there.getManifest(NAME, 'v1')).digest).toBe(image.digest)
    expect((await there.getBlob(NAME, large?.digest ?? '')).digest).toBe(large?.digest)
    await until(async () => (await spoolsOf(root)).length === 0, { what: 'the capture to be gone' })
    expect(await freeBytes(root)).toBeGreaterThan(DISK_BYTES - 2 * MIB)
    expect(await storeErrors(site)).toBeGreaterThan(0)
    expect((await api.getManifest(NAME, 'v1')).digest).toBe(image.digest)
    expect((await api.getBlob(NAME, large?.digest ?? '')).digest).toBe(large?.digest)
    await expectSoundStore(root)
  })
})

describe('a disk with less than storage.minfree free', () => {
  it('takes nothing new, and pulls and pushes go on as if it did', async () => {
    const { site, api, root } = await start({ minfree: '99%' })
    await writeFile(join(root, 'filler'), Buffer.alloc(MIB))
    const before = await filesBelow(root)
    const cold = await heldBlob(3 * MIB, 'cold')
    const image = await buildImage({ seed: 'no room', layers: [200_000] })

    const pulls = await Promise.all(Array.from({ length: 3 }, () => api.getBlob(NAME, cold.digest)))
    await pushImage(api, NAME, 'v1', image)
    const pulled = await api.getManifest(NAME, 'v1')

    expect(pulls.map(({ digest }) => digest)).toEqual(Array(3).fill(cold.digest))
    expect(pulled.digest).toBe(image.digest)
    expect((await there.getManifest(NAME, 'v1')).digest).toBe(image.digest)
    expect(await filesBelow(root)).toEqual(before)
    expect(await storeErrors(site)).toBeGreaterThan(0)
    expect(isLogged(site)).toBe(true)
  })
})
