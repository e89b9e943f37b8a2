/** Links, tags and marks of two processes on one store: what one does, the other shows at once. */
import { readFile } from 'node:fs/promises'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Coordination } from '../../src/store/coordination.ts'
import { EXPIRED_AT_MS } from '../../src/store/expiries.ts'
import { tagEntry } from '../../src/store/paths.ts'
import type { Store } from '../../src/store/store.ts'
import { type RedisServer, startRedis } from '../support/redis.ts'
import { repositoryIndexContract } from './repository-index-contract.ts'
import { type SharedStores, sharedStores } from './shared-stores.ts'
import { nameOf, putBlob, putManifest, tagOf } from './store-fixture.ts'

const name = nameOf('team/app')
const latest = tagOf('latest')

let redis: RedisServer
beforeAll(async () => {
  redis = await startRedis()
})
afterAll(() => redis[Symbol.asyncDispose]())

describe('the index of a shared store', () => {
  repositoryIndexContract(async () => {
    const stores = await sharedStores(redis)
    return {
      blobs: stores.a.store.blobs,
      index: stores.a.store.index,
      // What is reopened is read from the disk, as the other process does.
      reopen: async () => stores.b.store,
      [Symbol.asyncDispose]: () => stores[Symbol.asyncDispose](),
    }
  })
})

describe('what one process does', () => {
  let a: Store
  let b: Store
  let stores: SharedStores
  beforeEach(async () => {
    stores = await sharedStores(redis)
    a = stores.a.store
    b = stores.b.store
    return () => stores[Symbol.asyncDispose]()
  })

  it('is shown by the other: links, tags, and what they are changed to', async () => {
    const first = await putManifest(a, name, 'first', latest)
    expect(await b.index.tag(name, latest)).toMatchObject({ digest: first })
    expect(await b.index.link(name, 'manifest', first)).toMatchObject({ target: first })

    const second = await putManifest(b, name, 'second', latest)
    expect(await a.index.tag(name, latest)).toMatchObject({ digest: second })
  })

  it('is hidden from the other at once, also from an answer to a request that began before', async () => {
    const digest = await putManifest(a, name, 'm', latest)
    const layer = await putBlob(a, 'layer')
    await b.index.putLink(name, 'layer', layer, b.index.mark())
    const before = b.index.mark()
    expect(await b.index.tag(name, latest)).toBeDefined()

    await a.index.hideLink(name, 'manifest', digest)
    await a.index.hideLink(name, 'layer', layer)

    expect(await b.index.tag(name, latest)).toBeUndefined()
    expect(await b.index.link(name, 'manifest', digest)).toBeUndefined()
    expect(await b.index.link(name, 'layer', layer)).toBeUndefined()
    expect(await b.index.stands(name, 'layer', layer, before)).toBe(false)
    expect(await b.index.putLink(name, 'layer', layer, before)).toBe(false)
    expect(await b.index.putLink(name, 'manifest', digest, before)).toBe(false)
    expect(await b.index.putLink(name, 'manifest', digest, b.index.mark())).toBe(true)
    expect(await b.index.putTag(name, latest, digest, before)).toBe(false)
  })

  it('makes a tag go at the other, and an older answer does not bring it back or renew it', async () => {
    const digest = await putManifest(a, name, 'm', latest)
    const before = { ...b.index.mark(), atMs: Date.now() + 120_000 }

    await a.index.hideTag(name, latest)

    expect(await b.index.tag(name, latest)).toBeUndefined()
    expect(await b.index.putTag(name, latest, digest, before)).toBe(false)
    expect(await b.index.putTag(name, latest, digest, b.index.mark())).toBe(true)
    await a.index.doubtTag(name, latest)
    b.index.renewTag(name, latest, digest, before)
    await b.close()
    expect(await a.index.tag(name, latest)).toEqual({ digest, confirmedAtMs: undefined })
  })

  it('expires a repository for the other', async () => {
    const digest = await putManifest(a, name, 'm')
    expect(await b.index.link(name, 'manifest', digest)).not.toMatchObject({ confirmedAtMs: 1 })

    await a.index.expireRepository(name)

    expect(await b.index.link(name, 'manifest', digest)).toEqual({ target: digest, confirmedAtMs: 1 })
  })

  it('replaces a project for the other as well', async () => {
    const digest = await putManifest(a, name, 'of project 7', latest)
    await a.index.identify(name, 7, 1000)
    expect(await b.index.identify(name, 7, 1000)).toBe('same')
    const before = b.index.mark()

    expect(await a.index.identify(name, 8, 2000)).toBe('replaced')

    expect(await b.index.identify(name, 8, 2000)).toBe('same')
    expect(await b.index.identify(name, 7, 1500)).toBe('older')
    expect(await b.index.tag(name, latest)).toBeUndefined()
    expect(await b.index.link(name, 'manifest', digest)).toBeUndefined()
    expect(await b.index.putLink(name, 'manifest', digest, before)).toBe(false)
  })

  it('replaces a project once, whichever process is told of it', async () => {
    await a.index.identify(name, 7, 1000)
    const asked = Array.from({ length: 12 }, (_, at) => (at % 2 ? a : b).index.identify(name, 8, 2000))

    expect((await Promise.all(asked)).sort()).toEqual(['replaced', ...Array(11).fill('same')])
  })

  it('leaves the same on disk as if all had come one after another', async () => {
    const digests = await Promise.all(['m0', 'm1', 'm2'].map((text) => putManifest(a, name, text)))
    for (let round = 0; round < 12; round++) {
      const [pick = '', other = ''] = [digests[round % 3], digests[(round + 1) % 3]]
      if (!pick || !other) throw new Error('no digest')
      await Promise.all([
        a.index.putLink(name, 'manifest', pick, a.index.mark()),
        b.index.putTag(name, latest, pick, b.index.mark()).catch(() => false),
        a.index.hideLink(name, 'manifest', pick),
        a.index.putTag(name, latest, other, a.index.mark()).catch(() => false),
        b.index.hideTag(name, latest),
        b.index.putTag(name, latest, other, b.index.mark()).catch(() => false),
      ])
      const held = await b.index.tag(name, latest)
      expect(held).toEqual(await a.index.tag(name, latest))
      if (held) expect(await a.index.link(name, 'manifest', held.digest)).toBeDefined()
      await b.index.putLink(name, 'manifest', pick, b.index.mark())
    }
  })
})

describe('a renewal', () => {
  it('costs no turn until a minute has passed since any process wrote one, and then one', async () => {
    let clockMs = 1_700_000_000_000
    const turns: string[] = []
    const counted = (coordination: Coordination): Coordination => ({
      ...coordination,
      run: (key, work) => {
        turns.push(key)
        return coordination.run(key, work)
      },
    })
    const now = () => clockMs
    await using stores = await sharedStores(redis, { now, through: counted }, { now, through: counted })
    const [a, b] = [stores.a.store, stores.b.store]
    const digest = await putManifest(a, name, 'm', latest)
    const onDisk = () => readFile(a.paths.confirmation(name, tagEntry(latest)), 'utf8')
    turns.length = 0

    clockMs += 59_999
    for (let pull = 0; pull < 50; pull++) b.index.renewTag(name, latest, digest, b.index.mark())
    await b.index.tag(name, latest)
    await b.close()
    expect([turns, await onDisk()]).toEqual([[], `${digest} 1700000000000`])

    clockMs += 1
    for (let pull = 0; pull < 50; pull++) a.index.renewTag(name, latest, digest, a.index.mark())
    await expect.poll(onDisk).toBe(`${digest} 1700000060000`)
    await a.close()
    expect(turns).toEqual([name])
  })
})

describe('completeness', () => {
  it('that one process dropped is not marked by another from an older inventory, whatever their clocks say', async () => {
    const ahead = () => Date.now() + 3_600_000
    await using stores = await sharedStores(redis, {}, { now: ahead })
    const [a, b] = [stores.a.store, stores.b.store]
    const asked = b.index.mark()
    await b.holdings.markComplete(name, asked)
    expect(await a.holdings.completeSince(name)).toBe(Math.trunc(asked.atMs))

    await a.holdings.dropComplete(name)
    await b.holdings.markComplete(name, asked)
    expect(await b.holdings.completeSince(name)).toBeUndefined()

    await b.holdings.markComplete(name, b.index.mark())
    expect(await a.holdings.completeSince(name)).toBeDefined()
    await a.holdings.dropComplete(name)
    expect(await b.holdings.completeSince(name)).toBeUndefined()
  })

  it('ends by each drop, whichever process marks or drops at the same time', async () => {
    await using stores = await sharedStores(redis)
    const [a, b] = [stores.a.store, stores.b.store]
    for (let round = 0; round < 20; round++) {
      const asked = [a.index.mark(), b.index.mark()] as const
      await Promise.all([
        b.holdings.markComplete(name, asked[1]),
        a.holdings.dropComplete(name),
        a.holdings.markComplete(name, asked[0]),
        b.holdings.markComplete(name, asked[1]),
      ])
      expect(await b.holdings.completeSince(name)).toBeUndefined()
      await b.holdings.markComplete(name, b.index.mark())
    }
  })
})

it('what a process confirmed whose clock is ahead expires all the same, with all of the repository', async () => {
  await using stores = await sharedStores(redis, { now: () => Date.now() + 3_600_000 })
  const [ahead, other] = [stores.a.store, stores.b.store]
  const digest = await putManifest(ahead, name, 'm', latest)

  await other.index.expireRepository(name)

  for (const { index } of [ahead, other]) {
    expect((await index.link(name, 'manifest', digest))?.confirmedAtMs).toBe(EXPIRED_AT_MS)
    expect(await index.putLink(name, 'manifest', digest, ahead.index.mark())).toBe(true)
    expect((await index.link(name, 'manifest', digest))?.confirmedAtMs).toBeGreaterThan(EXPIRED_AT_MS)
    await other.index.expireRepository(name)
  }
})
