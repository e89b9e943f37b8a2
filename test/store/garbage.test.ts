import { link, mkdir, readdir, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import pino from 'pino'
import { describe, expect, it } from 'vitest'
import type { Digest } from '../../src/oci/digest.ts'
import { openAdoptionRecord } from '../../src/store/adopted.ts'
import { createDurableFiles } from '../../src/store/durable-files.ts'
import { createGuard } from '../../src/store/failures.ts'
import { createFsBlobStore } from '../../src/store/fs-blob-store.ts'
import { linkEntry } from '../../src/store/paths.ts'
import { nameOf, putBlob, putManifest, type StoreFixture, storeFixture, tagOf } from './store-fixture.ts'

const HOUR_MS = 60 * 60 * 1000
const DAY_AGO = new Date(Date.now() - 25 * HOUR_MS)
const name = nameOf('team/app')
const latest = tagOf('latest')

/** A store whose clock says that all that is written now was written 25 hours ago. */
function dayOldFixture(): Promise<StoreFixture> {
  return storeFixture({ now: () => Date.now() + 25 * HOUR_MS })
}

describe('garbage collection', () => {
  it('removes what no repository links, and its bytes are reported', async () => {
    await using fixture = await dayOldFixture()
    const { store } = fixture
    const manifest = await putManifest(store, name, 'tagged', latest)
    const untagged = await putManifest(store, nameOf('other'), 'untagged')
    const layer = await putBlob(store, 'layer')
    await store.index.putLink(name, 'layer', layer, store.index.mark())
    const first = await putBlob(store, 'loose')
    const loose = [first, await putBlob(store, 'loose too', 'sha512')]

    const tried = await store.collectGarbage({ dryRun: true })
    expect(await present(fixture, loose)).toEqual([true, true])
    const report = await store.collectGarbage()

    expect(tried).toMatchObject({ removedBlobs: 2, removedBlobBytes: 14, keptBlobs: 3, linkedDigests: 3 })
    expect(report).toEqual({ ...tried, dryRun: false, durationMs: report.durationMs })
    expect(await present(fixture, [manifest, untagged, layer])).toEqual([true, true, true])
    expect(await present(fixture, loose)).toEqual([false, false])
    expect(await readdir(dirname(dirname(store.paths.blob(first))))).toEqual([])
  })

  it('keeps what a link names by its content rather than by its path', async () => {
    await using fixture = await dayOldFixture()
    const { store } = fixture
    const asked = await putBlob(store, 'layer', 'sha512')
    const target = await putBlob(store, 'layer')
    await store.index.putLink(name, 'layer', asked, store.index.mark(), target)

    await store.collectGarbage()

    expect(await present(fixture, [target])).toEqual([true])
  })

  it('keeps what is younger than a day', async () => {
    await using fixture = await storeFixture({ now: () => Date.now() + 23 * HOUR_MS })
    const loose = await putBlob(fixture.store, 'loose')

    expect(await fixture.store.collectGarbage()).toMatchObject({ removedBlobs: 0, keptBlobs: 1 })
    expect(await present(fixture, [loose])).toEqual([true])
  })

  it('keeps what is hidden until its grace has passed, then removes both', async () => {
    let clockMs = Date.now()
    await using fixture = await storeFixture({ now: () => clockMs })
    const { store } = fixture
    const digest = await putManifest(store, name, 'deleted', latest)
    await store.index.hideLink(name, 'manifest', digest)

    clockMs += 167 * HOUR_MS
    expect(await store.collectGarbage()).toMatchObject({ removedBlobs: 0, removedHidden: 0 })
    expect(await present(fixture, [digest])).toEqual([true])

    clockMs += 2 * HOUR_MS
    expect(await store.collectGarbage({ dryRun: true })).toMatchObject({ removedBlobs: 1, removedHidden: 1 })
    expect(await store.collectGarbage()).toMatchObject({ removedBlobs: 1, removedHidden: 1 })
    expect(await present(fixture, [digest])).toEqual([false])
    expect(await readdir(store.paths.hidden)).toEqual([])
  })

  it('never takes a blob that is open or pinned, and takes it when it no longer is', async () => {
    await using fixture = await dayOldFixture()
    const { store } = fixture
    const [open, pinned] = [await putBlob(store, 'open'), await putBlob(store, 'pinned')]
    const blob = await store.blobs.open(open)
    const unpin = store.blobs.pin(pinned)
    store.blobs.pin(pinned)()

    expect(await store.collectGarbage()).toMatchObject({ removedBlobs: 0 })
    blob?.close()
    expect(await store.collectGarbage()).toMatchObject({ removedBlobs: 1 })
    unpin()
    unpin()
    expect(await store.collectGarbage()).toMatchObject({ removedBlobs: 1 })
  })

  it('forgets the descriptor of what it took', async () => {
    await using fixture = await dayOldFixture()
    const loose = await putBlob(fixture.store, 'loose')
    ;(await fixture.store.blobs.open(loose))?.close()

    await fixture.store.collectGarbage()

    expect(await fixture.store.blobs.open(loose)).toBeUndefined()
    expect(await fixture.store.blobs.stat(loose)).toBeUndefined()
  })

  it('leaves no link without its blob, whatever is linked, opened and written while it runs', async () => {
    // Only the blobs are old: with a clock ahead, what is just being written would be collected as left behind.
    await using fixture = await storeFixture()
    const { store } = fixture
    for (let round = 0; round < 6; round++) {
      const digests = await Promise.all(
        Array.from({ length: 30 }, (_, index) => putBlob(store, `${round} ${index}`)),
      )
      await Promise.all(digests.map((digest) => utimes(store.paths.blob(digest), DAY_AGO, DAY_AGO)))
      const collecting = store.collectGarbage()
      const linked = await Promise.all(
        digests.map(async (digest, index) => {
          const repository = nameOf(`r${round}/n${index}`)
          for (let waits = index % 10; waits > 0; waits--) await stat(fixture.root)
          if (index % 3 === 0) await putBlob(store, `${round} ${index}`)
          if (index % 3 === 1) (await store.blobs.open(digest))?.close()
          return store.index.putLink(repository, 'layer', digest, store.index.mark()).catch(() => false)
        }),
      )
      await collecting
      await store.collectGarbage()

      expect(await present(fixture, digests)).toEqual(linked)
      expect(linked.filter((_, index) => index % 3 === 0)).not.toContain(false)
    }
  })

  it('lets who asks for a blob that is just going wait until it is gone', async () => {
    await using fixture = await dayOldFixture()
    const { paths } = fixture.store
    const files = createDurableFiles(paths.root, paths.incoming)
    const deps = { paths, files, guard: createGuard(fixture.metrics), metrics: fixture.metrics }
    const blobs = createFsBlobStore({ ...deps, log: pino({ level: 'silent' }) })
    const digests = await Promise.all(
      Array.from({ length: 80 }, (_, index) => putBlob({ blobs }, `going ${index}`)),
    )
    const watch = blobs.watch()

    const asked = digests.map((digest, index) => {
      const removing = watch.remove(digest)
      const answer = index % 2 ? blobs.stat(digest) : blobs.open(digest)
      return Promise.all([removing, answer])
    })

    expect(await Promise.all(asked)).toEqual(digests.map(() => [true, undefined]))
    watch.end()
    await blobs.close()
  })

  it('never takes what was pinned when it began, though it is let go of meanwhile', async () => {
    await using fixture = await dayOldFixture()
    const { paths } = fixture.store
    const files = createDurableFiles(paths.root, paths.incoming)
    const deps = { paths, files, guard: createGuard(fixture.metrics), metrics: fixture.metrics }
    const blobs = createFsBlobStore({ ...deps, log: pino({ level: 'silent' }) })
    const digest = await putBlob({ blobs }, 'being linked')
    const unpin = blobs.pin(digest)

    const watch = blobs.watch()
    unpin()

    expect(await watch.remove(digest)).toBe(false)
    expect(await blobs.stat(digest)).toBe(12)
    watch.end()
    await blobs.close()
  })

  it('keeps what was adopted for the grace, however old its file is, and then what a link names', async () => {
    let clockMs = Date.now()
    await using fixture = await storeFixture({ now: () => clockMs })
    const { store } = fixture
    const [linked, loose] = [await putBlob(store, 'linked'), await putBlob(store, 'loose')]
    await using record = await openAdoptionRecord(store.paths, () => clockMs)
    for (const digest of [linked, loose]) await record.add(digest)
    await store.index.putLink(name, 'layer', linked, store.index.mark())

    clockMs += 167 * HOUR_MS
    expect(await store.collectGarbage()).toMatchObject({ removedBlobs: 0, linkedDigests: 2 })

    clockMs += 2 * HOUR_MS
    expect(await store.collectGarbage({ dryRun: true })).toMatchObject({ removedBlobs: 1 })
    expect(await store.collectGarbage()).toMatchObject({ removedBlobs: 1, removedHidden: 0 })
    expect(await present(fixture, [linked, loose])).toEqual([true, false])
    expect(await readdir(store.paths.adopted)).toEqual([])
  })

  it('keeps a temporary file that is as old as the folder it is linked from, while that is young here', async () => {
    await using fixture = await storeFixture()
    const { store } = fixture
    const original = join(fixture.root, 'original')
    await writeFile(original, 'a blob of an adopted folder')
    await utimes(original, DAY_AGO, DAY_AGO)
    await link(original, join(store.paths.incoming, 'being-adopted'))

    expect(await store.collectGarbage()).toMatchObject({ removedTemporaryFiles: 0 })

    await rm(original)
    expect(await store.collectGarbage()).toMatchObject({ removedTemporaryFiles: 1 })
  })

  it('does not run twice at once, and runs again afterwards', async () => {
    await using fixture = await dayOldFixture()
    const { store } = fixture

    const first = store.collectGarbage()
    await expect(store.collectGarbage()).rejects.toThrow('running already')
    await first

    await expect(store.collectGarbage()).resolves.toMatchObject({ removedBlobs: 0 })
  })

  it('removes nothing when a part of the tree cannot be read', async () => {
    await using fixture = await dayOldFixture()
    const { store } = fixture
    const loose = await putBlob(store, 'loose')
    const loop = store.paths.link(name, linkEntry('layer', loose))
    await mkdir(dirname(loop), { recursive: true })
    await symlink(loop, loop)

    await expect(store.collectGarbage()).rejects.toMatchObject({ code: 'ELOOP' })

    expect(await present(fixture, [loose])).toEqual([true])
  })

  it('removes temporary files of the day before, and no spool', async () => {
    await using fixture = await storeFixture()
    const { store } = fixture
    const files = [
      join(store.paths.incoming, 'old'),
      join(store.paths.incoming, 'new'),
      join(store.paths.spools, 'old'),
    ]
    for (const file of files) await writeFile(file, 'left by a crash')
    for (const file of [files[0], files[2]]) if (file) await utimes(file, DAY_AGO, DAY_AGO)

    expect(await store.collectGarbage()).toMatchObject({ removedTemporaryFiles: 1 })

    expect(await readdir(store.paths.incoming)).toEqual(['new'])
    expect(await readdir(store.paths.spools)).toEqual(['old'])
  })
})

async function present({ store }: StoreFixture, digests: readonly Digest[]): Promise<boolean[]> {
  return Promise.all(
    digests.map((digest) =>
      stat(store.paths.blob(digest)).then(
        () => true,
        () => false,
      ),
    ),
  )
}
