/** A shared store while Redis is away: what is here is read, nothing is put or removed, and nothing lies afterwards. */
import { access } from 'node:fs/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Digest } from '../../src/oci/digest.ts'
import { CoordinationUnavailableError } from '../../src/store/coordination.ts'
import type { Mark } from '../../src/store/repository-index.ts'
import type { Store } from '../../src/store/store.ts'
import { type RedisServer, startRedis } from '../support/redis.ts'
import { reached, type SharedStores, sharedStores } from './shared-stores.ts'
import { nameOf, putManifest, tagOf } from './store-fixture.ts'

const name = nameOf('team/app')
const latest = tagOf('latest')

let redis: RedisServer
let stores: SharedStores
let a: Store
let b: Store
let digest: Digest
let before: Mark
beforeEach(async () => {
  redis = await startRedis({ persistent: true })
  stores = await sharedStores(redis)
  a = stores.a.store
  b = stores.b.store
  digest = await putManifest(a, name, 'm', latest)
  await a.index.identify(name, 7, 1000)
  await b.holdings.markComplete(name, b.index.mark())
  before = b.index.mark()
})
afterEach(async () => {
  await stores[Symbol.asyncDispose]()
  await redis[Symbol.asyncDispose]()
})

async function redisBack(): Promise<void> {
  await redis.start()
  await reached(stores.a.coordination)
  await reached(stores.b.coordination)
}

describe('while Redis is away', () => {
  it('what is held is read, and what is new is not kept, and counted', async () => {
    const held = [await a.index.tag(name, latest), await a.index.link(name, 'manifest', digest)]
    await redis.stop()

    expect([await a.index.tag(name, latest), await a.index.link(name, 'manifest', digest)]).toEqual(held)
    expect(await a.index.putLink(name, 'layer', digest, a.index.mark())).toBe(false)
    expect(await a.index.putTag(name, tagOf('new'), digest, a.index.mark())).toBe(false)
    expect(await a.index.stands(name, 'manifest', digest, a.index.mark())).toBe(false)
    a.index.renewTag(name, latest, digest, { ...a.index.mark(), atMs: Date.now() + 120_000 })
    await a.close()
    expect(await b.index.tag(name, latest)).toEqual(held[0])
    expect(await b.index.link(name, 'layer', digest)).toBeUndefined()
    expect((await stores.a.metrics.storeErrors.get()).values).toContainEqual(
      expect.objectContaining({ labels: { kind: 'coordination' } }),
    )
  })

  it.each<[string, () => Promise<unknown>]>([
    ['a removal is announced', () => a.index.mayRemove()],
    ['a tag is removed', () => a.index.hideTag(name, latest)],
    ['a link is removed', () => a.index.hideLink(name, 'manifest', digest)],
    ['a link expires', () => a.index.expireLink(name, 'manifest', digest)],
    ['a repository expires', () => a.index.expireRepository(name)],
    ['another project takes the path', () => a.index.identify(name, 8, 2000)],
    ['a repository is marked complete', () => a.holdings.markComplete(name, before)],
  ])('is refused that %s', async (_what, change) => {
    await redis.stop()
    const beganAt = performance.now()

    await expect(change()).rejects.toBeInstanceOf(CoordinationUnavailableError)

    expect(performance.now() - beganAt).toBeLessThan(4000)
    expect(await b.holdings.tags(name)).toEqual([latest])
    expect(await b.holdings.links(name, 'manifest')).toEqual([digest])
    await redisBack()
    await change()
  })

  it('what could not be removed is at least not served: the link, and every tag of a manifest', async () => {
    await redis.stop()
    await expect(a.index.hideLink(name, 'manifest', digest)).rejects.toThrow()

    expect(await b.index.link(name, 'manifest', digest)).toEqual({ target: digest, confirmedAtMs: undefined })
    expect(await b.index.tag(name, latest)).toEqual({ digest, confirmedAtMs: undefined })

    // And no answer to a question from before brings it back.
    await redis.start()
    await reached(stores.a.coordination)
    expect(await b.index.putLink(name, 'manifest', digest, before)).toBe(false)
  })

  it('a tag is doubted all the same, and no older answer renews it afterwards', async () => {
    await redis.stop()
    await a.index.doubtTag(name, latest)
    expect(await b.index.tag(name, latest)).toEqual({ digest, confirmedAtMs: undefined })

    await redis.start()
    await reached(stores.a.coordination)
    b.index.renewTag(name, latest, digest, { ...before, atMs: Date.now() + 120_000 })
    await b.close()
    expect(await a.index.tag(name, latest)).toEqual({ digest, confirmedAtMs: undefined })
  })

  it('a mark of completeness is dropped all the same, and no older inventory brings it back', async () => {
    await redis.stop()
    await a.holdings.dropComplete(name)
    expect(await b.holdings.completeSince(name)).toBeUndefined()
    await expect(access(a.paths.complete(name))).rejects.toThrow()

    await redis.start()
    await reached(stores.a.coordination)
    await reached(stores.b.coordination)
    await b.holdings.markComplete(name, before)
    expect(await b.holdings.completeSince(name)).toBeUndefined()
    await b.holdings.markComplete(name, b.index.mark())
    expect(await a.holdings.completeSince(name)).toBeDefined()
  })

  it('callers are told whose path it is, as long as nothing has to be hidden', async () => {
    await redis.stop()

    expect(await a.index.identify(name, 7, 1500)).toBe('same')
    expect(await a.index.identify(name, 6, 500)).toBe('older')
    expect(await a.index.identify(nameOf('team/new'), 9, 500)).toBe('same')
  })

  it('drops and doubts are kept when Redis was only frozen, and remembers everything', async () => {
    redis.freeze()
    await a.index.doubtTag(name, latest)
    await a.holdings.dropComplete(name)
    redis.thaw()
    await reached(stores.a.coordination)
    await reached(stores.b.coordination)

    b.index.renewTag(name, latest, digest, { ...before, atMs: Date.now() + 120_000 })
    await b.holdings.markComplete(name, before)
    await b.close()

    expect(await a.index.tag(name, latest)).toEqual({ digest, confirmedAtMs: undefined })
    expect(await a.holdings.completeSince(name)).toBeUndefined()
  })
})
