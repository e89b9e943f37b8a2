import { readdir, readlink, rename, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { digestOf } from '../../src/oci/digest.ts'
import { blobStoreContract } from './blob-store-contract.ts'
import { putBlob, type StoreFixture, storeFixture } from './store-fixture.ts'

describe('the blob store on a filesystem', () => {
  blobStoreContract(async () => {
    const fixture = await storeFixture()
    const { blobs, paths } = fixture.store
    return { blobs, spools: paths.spools, [Symbol.asyncDispose]: () => fixture[Symbol.asyncDispose]() }
  })

  it('opens a blob that was read before without touching the disk', async () => {
    await using fixture = await storeFixture()
    const { blobs } = fixture.store
    const digest = await putBlob(fixture.store, 'warm')
    ;(await blobs.open(digest))?.close()

    await rename(join(fixture.root, 'docker'), join(fixture.root, 'out-of-reach'))
    for (let count = 0; count < 5000; count++) {
      const blob = await blobs.open(digest)
      expect(blob?.sizeBytes).toBe(4)
      blob?.close()
    }

    expect(await blobs.stat(digest)).toBe(4)
    await rename(join(fixture.root, 'out-of-reach'), join(fixture.root, 'docker'))
  })

  it('holds no more idle descriptors than it may, and none after it is closed', async () => {
    await using fixture = await storeFixture({ maxIdleDescriptors: 4 })
    const { blobs } = fixture.store
    const digests = await Promise.all(
      Array.from({ length: 40 }, (_, index) => putBlob(fixture.store, `blob ${index}`)),
    )

    const open = await Promise.all([...digests, ...digests].map((digest) => blobs.open(digest)))
    expect(open.every((blob) => blob !== undefined)).toBe(true)
    for (const blob of open) blob?.close()

    await expect.poll(() => descriptorsBelow(fixture)).toBeLessThanOrEqual(4)
    await fixture.store.close()
    expect(await descriptorsBelow(fixture)).toBe(0)
  })

  it('serves what replaced a blob, not what it had open before', async () => {
    await using fixture = await storeFixture()
    const { blobs, paths } = fixture.store
    const digest = await putBlob(fixture.store, 'right')
    await writeFile(paths.blob(digest), 'wrong')
    ;(await blobs.open(digest))?.close()

    await putBlob(fixture.store, 'right')

    expect(await blobs.read(digest, 100)).toEqual(Buffer.from('right'))
  })

  it.each([
    ['of other bytes', (path: string) => writeFile(path, 'a manifesT')],
    ['cut short', (path: string) => truncate(path, 3)],
    ['emptied', (path: string) => truncate(path, 0)],
  ])('never reads a damaged manifest, %s, but quarantines it', async (_how, damage) => {
    await using fixture = await storeFixture()
    const { blobs, paths } = fixture.store
    const digest = await putBlob(fixture.store, 'a manifest')
    await damage(paths.blob(digest))

    expect(await blobs.read(digest, 100)).toBeUndefined()

    expect(await blobs.stat(digest)).toBeUndefined()
    expect(await readdir(paths.quarantine)).toHaveLength(1)
    const counted = await fixture.metrics.storeErrors.get()
    expect(counted.values).toEqual([{ labels: { kind: 'mismatch' }, value: 1 }])
  })

  it('leaves no temporary file behind, whether a write succeeds or fails', async () => {
    await using fixture = await storeFixture()
    const { blobs, paths } = fixture.store
    const digest = digestOf(Buffer.from('fine'))

    await putBlob(fixture.store, 'fine')
    await blobs.write(digest, Buffer.from('not fine')).catch(() => undefined)

    expect(await readdir(paths.incoming)).toEqual([])
  })

  it('has room while enough of the disk is free, and none when it would take the last', async () => {
    await using roomy = await storeFixture({ minFreeFraction: 0 })
    await using strict = await storeFixture({ minFreeFraction: 1 })

    expect(await roomy.store.blobs.hasRoom()).toBe(true)
    expect(await strict.store.blobs.hasRoom()).toBe(false)
  })
})

async function descriptorsBelow({ root }: StoreFixture): Promise<number> {
  const links = await Promise.all(
    (await readdir('/proc/self/fd')).map((fd) => readlink(join('/proc/self/fd', fd)).catch(() => '')),
  )
  return links.filter((path) => path.startsWith(root)).length
}
