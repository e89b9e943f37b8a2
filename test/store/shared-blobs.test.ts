/** Blobs of a shared store: replaced and removed files, and a garbage collection in one process while another links. */
import { readdirSync, readSync, rmSync } from 'node:fs'
import { mkdir, readdir, stat, utimes, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Digest } from '../../src/oci/digest.ts'
import { removeUnlessYoung, touch } from '../../src/store/blob-files.ts'
import type { Store } from '../../src/store/store.ts'
import { type RedisServer, startRedis } from '../support/redis.ts'
import { tempFolder } from '../support/temp.ts'
import { sharedStores } from './shared-stores.ts'
import { nameOf, putBlob } from './store-fixture.ts'

const name = nameOf('team/app')
const DAY_MS = 24 * 60 * 60 * 1000

let redis: RedisServer
beforeAll(async () => {
  redis = await startRedis()
})
afterAll(() => redis[Symbol.asyncDispose]())

describe('a blob that one process replaced or removed', () => {
  it('is told of, and not served by the other from the file that it has open, even where it was not told', async () => {
    const forgotten: Digest[] = []
    await using stores = await sharedStores(redis, { onForgotten: (digest) => forgotten.push(digest) })
    const [a, b] = [stores.a.store, stores.b.store]
    const digest = await putBlob(a, 'content')
    ;(await b.blobs.open(digest))?.close()
    expect(forgotten).toEqual([])
    await writeFile(a.paths.blob(digest), 'damaged')
    expect(await a.blobs.read(digest, 100)).toBeUndefined()
    expect(forgotten).toEqual([digest])

    expect(await b.blobs.stat(digest)).toBeUndefined()
    expect(await b.blobs.open(digest)).toBeUndefined()
    await putBlob(a, 'content')
    expect((await b.blobs.read(digest, 100))?.toString()).toBe('content')
  })

  it('is read anew by the other, which has the damaged file open and was not told', async () => {
    await using stores = await sharedStores(redis)
    const [a, b] = [stores.a.store, stores.b.store]
    const digest = await putBlob(a, 'content')
    await writeFile(a.paths.blob(digest), 'damaged')
    ;(await b.blobs.open(digest))?.close()
    await a.blobs.quarantine(digest)
    await putBlob(a, 'content')

    const blob = (await b.blobs.open(digest)) ?? expect.unreachable()
    const bytes = Buffer.alloc(blob.sizeBytes)
    readSync(blob.fd, bytes)
    blob.close()

    expect(bytes.toString()).toBe('content')
  })

  it('is told of when it is written again over what was there, and when it is collected', async () => {
    const forgotten: Digest[] = []
    await using stores = await sharedStores(redis, { onForgotten: (digest) => forgotten.push(digest) })
    const [a, b] = [stores.a.store, stores.b.store]
    const digest = await putBlob(a, 'content')
    await putBlob(a, 'content')
    expect(forgotten).toEqual([digest])
    await makeOld(a, digest)
    await a.collectGarbage()
    expect(forgotten).toEqual([digest, digest])

    ;(await b.blobs.open(await putBlob(b, 'content')))?.close()
    await a.blobs.quarantine(digest)
    b.forgetBlobs()

    expect(await b.blobs.stat(digest)).toBeUndefined()
  })

  it('is not taken for here by a process that linked it before', async () => {
    await using stores = await sharedStores(redis)
    const [a, b] = [stores.a.store, stores.b.store]
    const digest = await putBlob(b, 'content')
    await b.index.putLink(name, 'layer', digest, b.index.mark())
    await a.blobs.quarantine(digest)

    const linking = b.index.putLink(nameOf('team/other'), 'layer', digest, b.index.mark())

    await expect(linking).rejects.toMatchObject({ kind: 'io' })
    expect(await b.index.link(nameOf('team/other'), 'layer', digest)).toBeUndefined()
  })
})

describe('a garbage collection beside another process', () => {
  it('leaves no link without its blob, whatever the other links while it runs', async () => {
    await using stores = await sharedStores(redis)
    const [a, b] = [stores.a.store, stores.b.store]
    let kept = 0
    for (let round = 0; round < 8; round++) {
      const digests = await Promise.all(Array.from({ length: 20 }, (_, at) => putBlob(a, `${round} ${at}`)))
      for (const digest of digests) await makeOld(a, digest)
      const collecting = a.collectGarbage()
      const linked = await Promise.all(
        digests.map(async (digest, at) => {
          for (let waits = at; waits > 0; waits--) await stat(stores.root)
          return b.index
            .putLink(nameOf(`r${round}/n${at}`), 'layer', digest, b.index.mark())
            .catch(() => false)
        }),
      )
      await collecting

      for (const [at, digest] of digests.entries()) {
        const isHere = (await stat(a.paths.blob(digest)).catch(() => undefined)) !== undefined
        if (linked[at]) expect(isHere).toBe(true)
        if (linked[at]) kept += 1
      }
    }
    expect(kept).toBeGreaterThan(0)
  })

  it('takes a file that is old, and puts one back that was made young under its hands', async () => {
    await using folder = await tempFolder('young')
    const path = join(folder.path, 'blob', 'data')
    const old = new Date(Date.now() - 2 * DAY_MS)
    await mkdir(join(folder.path, 'blob'))
    await writeFile(path, 'content')
    await utimes(path, old, old)
    const youngMs = Date.now() - DAY_MS

    expect(await touch(path)).toBe(true)
    expect(await removeUnlessYoung(path, folder.path, youngMs)).toBe(false)
    expect((await stat(path)).size).toBe(7)

    await utimes(path, old, old)
    expect(await removeUnlessYoung(path, folder.path, youngMs)).toBe(true)
    expect(await touch(path)).toBe(false)
    expect(await removeUnlessYoung(path, folder.path, youngMs)).toBe(false)
  })

  it('takes what is old also where another one clears the temporary folder at that moment', async () => {
    await using folder = await tempFolder('blob')
    const aside = join(folder.path, 'aside')
    await mkdir(aside)
    const old = new Date(Date.now() - 2 * DAY_MS)
    const paths = Array.from({ length: 300 }, (_, index) => join(folder.path, `${index}`, 'data'))
    for (const path of paths) {
      await mkdir(dirname(path))
      await writeFile(path, 'content')
      await utimes(path, old, old)
    }

    let taken = 0
    let done = false
    const removing = Promise.all(paths.map((path) => removeUnlessYoung(path, aside, Date.now() - DAY_MS)))
    const removed = removing.finally(() => {
      done = true
    })
    while (!done) {
      for (const name of readdirSync(aside)) {
        rmSync(join(aside, name), { force: true })
        taken += 1
      }
      await setImmediate()
    }

    expect(taken).toBeGreaterThan(0)
    expect(await removed).not.toContain(false)
    expect(await readdir(aside)).toEqual([])
  })

  it('that killed a linked blob all the same leaves a miss: the content is fetched and served again', async () => {
    await using stores = await sharedStores(redis)
    const [a, b] = [stores.a.store, stores.b.store]
    const digest = await putBlob(a, 'content')
    await b.index.putLink(name, 'layer', digest, b.index.mark())
    await a.blobs.quarantine(digest)

    expect(await b.blobs.stat(digest)).toBeUndefined()
    expect(await b.blobs.open(digest)).toBeUndefined()

    await putBlob(b, 'content')
    expect(await b.index.putLink(name, 'layer', digest, b.index.mark())).toBe(true)
    expect((await a.blobs.read(digest, 100))?.toString()).toBe('content')
  })
})

async function makeOld({ paths }: Store, digest: Digest): Promise<void> {
  const old = new Date(Date.now() - 2 * DAY_MS)
  await utimes(paths.blob(digest), old, old)
}
