/** A store that is read again, blob by blob, for damage: over a real store and tracking database. */
import { readdir, rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import pino from 'pino'
import { describe, expect, it, vi } from 'vitest'
import { createScrub, type ScrubOptions } from '../../replicator/scrub.ts'
import { createWholeGraphs } from '../../replicator/whole-graphs.ts'
import { createMetrics } from '../../src/metrics.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import type { Wake } from '../../src/queue/queue.ts'
import type { BlobStore } from '../../src/store/blob-store.ts'
import { openTracking } from '../../src/tracking/open-tracking.ts'
import { nameOf, putBlob, storeFixture } from '../store/store-fixture.ts'

const APP = nameOf('group/app')
const OTHER = nameOf('group/other')
const inOrder = (one: Digest, other: Digest) => (one < other ? -1 : 1)
const QUICK: ScrubOptions = { periodMs: 1000, bytesPerSecond: 1e12 }

async function scrubFixture() {
  await using starting = new AsyncDisposableStack()
  const { store, root } = starting.use(await storeFixture())
  const log = pino({ level: 'silent' })
  const file = join(root, 'geo-registry', 'tracking.db')
  const tracking = starting.use(await openTracking({ kind: 'sqlite', file }, { log }))
  const wakes: Wake[] = []
  const asked: string[] = []
  const whole = createWholeGraphs({
    async missing(name, digest) {
      asked.push(`${name} ${digest}`)
      return { blobs: 0, bytes: 0 }
    },
  })
  const metrics = createMetrics()
  const owned = starting.move()
  const read: Digest[] = []
  const blobs: Pick<BlobStore, 'open' | 'quarantine'> = {
    quarantine: store.blobs.quarantine,
    async open(digest) {
      read.push(digest)
      return store.blobs.open(digest)
    },
  }
  const queue = { wake: async (wake: Wake) => void wakes.push(wake) }
  return {
    store,
    root,
    tracking,
    wakes,
    whole,
    metrics,
    asked,
    read,
    scrub: (options: ScrubOptions = QUICK, parts: Partial<Parameters<typeof createScrub>[0]> = {}) =>
      createScrub({ ...store, blobs, tracking, queue, whole, log, metrics, ...parts }, options),
    /** Blobs of these texts, linked in the repository. */
    async hold(name: typeof APP, ...texts: string[]): Promise<Digest[]> {
      const digests: Digest[] = []
      for (const text of texts) {
        const digest = await putBlob(store, text)
        await store.index.putLink(name, 'layer', digest, store.index.mark())
        digests.push(digest)
      }
      return digests
    },
    quarantined: () => readdir(store.paths.quarantine),
    damaged: async () => (await metrics.scrubDamaged.get()).values[0]?.value ?? 0,
    cursor: async () => JSON.parse((await tracking.cursor('scrub')) ?? '{}') as { after?: string },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

describe('a scrub', () => {
  it('takes a damaged blob out of sight and wakes every repository that links it, and no other', async () => {
    await using site = await scrubFixture()
    const [good, bad] = await site.hold(APP, 'good', 'bad')
    await site.hold(OTHER, 'something else')
    if (!good || !bad) throw new Error('two blobs')
    await site.whole.has(APP, good)
    await site.store.holdings.markComplete(APP, site.store.index.mark())
    await writeFile(site.store.paths.blob(bad), 'bad?')
    const scrub = site.scrub()

    scrub.start()
    await vi.waitFor(() => expect(site.wakes.map(({ key }) => key)).toEqual([APP]), { timeout: 5000 })
    await scrub.close()

    expect(await site.store.blobs.stat(bad)).toBeUndefined()
    expect(await site.store.blobs.stat(good)).toBeDefined()
    expect(await site.quarantined()).toHaveLength(1)
    expect((await site.tracking.find(APP))?.state).toBe('pending')
    expect(await site.tracking.find(OTHER)).toBeUndefined()
    expect(await site.store.holdings.completeSince(APP)).toBeUndefined()
    await site.whole.has(APP, good)
    expect(site.asked, 'what was seen whole is looked at again').toHaveLength(2)
  })

  it.each([
    ['cut short', (path: string) => truncate(path, 3)],
    ['emptied', (path: string) => truncate(path, 0)],
    ['longer than it was', (path: string) => writeFile(path, 'a blob of some length, and more')],
  ])('notices a blob that is %s', async (_, damage) => {
    await using site = await scrubFixture()
    const [digest] = await site.hold(APP, 'a blob of some length')
    await damage(site.store.paths.blob(digest ?? digestOf(Buffer.from(''))))
    const scrub = site.scrub()

    scrub.start()
    await vi.waitFor(async () => expect(await site.damaged()).toBe(1), { timeout: 5000 })
    await scrub.close()

    expect(await site.quarantined()).toHaveLength(1)
  })

  it('calls a blob that is removed while it is read neither damaged nor lost', async () => {
    await using site = await scrubFixture()
    const [first, second] = (await site.hold(APP, 'first', 'second')).sort(inOrder)
    if (!first || !second) throw new Error('two blobs')
    const scrub = site.scrub(QUICK, {
      blobs: {
        quarantine: site.store.blobs.quarantine,
        async open(digest) {
          if (digest === second) await rm(site.store.paths.blob(digest))
          const blob = await site.store.blobs.open(digest)
          if (digest === first) await rm(site.store.paths.blob(digest))
          return blob
        },
      },
    })

    scrub.start()
    await vi.waitFor(async () => expect((await site.cursor()).after).toBe(second), { timeout: 5000 })
    await scrub.close()

    expect(await site.damaged()).toBe(0)
    expect(await site.quarantined()).toEqual([])
  })

  it('goes on after a restart where it stopped', async () => {
    await using site = await scrubFixture()
    const digests = (await site.hold(APP, ...Array.from({ length: 30 }, (_, at) => `blob ${at}`))).sort(
      inOrder,
    )
    const scrub = site.scrub({ ...QUICK, periodMs: 4000 })
    scrub.start()
    await vi.waitFor(() => expect(site.read.length).toBeGreaterThan(5), { timeout: 5000 })
    await scrub.close()
    const before = [...site.read]

    const next = site.scrub({ ...QUICK, periodMs: 1 })
    next.start()
    await vi.waitFor(() => expect(new Set(site.read).size).toBe(30), { timeout: 5000 })
    await next.close()

    expect(before.length).toBeLessThan(30)
    expect([...new Set(site.read)]).toEqual(digests)
    // The one that was being read when it stopped may be read again, none before it.
    expect(site.read.slice(before.length)[0]).toBeOneOf(digests.slice(before.length - 1, before.length + 1))
  })

  it('spreads its reading over the period, however small the store is', async () => {
    let nowMs = 1_000_000
    await using site = await scrubFixture()
    const digests = (await site.hold(APP, ...Array.from({ length: 40 }, (_, at) => `blob ${at}`))).sort(
      inOrder,
    )
    const periodMs = 1_000_000
    const scrub = site.scrub({ ...QUICK, periodMs }, { now: () => (nowMs += 1) })
    const due = (share: number) =>
      digests.filter((digest) => Number.parseInt(digest.slice(7, 15), 16) / 2 ** 32 <= share).length
    scrub.start()
    await vi.waitFor(async () => expect(await site.tracking.cursor('scrub')).toBeDefined())
    await scrub.close()

    nowMs += 450_000 // Half of what a pass takes.
    const later = site.scrub({ ...QUICK, periodMs }, { now: () => (nowMs += 1) })
    later.start()
    await vi.waitFor(() => expect(site.read.length).toBeGreaterThanOrEqual(due(0.49)), { timeout: 5000 })
    await later.close()

    expect(new Set(site.read).size).toBeLessThanOrEqual(due(0.51))
  })

  it('does not read faster than it may', async () => {
    await using site = await scrubFixture()
    await site.hold(APP, 'x'.repeat(600_000))
    const scrub = site.scrub({ periodMs: 1, bytesPerSecond: 2_000_000 })
    const startedAt = performance.now()

    scrub.start()
    // The second reading of it begins when the first has ended.
    await vi.waitFor(() => expect(site.read.length).toBeGreaterThan(1), { timeout: 5000 })
    const tookMs = performance.now() - startedAt
    await scrub.close()

    expect(tookMs).toBeGreaterThan(250)
  })

  it('passes over a blob that cannot be opened, and comes to the others', async () => {
    await using site = await scrubFixture()
    const [first, second] = (await site.hold(APP, 'first', 'second')).sort(inOrder)
    const scrub = site.scrub(QUICK, {
      blobs: {
        quarantine: site.store.blobs.quarantine,
        open: (digest) =>
          digest === first ? Promise.reject(new Error('too many open files')) : site.store.blobs.open(digest),
      },
    })

    scrub.start()
    await vi.waitFor(async () => expect((await site.cursor()).after).toBe(second), { timeout: 5000 })
    await scrub.close()

    expect(await site.quarantined()).toEqual([])
  })
})
