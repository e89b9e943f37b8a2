import { randomBytes } from 'node:crypto'
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import pino from 'pino'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { type Captures, type CapturesOptions, createCaptures } from '../../proxy/capture.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import type { BlobStore } from '../../src/store/blob-store.ts'
import { type StoreFixture, storeFixture } from '../store/store-fixture.ts'

const MIB = 1024 * 1024

let fixture: StoreFixture
let captures: Captures
beforeEach(async () => {
  fixture = await storeFixture()
  captures = await open()
})
afterEach(async () => {
  await captures.close()
  await fixture[Symbol.asyncDispose]()
})

/** Patient, so that a busy disk decides no test but the one about it. */
const open = (options: Partial<CapturesOptions> = {}, blobs: BlobStore = fixture.store.blobs) =>
  createCaptures(
    { blobs, metrics: fixture.metrics, log: pino({ level: 'silent' }) },
    { folder: fixture.store.paths.spools, patienceMs: 30_000, ...options },
  )

const left = () => readdir(fixture.store.paths.spools)
const content = (digest: Digest) => fixture.store.blobs.read(digest, 200 * MIB)

async function outcomes(): Promise<Record<string, number>> {
  const { values } = await fixture.metrics.captures.get()
  return Object.fromEntries(values.map(({ labels, value }) => [labels.outcome, value]))
}

function part(key: string, startByte?: number) {
  const taken = captures.part(key, startByte)
  if (!taken) throw new Error(`${key} is not being captured`)
  return taken
}

/** One request of the session that the primary takes whole. */
async function send(key: string, bytes: Buffer, startByte?: number): Promise<void> {
  const chunk = part(key, startByte)
  for (let at = 0; at < bytes.length; at += 64 * 1024) await chunk.write(bytes.subarray(at, at + 64 * 1024))
  chunk.acknowledged(undefined)
}

describe('a capture', () => {
  it.each(['sha256', 'sha512'] as const)(
    'of several requests is published under its %s digest',
    async (algorithm) => {
      const bytes = randomBytes(3 * MIB + 17)
      captures.begin('k')

      await send('k', bytes.subarray(0, MIB))
      await send('k', bytes.subarray(MIB, 2 * MIB), MIB)
      const last = part('k')
      await last.write(bytes.subarray(2 * MIB))

      expect(await last.keep(digestOf(bytes, algorithm))).toBe(true)
      expect(await content(digestOf(bytes, algorithm))).toEqual(bytes)
      expect(await outcomes()).toEqual({ kept: 1 })
      await vi.waitFor(async () => expect(await left()).toEqual([]))
    },
  )

  it('keeps an empty blob', async () => {
    const empty = digestOf(Buffer.alloc(0))
    captures.begin('k')

    expect(await part('k').keep(empty)).toBe(true)
    expect(await content(empty)).toEqual(Buffer.alloc(0))
  })

  it('goes back to what the primary acknowledged when that is less than was sent', async () => {
    const bytes = randomBytes(MIB)
    captures.begin('k')

    const first = part('k')
    await first.write(bytes)
    first.acknowledged({ start: 0, end: 999 })
    await send('k', bytes.subarray(1000), 1000)

    expect(await part('k').keep(digestOf(bytes))).toBe(true)
    expect(await content(digestOf(bytes))).toEqual(bytes)
  })

  it('forgets the tail that the primary never acknowledged, also when nothing follows it', async () => {
    const bytes = randomBytes(MIB)
    captures.begin('k')

    const first = part('k')
    await first.write(bytes)
    first.acknowledged({ start: 0, end: 999 })

    expect(await part('k').keep(digestOf(bytes.subarray(0, 1000)))).toBe(true)
    expect(await content(digestOf(bytes.subarray(0, 1000)))).toEqual(bytes.subarray(0, 1000))
  })

  it('follows what the primary says it has after a request that broke off', async () => {
    const bytes = randomBytes(MIB)
    captures.begin('k')

    const broken = part('k')
    await broken.write(bytes.subarray(0, 5000))
    broken.unsettled()
    captures.learn('k', { start: 0, end: 2999 })
    await send('k', bytes.subarray(3000), 3000)

    expect(await part('k').keep(digestOf(bytes))).toBe(true)
  })

  it('takes 0-0 for an upload that is still empty, as Distribution means it', async () => {
    const bytes = randomBytes(100)
    captures.begin('k')

    captures.learn('k', { start: 0, end: 0 })
    await send('k', bytes, 0)

    expect(await part('k').keep(digestOf(bytes))).toBe(true)
  })

  it('is not spoilt by a chunk out of order, which the primary refuses', async () => {
    const bytes = randomBytes(1000)
    captures.begin('k')
    await send('k', bytes.subarray(0, 500), 0)

    const outOfOrder = part('k', 700)
    await outOfOrder.write(randomBytes(300))
    outOfOrder.unsettled()
    const replayed = part('k', 0)
    await replayed.write(randomBytes(500))
    replayed.unsettled()
    await send('k', bytes.subarray(500), 500)

    expect(await part('k').keep(digestOf(bytes))).toBe(true)
  })

  it.each([
    ['acknowledges more than was sent', { start: 0, end: 100_000 }],
    ['acknowledges from the middle', { start: 5, end: 99 }],
  ])('is dropped when the primary %s', async (_, range) => {
    captures.begin('k')
    const first = part('k')
    await first.write(randomBytes(100))
    first.acknowledged(range)

    expect(captures.part('k', undefined)).toBeUndefined()
    expect(await outcomes()).toEqual({ dropped: 1 })
    await vi.waitFor(async () => expect(await left()).toEqual([]))
  })

  it('is dropped when the primary takes bytes out of order', async () => {
    captures.begin('k')
    const odd = part('k', 50)
    await odd.write(randomBytes(100))
    odd.acknowledged({ start: 0, end: 149 })

    expect(captures.part('k', undefined)).toBeUndefined()
  })

  it('is dropped when two requests of the session run at once', async () => {
    captures.begin('k')
    const first = part('k')
    await first.write(randomBytes(100))

    expect(captures.part('k', undefined)).toBeUndefined()
    await first.write(randomBytes(100))
    expect(await first.keep(digestOf(Buffer.alloc(0)))).toBe(false)
    expect(await outcomes()).toEqual({ dropped: 1 })
  })

  it.each(['sha256', 'sha512'] as const)(
    'publishes nothing when the bytes are not those of the %s digest',
    async (algorithm) => {
      const claimed = digestOf(Buffer.from('something else'), algorithm)
      captures.begin('k')
      const only = part('k')
      await only.write(randomBytes(100))

      expect(await only.keep(claimed)).toBe(false)
      expect(await content(claimed)).toBeUndefined()
      await vi.waitFor(async () => expect(await left()).toEqual([]))
    },
  )

  it('goes on under the address the primary moved the session to', async () => {
    const bytes = randomBytes(200)
    captures.begin('k')
    await send('k', bytes.subarray(0, 100))

    captures.rename('k', 'moved')
    await send('moved', bytes.subarray(100))

    expect(captures.part('k', undefined)).toBeUndefined()
    expect(await part('moved').keep(digestOf(bytes))).toBe(true)
  })
})

describe('captures', () => {
  it('of two uploads to which the primary gives one address are not mixed up', async () => {
    const bytes = randomBytes(100)
    captures.begin('k')
    await send('k', randomBytes(50))
    captures.begin('k')
    captures.begin('other')
    await send('other', randomBytes(50))
    captures.rename('k', 'other')
    await send('other', bytes)

    expect(await part('other').keep(digestOf(bytes))).toBe(true)
    expect(await outcomes()).toEqual({ dropped: 2, kept: 1 })
    await vi.waitFor(async () => expect(await left()).toEqual([]))
  })

  it('of several uploads at once do not mix', async () => {
    const blobs = Array.from({ length: 8 }, () => randomBytes(MIB))
    for (const n of blobs.keys()) captures.begin(`k${n}`)

    const kept = await Promise.all(
      blobs.map(async (bytes, n) => {
        await send(`k${n}`, bytes)
        return part(`k${n}`).keep(digestOf(bytes))
      }),
    )

    expect(kept).toEqual(blobs.map(() => true))
    for (const bytes of blobs) expect(await content(digestOf(bytes))).toEqual(bytes)
  })

  it('over the limit drop the session that was used least recently', async () => {
    await captures.close()
    captures = await open({ maxSessions: 2 })
    captures.begin('a')
    captures.begin('b')
    await send('a', randomBytes(10))

    captures.begin('c')

    expect(captures.part('b', undefined)).toBeUndefined()
    expect(captures.part('a', undefined)).toBeDefined()
    expect(captures.part('c', undefined)).toBeDefined()
  })

  it('of a session nobody continues are removed', async () => {
    await captures.close()
    captures = await open({ idleMs: 20 })
    captures.begin('k')
    await send('k', randomBytes(100))

    await vi.waitFor(() => expect(captures.part('k', undefined)).toBeUndefined())
    await vi.waitFor(async () => expect(await left()).toEqual([]))
    expect(await outcomes()).toEqual({ dropped: 1 })
  })

  it('left by a crash are removed at start, and nothing else is', async () => {
    const { spools } = fixture.store.paths
    await writeFile(join(spools, 'capture-3d1c'), 'half a blob')
    await writeFile(join(spools, 'fill-3d1c'), 'not ours')

    await captures.close()
    captures = await open()

    expect(await left()).toEqual(['fill-3d1c'])
  })

  it('are removed on close, however far they are', async () => {
    captures.begin('waiting')
    await send('waiting', randomBytes(100))
    captures.begin('running')
    await part('running').write(randomBytes(100))

    await captures.close()

    expect(await left()).toEqual([])
  })

  it('end, and the upload goes on, when the disk has no room', async () => {
    await captures.close()
    captures = await open({}, { ...fixture.store.blobs, hasRoom: () => Promise.resolve(false) })
    captures.begin('k')
    await send('k', randomBytes(MIB))
    await vi.waitFor(async () => {
      await captures.part('k', undefined)?.write(randomBytes(10))
      expect(captures.part('k', undefined)).toBeUndefined()
    })

    expect(await outcomes()).toEqual({ dropped: 1 })
    expect((await fixture.metrics.storeErrors.get()).values).toMatchObject([
      { labels: { kind: 'full' }, value: 1 },
    ])
  })

  it('hold an upload back no longer than they may when the disk does not take their bytes', async () => {
    const stuck = Promise.withResolvers<boolean>()
    await captures.close()
    captures = await open({ patienceMs: 50 }, { ...fixture.store.blobs, hasRoom: () => stuck.promise })
    captures.begin('k')
    const first = part('k')

    const startedAt = performance.now()
    for (let n = 0; n < 64; n += 1) await first.write(randomBytes(64 * 1024))
    const heldMs = performance.now() - startedAt
    first.acknowledged(undefined)

    expect(heldMs).toBeGreaterThan(40)
    expect(heldMs).toBeLessThan(2500)
    expect(captures.part('k', undefined)).toBeUndefined()
    stuck.resolve(true)
    await captures.close()
    expect(await left()).toEqual([])
  })

  it('survive a store that cannot publish: nothing is left, nothing thrown', async () => {
    const publish = () => Promise.reject(new Error('read-only file system'))
    await captures.close()
    captures = await open({}, { ...fixture.store.blobs, publish })
    const bytes = randomBytes(100)
    captures.begin('k')
    const only = part('k')
    await only.write(bytes)

    expect(await only.keep(digestOf(bytes))).toBe(false)
    await vi.waitFor(async () => expect(await left()).toEqual([]))
  })

  it('of blobs big enough to be synced on the way are kept, also two at once', async () => {
    const bytes = randomBytes(64 * MIB)
    captures.begin('a')
    captures.begin('b')

    await Promise.all([send('a', bytes), send('b', bytes)])

    expect(await part('a').keep(digestOf(bytes))).toBe(true)
    expect(await part('b').keep(digestOf(bytes))).toBe(true)
  })
})
