/** More blobs at once than `http.limits.maxfills`, where the places are taken by what only waits for the disk. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { until } from '../support/wait.ts'
import {
  APP,
  type FillFixture,
  fillFixture,
  KiB,
  landed,
  pull,
  readSpan,
  someBytes,
  token,
} from './fill-fixture.ts'

let site: FillFixture
let disk: PromiseWithResolvers<void>
beforeEach(async () => {
  site = await fillFixture()
  disk = Promise.withResolvers()
})
afterEach(async () => {
  disk.resolve()
  await site[Symbol.asyncDispose]()
})

const hold = (): Digest => site.primary.hold([APP], someBytes(KiB))
const holdAll = (count: number): Digest[] => Array.from({ length: count }, hold)
const waiting = async () => (await site.metrics.fillsWaiting.get()).values[0]?.value ?? 0

/** Clients have had as many blobs as there are places, and the disk has taken none of them. */
async function takeAll(places: number, placeWithinMs?: number): Promise<void> {
  await site.restart({
    maxConcurrentFills: places,
    placeWithinMs,
    blobs: (blobs) => ({
      ...blobs,
      async publish(path, digest) {
        await disk.promise
        return blobs.publish(path, digest)
      },
    }),
  })
  await Promise.all(holdAll(places).map((digest) => pull(site.fill, APP, digest)))
}

/** Begins to get each of them when the one before waits, and resolves once all do. */
async function inLine(digests: readonly Digest[], signal?: AbortSignal) {
  const gets: ReturnType<typeof get>[] = []
  for (const digest of digests) {
    const before = await waiting()
    const one = get(digest, signal)
    one.catch(() => undefined) // Looked at by the test.
    gets.push(one)
    await until(async () => (await waiting()) > before, { what: 'it to wait', everyMs: 2 })
  }
  return gets
}

/** What comes of it: the bytes, or where they are. */
async function get(digest: Digest, signal?: AbortSignal): Promise<Digest | 'stored' | 'pass'> {
  const outcome = await site.fill.follow(APP, digest, { credential: token('alice'), signal })
  if (outcome.kind !== 'follower') return outcome.kind
  const bytes = await readSpan(outcome.follower)
  outcome.follower.close()
  return digestOf(bytes)
}

describe('blobs that come faster than the disk takes them', () => {
  it('are waited for: every client gets its own, and each is fetched once', async () => {
    await takeAll(2)
    const digests = holdAll(12)
    const gets = await inLine([...digests, ...digests])
    expect(site.primary.gets()).toHaveLength(2)

    disk.resolve()
    const got = await Promise.all(gets)

    for (const [index, digest] of [...digests, ...digests].entries()) {
      expect([digest, 'stored']).toContain(got[index])
    }
    await landed(site.fill)
    expect(site.primary.gets()).toHaveLength(14)
    expect(await waiting()).toBe(0)
  })

  it('come in the order they were asked for, and one that nobody waits for any more holds up none', async () => {
    await takeAll(1)
    const leaving = new AbortController()
    const [left] = await inLine([hold()], leaving.signal)
    const digests = holdAll(3)
    const gets = await inLine(digests)

    leaving.abort(new Error('the client left'))
    await expect(left).rejects.toThrow('the client left')
    disk.resolve()

    expect(await Promise.all(gets)).toEqual(digests)
    expect(
      site.primary
        .gets()
        .map(({ digest }) => digest)
        .slice(1),
    ).toEqual(digests)
  })

  it('are joined as soon as one that waited for the same has got a place', async () => {
    await takeAll(1)
    const digest = hold()
    const gets = await inLine([digest, digest, digest])
    const gate = Promise.withResolvers<void>()
    site.primary.answer(() => ({ pause: { after: 1, until: gate.promise } }))

    disk.resolve()
    await until(async () => (await waiting()) === 0, { what: 'all to be on their way' })
    gate.resolve()

    expect(await Promise.all(gets)).toEqual([digest, digest, digest])
  })

  it('do not wait behind one that came another way meanwhile', async () => {
    await takeAll(1)
    const bytes = someBytes(KiB)
    const pushed = site.primary.hold([APP], bytes)
    const digest = hold()
    const gets = await inLine([pushed, digest])
    const path = join(site.store.paths.spools, 'pushed')
    await writeFile(path, bytes)
    await site.store.blobs.publish(path, pushed)

    disk.resolve()

    expect(await Promise.all(gets)).toEqual(['stored', digest])
  })

  it('are refused, and counted, where the disk stands still', async () => {
    await takeAll(1, 50)

    await expect(get(hold())).rejects.toMatchObject({
      name: 'FillLimitError',
      message: expect.stringContaining('the disk is behind'),
    })
    expect(await site.metrics.registry.getSingleMetricAsString('geo_registry_limited_total')).toContain(
      '{limit="maxfills"} 1',
    )
    expect(await waiting()).toBe(0)
  })

  it('end with the site', async () => {
    await takeAll(1)
    const [one] = await inLine([hold()])

    const closed = site.fill.close()
    disk.resolve()

    await expect(one).rejects.toMatchObject({ kind: 'aborted' })
    await closed
  })
})
