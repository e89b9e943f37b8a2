/** `adopt`: another registry's blobs become this store's, verified, and that registry's folder stays as it was. */
import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rm, stat, symlink, truncate, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { type AdoptProgress, adopt } from '../../replicator/adopt.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { createStorePaths } from '../../src/store/paths.ts'
import { all, nameOf, putBlob, storeFixture, tagOf } from '../store/store-fixture.ts'
import { startDockerRegistry } from '../support/docker-registry.ts'
import { allBlobs, allManifests, buildMultiArch, type Image } from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import { createRegistryApi } from '../support/registry-api.ts'
import { type TempFolder, tempFolder } from '../support/temp.ts'
import { plant, soundDigests } from './adopt-scene.ts'

const name = nameOf('team/app')
const latest = tagOf('latest')

/** Every file below a folder: its size, its times of writing, and what is in it. */
async function snapshot(root: string): Promise<Map<string, string>> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
  const described = files.sort().map(async (path): Promise<[string, string]> => {
    const [stats, bytes] = [await stat(path), await readFile(path)]
    const hash = createHash('sha256').update(bytes).digest('hex')
    return [path, `${stats.size} ${stats.mtimeMs} ${stats.mode} ${hash}`]
  })
  return new Map(await Promise.all(described))
}

async function pushedFolder(folder: TempFolder, image: Image): Promise<string> {
  const root = join(folder.path, 'registry')
  await using registry = await startDockerRegistry({ root })
  await using api = createRegistryApi(registry.url)
  await pushImage(api, name, latest, image)
  return root
}

describe('adopting a registry’s folder', () => {
  it('takes over every blob by hard link, so that docker-registry serves them once they are linked', async () => {
    await using folder = await tempFolder('adopt')
    await using fixture = await storeFixture()
    const { store } = fixture
    const image = await buildMultiArch()
    const root = await pushedFolder(folder, image)
    const before = await snapshot(root)
    const wanted = new Set([...allBlobs(image), ...allManifests(image)].map(({ digest }) => digest))

    const report = await adopt(root, store)

    const found = { blobs: wanted.size, bytes: report.found.bytes }
    expect(report).toMatchObject({
      dryRun: false,
      found,
      here: { blobs: 0, bytes: 0 },
      adopted: found,
      hardLinked: wanted.size,
      copied: 0,
      skipped: 0,
    })
    expect(report.found.bytes).toBe(
      (await Promise.all([...wanted].map((digest) => store.blobs.stat(digest)))).reduce<number>(
        (sum, size) => sum + (size ?? 0),
        0,
      ),
    )
    expect(new Set(await soundDigests(fixture))).toEqual(wanted)
    expect(await all(store.holdings.repositories())).toEqual([])
    expect(await store.index.tag(name, latest)).toBeUndefined()

    for (const { digest } of allBlobs(image))
      await store.index.putLink(name, 'layer', digest, store.index.mark())
    for (const { digest } of allManifests(image))
      await store.index.putLink(name, 'manifest', digest, store.index.mark())
    await store.index.putTag(name, latest, image.digest, store.index.mark())
    await using registry = await startDockerRegistry({ root: fixture.root })
    await using api = createRegistryApi(registry.url)
    expect(await api.getManifest(name, latest)).toMatchObject({ status: 200, digest: image.digest })
    for (const { digest } of allBlobs(image)) {
      expect(await api.getBlob(name, digest)).toMatchObject({ status: 200, digest })
    }
    expect(await snapshot(root)).toEqual(before)
  })

  it('finds it whether the root directory is named or the folder of version 2 in it', async () => {
    await using folder = await tempFolder('adopt')
    await using fixture = await storeFixture()
    const digest = await plant(folder.path, 'a blob')

    const report = await adopt(join(folder.path, 'docker/registry/v2/'), fixture.store)

    expect(report.adopted).toEqual({ blobs: 1, bytes: 6 })
    expect(await fixture.store.blobs.stat(digest)).toBe(6)
  })

  it('copies where neither kind of link works, and has its own file then', async () => {
    const other = '/dev/shm'
    await using fixture = await storeFixture()
    expect((await stat(other)).dev, 'the test needs two filesystems').not.toBe((await stat(fixture.root)).dev)
    const root = join(other, `adopt-${process.pid}`)
    try {
      const digest = await plant(root, 'on another disk')
      const wide = await plant(root, 'wide', digestOf(Buffer.from('wide'), 'sha512'))

      const report = await adopt(root, fixture.store)

      expect(report).toMatchObject({ hardLinked: 0, reflinked: 0, copied: 2, skipped: 0 })
      await rm(root, { recursive: true })
      expect(await fixture.store.blobs.read(digest, 100)).toEqual(Buffer.from('on another disk'))
      expect(await fixture.store.blobs.read(wide, 100)).toEqual(Buffer.from('wide'))
    } finally {
      await rm(root, { recursive: true, force: true })
    }
  })

  it('stops before the disk is full where it has to copy, and says so', async () => {
    await using fixture = await storeFixture({ minFreeFraction: 1 })
    const root = join('/dev/shm', `adopt-full-${process.pid}`)
    try {
      await plant(root, 'a blob')

      await expect(adopt(root, fixture.store)).rejects.toMatchObject({ name: 'StoreError', kind: 'full' })

      expect(await all(fixture.store.holdings.blobs(undefined))).toEqual([])
      expect(await readdir(fixture.store.paths.incoming)).toEqual([])
    } finally {
      await rm(root, { recursive: true, force: true })
    }
  })

  it('counts only when it is a dry run', async () => {
    await using folder = await tempFolder('adopt')
    await using fixture = await storeFixture()
    await plant(folder.path, 'one')
    await putBlob(fixture.store, 'two')
    await plant(folder.path, 'two')
    const before = await snapshot(fixture.root)

    const report = await adopt(folder.path, fixture.store, { dryRun: true })

    expect(report).toMatchObject({
      dryRun: true,
      found: { blobs: 2, bytes: 6 },
      here: { blobs: 1, bytes: 3 },
      adopted: { blobs: 1, bytes: 3 },
      hardLinked: 0,
    })
    expect(await snapshot(fixture.root)).toEqual(before)
  })

  it('passes over what is here, also when it is begun again', async () => {
    await using folder = await tempFolder('adopt')
    await using fixture = await storeFixture()
    const digest = await plant(folder.path, 'one')
    await adopt(folder.path, fixture.store)
    const inode = (await stat(fixture.store.paths.blob(digest))).ino
    await plant(folder.path, 'two')

    const report = await adopt(folder.path, fixture.store)

    expect(report).toMatchObject({
      here: { blobs: 1, bytes: 3 },
      adopted: { blobs: 1, bytes: 3 },
      hardLinked: 1,
    })
    expect((await stat(fixture.store.paths.blob(digest))).ino).toBe(inode)
  })

  it('says how far it is, up to the end', async () => {
    await using folder = await tempFolder('adopt')
    await using fixture = await storeFixture()
    for (const content of ['one', 'two', 'three']) await plant(folder.path, content)
    const seen: AdoptProgress[] = []

    await adopt(folder.path, fixture.store, { onProgress: (progress) => seen.push(progress) })

    const total = { blobs: 3, bytes: 11 }
    expect(seen.at(-1)).toEqual({ done: total, total })
    for (const { done } of seen) expect(done.bytes).toBeLessThanOrEqual(11)
  })

  it('keeps what it took from garbage collection, old as the files are, until links can name it', async () => {
    let clockMs = Date.now() - 30 * 60 * 60 * 1000
    await using folder = await tempFolder('adopt')
    await using fixture = await storeFixture({ now: () => clockMs })
    const digest = await plant(folder.path, 'years old')
    await adopt(folder.path, fixture.store)
    clockMs = Date.now() + 160 * 60 * 60 * 1000

    await fixture.store.collectGarbage()

    expect(await fixture.store.blobs.stat(digest)).toBe(9)
  })
})

describe('adopting what is not as it should be', () => {
  it('skips and lists damaged and empty files, and takes the rest', async () => {
    await using folder = await tempFolder('adopt')
    await using fixture = await storeFixture()
    const good = await plant(folder.path, 'good')
    const empty = await plant(folder.path, '')
    const wrong = await plant(folder.path, 'other bytes', digestOf(Buffer.from('the right ones')))
    const cut = await plant(folder.path, 'cut short')
    const emptied = await plant(folder.path, 'emptied')
    const paths = createStorePaths(folder.path)
    await truncate(paths.blob(cut), 3)
    await truncate(paths.blob(emptied), 0)
    const before = await snapshot(folder.path)

    const report = await adopt(folder.path, fixture.store)

    const damaged = [wrong, cut, emptied].map((digest) => ({ digest, reason: 'damaged' }))
    expect(report).toMatchObject({ adopted: { blobs: 2, bytes: 4 }, hardLinked: 2, skipped: 3 })
    expect(new Set(report.skippedBlobs)).toEqual(new Set(damaged))
    expect(await soundDigests(fixture)).toEqual([good, empty].sort())
    expect(await readdir(fixture.store.paths.incoming)).toEqual([])
    expect(await snapshot(folder.path)).toEqual(before)
  })

  it('passes over folders without data and names that are no digests', async () => {
    await using folder = await tempFolder('adopt')
    await using fixture = await storeFixture()
    const { blobs, blob } = createStorePaths(folder.path)
    const bare = digestOf(Buffer.from('bare'))
    await mkdir(dirname(blob(bare)), { recursive: true })
    await mkdir(blob(digestOf(Buffer.from('a folder for data'))), { recursive: true })
    for (const path of [
      'sha256/ab/abcd/data',
      'sha256/zz/data',
      `md5/ab/${'ab'.repeat(16)}/data`,
      'sha256/file',
    ]) {
      await mkdir(dirname(join(blobs, path)), { recursive: true })
      await writeFile(join(blobs, path), 'x')
    }

    const report = await adopt(folder.path, fixture.store)

    expect(report).toMatchObject({ found: { blobs: 0, bytes: 0 }, skipped: 1 })
    expect(report.skippedBlobs).toMatchObject([{ reason: 'unreadable' }])
  })

  it('follows symbolic links within the folder, and none out of it', async () => {
    await using folder = await tempFolder('adopt')
    await using outside = await tempFolder('outside')
    await using fixture = await storeFixture()
    const paths = createStorePaths(folder.path)
    const moved = await plant(folder.path, 'moved within')
    await rename(paths.blob(moved), join(folder.path, 'elsewhere'))
    await symlink(join(folder.path, 'elsewhere'), paths.blob(moved))
    const file = await plant(folder.path, 'a file outside')
    await rename(paths.blob(file), join(outside.path, 'file'))
    await symlink(join(outside.path, 'file'), paths.blob(file))
    const inFolder = await plant(folder.path, 'a folder outside')
    await rename(dirname(paths.blob(inFolder)), join(outside.path, 'folder'))
    await symlink(join(outside.path, 'folder'), dirname(paths.blob(inFolder)))
    const loop = digestOf(Buffer.from('loop'))
    await mkdir(dirname(paths.blob(loop)), { recursive: true })
    await symlink(paths.blob(loop), paths.blob(loop))

    const report = await adopt(folder.path, fixture.store)

    expect(report).toMatchObject({ adopted: { blobs: 1, bytes: 12 }, skipped: 3 })
    expect(new Set(report.skippedBlobs)).toEqual(
      new Set([
        { digest: file, reason: 'outside' },
        { digest: inFolder, reason: 'outside' },
        { digest: loop, reason: 'unreadable' },
      ]),
    )
    expect(await soundDigests(fixture)).toEqual([moved])
    expect((await stat(fixture.store.paths.blob(moved))).isFile()).toBe(true)
  })

  it('refuses its own store, by whatever path, and a folder that is no registry’s', async () => {
    await using folder = await tempFolder('adopt')
    await using fixture = await storeFixture()
    await putBlob(fixture.store, 'here')
    await symlink(fixture.root, join(folder.path, 'alias'))
    const own = [fixture.root, join(fixture.root, 'docker/registry/v2'), join(folder.path, 'alias')]

    for (const path of own) await expect(adopt(path, fixture.store)).rejects.toThrow('this site’s own store')
    for (const path of [folder.path, join(folder.path, 'nowhere'), join(folder.path, 'docker/registry/v2')]) {
      await expect(adopt(path, fixture.store)).rejects.toThrow(join(path, 'docker/registry/v2/blobs'))
    }
    expect(await all(fixture.store.holdings.blobs(undefined))).toHaveLength(1)
  })

  it('ends when it is told to, and leaves nothing behind', async () => {
    await using folder = await tempFolder('adopt')
    await using fixture = await storeFixture()
    for (let one = 0; one < 20; one++) await plant(folder.path, `blob ${one}`)
    const controller = new AbortController()

    const adopting = adopt(folder.path, fixture.store, {
      signal: controller.signal,
      onProgress: ({ done }) => done.blobs >= 3 && controller.abort(new Error('enough')),
    })

    await expect(adopting).rejects.toThrow('enough')
    expect((await soundDigests(fixture)).length).toBeLessThan(20)
    expect(await readdir(fixture.store.paths.incoming)).toEqual([])
    expect((await adopt(folder.path, fixture.store)).found.blobs).toBe(20)
    expect(await all(fixture.store.holdings.blobs(undefined))).toHaveLength(20)
  })

  it('may run twice at once', async () => {
    await using folder = await tempFolder('adopt')
    await using fixture = await storeFixture()
    for (let one = 0; one < 30; one++) await plant(folder.path, `blob ${one}`)

    const reports = await Promise.all([adopt(folder.path, fixture.store), adopt(folder.path, fixture.store)])

    expect(reports.map(({ skipped }) => skipped)).toEqual([0, 0])
    expect(await soundDigests(fixture)).toHaveLength(30)
    expect(await readdir(fixture.store.paths.incoming)).toEqual([])
  })
})
