/** The site's own fetches: the same flight that clients follow (law 7), over several connections, at a pace of their own. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { FetchOptions } from '../../src/fill/fill.ts'
import type { Digest } from '../../src/oci/digest.ts'
import { StoreError } from '../../src/store/blob-store.ts'
import { until } from '../support/wait.ts'
import {
  APP,
  type FillFixture,
  fillFixture,
  follow,
  KiB,
  landed,
  MiB,
  OTHER,
  pull,
  readSpan,
  someBytes,
} from './fill-fixture.ts'

/** So that a few MiB make many parts: no part of several is shorter than 256 KiB. */
const PIECE = MiB
const PART = PIECE / 4

let site: FillFixture
beforeEach(async () => {
  site = await fillFixture({ pieceBytes: PIECE, siteCredential: { kind: 'site' } })
})
afterEach(() => site[Symbol.asyncDispose]())

function fetch(digest: Digest, options: Partial<FetchOptions> = {}, name = APP): Promise<void> {
  return site.fill.fetch(name, digest, {
    credential: { kind: 'site' },
    signal: new AbortController().signal,
    ...options,
  })
}

describe('a fetch', () => {
  it.each([0, 1, 64 * KiB, PIECE, 3 * PIECE + 1])(
    'resolves when all %i bytes are published and linked',
    async (size) => {
      const digest = site.primary.hold([APP], someBytes(size))

      await fetch(digest)

      expect(await site.store.blobs.stat(digest)).toBe(size)
      expect(await site.store.index.link(APP, 'layer', digest)).toMatchObject({ target: digest })
      expect(await site.receivedBytes()).toBe(size)
      expect([site.fill.inFlight, await site.spools()]).toEqual([0, []])
    },
  )

  it('of what is here asks the primary nothing', async () => {
    const digest = site.primary.hold([APP], someBytes(100))
    await fetch(digest)

    await fetch(digest)

    expect(site.primary.requests).toHaveLength(1)
  })

  it('and the clients of every repository share one reading of the primary', async () => {
    const bytes = someBytes(3 * MiB)
    const digest = site.primary.hold([APP, OTHER], bytes)

    const [, , got] = await Promise.all([
      fetch(digest),
      fetch(digest, {}, OTHER),
      pull(site.fill, APP, digest),
    ])
    await landed(site.fill)

    expect(got.equals(bytes)).toBe(true)
    expect(await site.receivedBytes()).toBe(bytes.length)
    expect(await site.store.index.link(OTHER, 'layer', digest)).toMatchObject({ target: digest })
  })

  it('goes on where a killed one stopped', async () => {
    const bytes = someBytes(3 * PIECE)
    const digest = site.primary.hold([APP], bytes)
    const never = new Promise(() => undefined)
    site.primary.answer(({ number }) =>
      number === 0 ? { pause: { after: PIECE / 2, until: never } } : undefined,
    )
    const interrupted = fetch(digest)
    await until(async () => (await site.receivedBytes()) >= PIECE / 2, { what: 'half a piece' })
    const failing = expect(interrupted).rejects.toMatchObject({ kind: 'aborted' })
    await site.restart()
    await failing
    site.primary.answer(() => undefined)

    await fetch(digest, { connections: 3 })

    expect(await site.receivedBytes()).toBe(bytes.length)
    expect(await site.store.blobs.stat(digest)).toBe(bytes.length)
  })

  it.each([
    ['the primary does not have', 'absent', (digest: Digest) => digest.replace(/.$/, 'x')],
    ['whose bytes are wrong', 'faulty', (digest: Digest) => digest],
  ])('of a blob %s is told so', async (_title, kind) => {
    const digest = site.primary.hold([kind === 'absent' ? OTHER : APP], someBytes(MiB))
    site.primary.answer(() => ({ wrongByteAt: 7 }))

    await expect(fetch(digest)).rejects.toMatchObject({ kind })
    expect(await site.store.blobs.stat(digest)).toBeUndefined()
  })

  it('that is given up leaves the flight to go on, unpaced', async () => {
    const bytes = someBytes(3 * PIECE)
    const digest = site.primary.hold([APP], bytes)
    const giveUp = new AbortController()
    const waits: AbortSignal[] = []
    const fetching = fetch(digest, { signal: giveUp.signal, pace: blocked(waits) })
    await until(() => waits.length > 0, { what: 'the fetch to wait for its pace' })

    giveUp.abort(new Error('enough'))

    await expect(fetching).rejects.toThrow('enough')
    await landed(site.fill)
    expect(await site.store.blobs.stat(digest)).toBe(bytes.length)
  })
})

describe('a fetch that cannot keep what it brings', () => {
  it('throws before a byte is asked for when there is no room', async () => {
    await site.restart({ blobs: (blobs) => ({ ...blobs, hasRoom: async () => false }) })
    const digest = site.primary.hold([APP], someBytes(MiB))

    await expect(fetch(digest)).rejects.toMatchObject({ name: 'StoreError', kind: 'full' })

    expect(site.primary.requests).toEqual([])
    expect(await site.spools()).toEqual([])
  })

  it('throws when publishing fails, and leaves nothing behind', async () => {
    const full = new StoreError('full', 'no space left on device')
    await site.restart({ blobs: (blobs) => ({ ...blobs, publish: () => Promise.reject(full) }) })
    const digest = site.primary.hold([APP], someBytes(MiB))

    await expect(fetch(digest)).rejects.toBe(full)

    expect([site.fill.inFlight, await site.spools()]).toEqual([0, []])
  })
})

describe('a fetch over several connections', () => {
  it('reads as many parts at a time, none of them short, and no byte twice', async () => {
    const bytes = someBytes(4 * MiB + 300 * KiB)
    const digest = site.primary.hold([APP], bytes)
    const gate = Promise.withResolvers<void>()
    site.primary.answer(({ number }) => (number === 0 ? undefined : { before: gate.promise }))

    const fetching = fetch(digest, { connections: 4 })
    await until(() => site.primary.gets().length >= 5, { what: 'four parts beside the first' })
    gate.resolve()
    await fetching

    const parts = site.primary.gets().map(({ range = [0, 0] }) => range[1] - range[0] + 1)
    expect(Math.min(...parts)).toBeGreaterThanOrEqual(PART)
    expect(await site.receivedBytes()).toBe(bytes.length)
    expect(await site.store.blobs.stat(digest)).toBe(bytes.length)
  })

  it('never has more requests under way than connections, once the short first part is here', async () => {
    const digest = site.primary.hold([APP], someBytes(8 * MiB))
    const never = Promise.withResolvers<void>()
    site.primary.answer(({ number }) =>
      number === 0 ? undefined : { pause: { after: 10, until: never.promise } },
    )

    const fetching = fetch(digest, { connections: 3 })
    await until(async () => (await site.receivedBytes()) === PART + 30, { what: 'three parts to begin' })

    expect(site.primary.gets()).toHaveLength(4)
    never.resolve()
    await fetching
  })

  it('gives a client that follows from the start its bytes as they come, whatever the later parts do', async () => {
    const bytes = someBytes(4 * MiB)
    const digest = site.primary.hold([APP], bytes)
    const gate = Promise.withResolvers<void>()
    // The second request brings what follows the first; all behind it stall.
    site.primary.answer(({ number }) => (number < 2 ? undefined : { before: gate.promise }))
    const fetching = fetch(digest, { connections: 4 })
    const client = await follow(site.fill, APP, digest)
    const [, second] = await until(() => site.primary.gets().length >= 4 && site.primary.gets(), {
      what: 'the parts to be asked for',
    })

    const end = (second?.range?.[1] ?? 0) + 1
    expect((await readSpan(client, 0, end)).equals(bytes.subarray(0, end))).toBe(true)
    expect(end).toBeGreaterThanOrEqual(2 * PART)
    gate.resolve()
    expect((await readSpan(client, end)).equals(bytes.subarray(end))).toBe(true)
    client.close()
    await fetching
  })

  it('speeds up a flight that a client has begun', async () => {
    const bytes = someBytes(8 * MiB)
    const digest = site.primary.hold([APP], bytes)
    const gate = Promise.withResolvers<void>()
    site.primary.answer(() => ({ pause: { after: 10, until: gate.promise } }))
    const reading = pull(site.fill, APP, digest)
    await until(() => site.primary.gets().length === 1, { what: 'the client’s request' })

    const fetching = fetch(digest, { connections: 3 })
    await until(() => site.primary.gets().length === 3, { what: 'two more' })

    gate.resolve()
    expect((await reading).equals(bytes)).toBe(true)
    await fetching
    expect(await site.receivedBytes()).toBe(bytes.length)
  })

  it('takes one body from a primary that ignores ranges', async () => {
    const bytes = someBytes(4 * MiB)
    const digest = site.primary.hold([APP], bytes)
    site.primary.answer(() => ({ ignoreRange: true }))

    await fetch(digest, { connections: 4 })

    expect(site.primary.gets()).toHaveLength(1)
    expect(await site.receivedBytes()).toBe(bytes.length)
  })
})

/** A pace that never allows more; the signals of who waits are in `waits`. */
function blocked(waits: AbortSignal[]): FetchOptions['pace'] {
  return (_bytes, signal) =>
    new Promise((_resolve, reject) => {
      waits.push(signal)
      signal.addEventListener('abort', () => reject(signal.reason))
    })
}

describe('a paced fetch', () => {
  it('tells its pace of every byte once', async () => {
    const bytes = someBytes(5 * MiB + 3)
    const digest = site.primary.hold([APP], bytes)
    const told: number[] = []

    await fetch(digest, { connections: 3, pace: async (count) => void told.push(count) })

    expect(told.reduce((sum, count) => sum + count, 0)).toBe(bytes.length)
  })

  it.each([1, 4])('reads little ahead of its pace over %i connections', async (connections) => {
    const digest = site.primary.hold([APP], someBytes(16 * MiB))
    const waits: AbortSignal[] = []
    const giveUp = new AbortController()
    const fetching = fetch(digest, { connections, pace: blocked(waits), signal: giveUp.signal })
    await until(() => waits.length >= connections, { what: 'every connection to wait' })
    const received = await steady(() => site.receivedBytes())

    // A batch that is told, one that is gathered, and what a stopped body still buffers, for each connection.
    expect(received).toBeLessThan(1.5 * MiB + connections * 512 * KiB)
    giveUp.abort()
    await expect(fetching).rejects.toThrow()
    await landed(site.fill)
  })

  it('waits for its pace also when the blob came in one go', async () => {
    const digest = site.primary.hold([APP], someBytes(1000))
    const allowed = Promise.withResolvers<void>()
    let isDone = false

    const fetching = fetch(digest, { pace: () => allowed.promise }).then(() => {
      isDone = true
    })
    await until(async () => (await site.store.blobs.stat(digest)) !== undefined, { what: 'the blob' })
    await landed(site.fill)

    expect(isDone).toBe(false)
    allowed.resolve()
    await fetching
  })

  it('goes at full speed, and asks its pace nothing, from when a client joins until the last has left', async () => {
    const bytes = someBytes(16 * MiB)
    const digest = site.primary.hold([APP], bytes)
    const waits: AbortSignal[] = []
    const gate = Promise.withResolvers<void>()
    site.primary.answer(({ range }) => (range?.[0] === 14 * MiB ? { before: gate.promise } : undefined))
    const giveUp = new AbortController()
    const fetching = fetch(digest, { pace: blocked(waits), signal: giveUp.signal })
    await until(() => waits.length === 1, { what: 'the fetch to wait for its pace' })

    const client = await follow(site.fill, APP, digest)
    const got = await readSpan(client, 0, 14 * MiB)

    expect(got.equals(bytes.subarray(0, 14 * MiB))).toBe(true)
    expect(waits.map(({ aborted }) => aborted)).toEqual([true])
    client.close()
    gate.resolve()
    await until(() => waits.length >= 2, { what: 'the fetch to wait for its pace again' })
    giveUp.abort()
    await expect(fetching).rejects.toThrow()
    await landed(site.fill)
  })

  it('does not hold up a client that came first', async () => {
    const bytes = someBytes(4 * MiB)
    const digest = site.primary.hold([APP], bytes)
    const waits: AbortSignal[] = []
    const client = await follow(site.fill, APP, digest)

    const fetching = fetch(digest, { pace: blocked(waits) })
    const got = await readSpan(client)
    await fetching

    expect(got.equals(bytes)).toBe(true)
    expect(waits.length).toBe(0)
    client.close()
  })
})

/** A number once ten looks in a row found it unchanged. */
async function steady(look: () => Promise<number>): Promise<number> {
  let last = Number.NaN
  let looks = 0
  await until(
    async () => {
      const now = await look()
      looks = now === last ? looks + 1 : 0
      last = now
      return looks >= 10
    },
    { what: 'a number to stand still' },
  )
  return last
}
