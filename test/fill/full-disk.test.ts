/** A disk that takes no more: nothing is kept, and every client gets its bytes all the same. */
import { execFileSync } from 'node:child_process'
import { readdir } from 'node:fs/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openFill } from '../../src/fill/flights.ts'
import { createLogger } from '../../src/log.ts'
import { HOLD_BACK_BYTES } from '../../src/store/verify-stream.ts'
import { type TempFolder, tempFolder } from '../support/temp.ts'
import {
  APP,
  type FillFixture,
  fillFixture,
  follow,
  landed,
  MiB,
  OTHER,
  pull,
  readSpan,
  someBytes,
  token,
} from './fill-fixture.ts'

let site: FillFixture
let hasRoom = true
beforeEach(async () => {
  hasRoom = true
  site = await fillFixture({ blobs: (blobs) => ({ ...blobs, hasRoom: async () => hasRoom }) })
})
afterEach(() => site[Symbol.asyncDispose]())

async function storeErrors(kind: string): Promise<number> {
  const { values } = await site.metrics.storeErrors.get()
  return values.find(({ labels }) => labels.kind === kind)?.value ?? 0
}

describe('no room when a pull begins', () => {
  beforeEach(() => {
    hasRoom = false
  })

  it.each([0, 1, HOLD_BACK_BYTES, HOLD_BACK_BYTES + 1, 3 * MiB])(
    'serves %i bytes and keeps none',
    async (size) => {
      const bytes = someBytes(size)
      const digest = site.primary.hold([APP], bytes)

      const got = await pull(site.fill, APP, digest)

      expect(got.equals(bytes)).toBe(true)
      expect([site.fill.inFlight, await site.spools()]).toEqual([0, []])
      expect(await site.store.blobs.stat(digest)).toBeUndefined()
      expect(await storeErrors('full')).toBe(1)
    },
  )

  it('asks the primary for every caller', async () => {
    const digest = site.primary.hold([APP], someBytes(100))

    await pull(site.fill, APP, digest)

    await expect(pull(site.fill, OTHER, digest)).rejects.toMatchObject({ kind: 'absent' })
  })

  it('resumes a body that is cut', async () => {
    const bytes = someBytes(3 * MiB)
    const digest = site.primary.hold([APP], bytes)
    site.primary.answer(({ number }) => (number < 2 ? { cutAfter: MiB + 7 } : undefined))

    expect((await pull(site.fill, APP, digest)).equals(bytes)).toBe(true)
    expect(await site.receivedBytes()).toBe(bytes.length)
  })

  it('still shows nothing of the last 64 KiB of a wrong blob', async () => {
    const bytes = someBytes(MiB)
    const digest = site.primary.hold([APP], bytes)
    site.primary.answer(() => ({ wrongByteAt: 17 }))
    const follower = await follow(site.fill, APP, digest)
    const heldFrom = bytes.length - HOLD_BACK_BYTES

    const shown = await readSpan(follower, 0, heldFrom)

    expect(shown.subarray(18).equals(bytes.subarray(18, heldFrom))).toBe(true)
    for (const attempt of [1, 2]) {
      await expect(readSpan(follower, heldFrom), `read ${attempt}`).rejects.toMatchObject({ kind: 'faulty' })
    }
    follower.close()
  })

  it('lets a reader jump', async () => {
    const bytes = someBytes(3 * MiB)
    const digest = site.primary.hold([APP], bytes)
    const follower = await follow(site.fill, APP, digest)

    for (const [start, end] of [
      [MiB, 2 * MiB],
      [5, 10],
      [bytes.length - 20, bytes.length],
    ] as const) {
      expect((await readSpan(follower, start, end)).equals(bytes.subarray(start, end))).toBe(true)
    }
    follower.close()
  })

  it('ends the request of a client that has gone', async () => {
    const digest = site.primary.hold([APP], someBytes(MiB))
    site.primary.answer(() => ({ pause: { after: 1000, until: new Promise(() => undefined) } }))
    const follower = await follow(site.fill, APP, digest)
    const gone = new AbortController()
    await readSpan(follower, 0, 1000, { signal: gone.signal })

    const reading = readSpan(follower, 1000, 2000, { signal: gone.signal })
    gone.abort(new Error('gone'))

    await expect(reading).rejects.toThrow('gone')
    follower.close()
  })

  it('keeps what is asked for once there is room again', async () => {
    const bytes = someBytes(MiB)
    const digest = site.primary.hold([APP], bytes)
    await pull(site.fill, APP, digest)
    hasRoom = true

    await pull(site.fill, APP, digest)
    await landed(site.fill)

    expect(await site.store.blobs.stat(digest)).toBe(bytes.length)
  })
})

describe('a disk that fills up in the middle of a fill', () => {
  const DISK_BYTES = 8 * MiB
  let disk: TempFolder

  beforeEach(async () => {
    disk = await tempFolder('small-disk')
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${DISK_BYTES}`, 'tmpfs', disk.path])
  })
  afterEach(async () => {
    execFileSync('umount', ['--lazy', disk.path])
    await disk[Symbol.asyncDispose]()
  })

  /** A fill whose spools lie on the small disk. */
  async function fillOnSmallDisk() {
    const { upstream, store, metrics } = site
    const deps = { upstream, metrics, ...store, log: createLogger({ level: 'silent' }) }
    return openFill(deps, { folder: disk.path })
  }

  it('gives every client every byte, keeps nothing, and fetches for nobody else’s sake', async () => {
    const fill = await fillOnSmallDisk()
    const bytes = someBytes(20 * MiB)
    const digest = site.primary.hold([APP], bytes)

    const pulls = ['alice', 'bob'].map((who) => pull(fill, APP, digest, { credential: token(who) }))
    const got = await Promise.all(pulls)

    expect(got.every((one) => one.equals(bytes))).toBe(true)
    expect(fill.inFlight).toBe(0)
    expect(await storeErrors('full')).toBeGreaterThanOrEqual(1)
    expect(await site.store.blobs.stat(digest)).toBeUndefined()
    await fill.close()
  })

  it('is what a fetch of the site’s own is told, and nothing more is read for it', async () => {
    const fill = await fillOnSmallDisk()
    const bytes = someBytes(40 * MiB)
    const digest = site.primary.hold([APP], bytes)
    const { signal } = new AbortController()

    const fetching = fill.fetch(APP, digest, { credential: token('site'), signal, connections: 2 })

    await expect(fetching).rejects.toMatchObject({ name: 'StoreError', kind: 'full' })
    expect(await site.receivedBytes()).toBeLessThan(2 * DISK_BYTES)
    expect(await readdir(disk.path)).toEqual([])
    await fill.close()
  })

  it('frees the disk when the last of its clients has left', async () => {
    const fill = await fillOnSmallDisk()
    const large = site.primary.hold([APP], someBytes(20 * MiB))
    await pull(fill, APP, large)
    await landed(fill)

    const used = execFileSync('df', ['--output=used', '-B1', disk.path], { encoding: 'utf8' }).split('\n')[1]

    expect(Number(used)).toBeLessThan(MiB)
    await fill.close()
  })

  it('shows nothing of the end of a wrong blob to a client that began on the spool', async () => {
    const fill = await fillOnSmallDisk()
    const bytes = someBytes(20 * MiB)
    const digest = site.primary.hold([APP], bytes)
    site.primary.answer(() => ({ wrongByteAt: 100 }))
    const follower = await follow(fill, APP, digest)

    await readSpan(follower, 0, bytes.length - HOLD_BACK_BYTES)
    await expect(readSpan(follower, bytes.length - HOLD_BACK_BYTES)).rejects.toMatchObject({ kind: 'faulty' })
    follower.close()
    await fill.close()
  })

  it('serves a range that waited for the fill', async () => {
    const fill = await fillOnSmallDisk()
    const bytes = someBytes(20 * MiB)
    const digest = site.primary.hold([APP], bytes)
    const whole = await follow(fill, APP, digest)

    const got = await pull(fill, APP, digest, { range: { start: 15 * MiB, end: 16 * MiB - 1 } })

    expect(got.equals(bytes.subarray(15 * MiB, 16 * MiB))).toBe(true)
    whole.close()
    await fill.close()
  })
})

it('a folder that takes no file at all costs no client its bytes', async () => {
  const bytes = someBytes(MiB)
  const digest = site.primary.hold([APP], bytes)
  const { upstream, store, metrics } = site
  await using folder = await tempFolder()
  const deps = { upstream, metrics, ...store, log: createLogger({ level: 'silent' }) }
  const fill = await openFill(deps, { folder: folder.path })
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'ro', 'tmpfs', folder.path])
  try {
    expect((await pull(fill, APP, digest)).equals(bytes)).toBe(true)
    expect(fill.inFlight).toBe(0)
  } finally {
    await fill.close()
    execFileSync('umount', [folder.path])
  }
})
