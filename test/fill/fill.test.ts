/** What every pull of a blob that is not here gets: its bytes once from the primary, then from the store. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { PIECE_BYTES } from '../../src/fill/plan.ts'
import { digestOf } from '../../src/oci/digest.ts'
import {
  APP,
  type FillFixture,
  fillFixture,
  follow,
  KiB,
  landed,
  MiB,
  pull,
  readSpan,
  someBytes,
  token,
} from './fill-fixture.ts'

let site: FillFixture
beforeEach(async () => {
  site = await fillFixture()
})
afterEach(() => site[Symbol.asyncDispose]())

describe('a blob that is not here', () => {
  it.each([
    ['an empty blob', 0],
    ['a blob of one byte', 1],
    ['a blob of exactly the held-back 64 KiB', 64 * KiB],
    ['a blob one byte longer than what is held back', 64 * KiB + 1],
    ['a blob of exactly one piece', PIECE_BYTES],
    ['a blob one byte longer than a piece', PIECE_BYTES + 1],
  ])('comes whole and is published: %s', async (_title, size) => {
    const bytes = someBytes(size)
    const digest = site.primary.hold([APP], bytes)

    const got = await pull(site.fill, APP, digest)
    await landed(site.fill)

    expect(got.equals(bytes)).toBe(true)
    expect(await site.store.blobs.stat(digest)).toBe(size)
    expect(await site.store.index.link(APP, 'layer', digest)).toMatchObject({ target: digest })
    expect(await site.receivedBytes()).toBe(size)
    expect(await site.spools()).toEqual([])
  })

  it('is checked by sha512 where that is its name', async () => {
    const bytes = someBytes(3 * MiB)
    const digest = site.primary.hold([APP], bytes, 'sha512')

    const got = await pull(site.fill, APP, digest)
    await landed(site.fill)

    expect(got.equals(bytes)).toBe(true)
    expect(await site.store.blobs.stat(digest)).toBe(bytes.length)
  })

  it('is read from the primary once for a hundred clients at once, half of them by ranges', async () => {
    const bytes = someBytes(36 * MiB)
    const digest = site.primary.hold([APP], bytes)
    const whole = await follow(site.fill, APP, digest)

    const clients = Array.from({ length: 100 }, async (_, index) => {
      const start = index % 2 === 0 ? 0 : (index * 350 * KiB) % bytes.length
      const end = index % 2 === 0 ? bytes.length : Math.min(start + 2 * MiB, bytes.length)
      const range = index % 2 === 0 ? { start: 0, end: undefined } : { start, end: end - 1 }
      const follower = await follow(site.fill, APP, digest, { range, credential: token(`client-${index}`) })
      const got = await readSpan(follower, start, end)
      follower.close()
      return got.equals(bytes.subarray(start, end))
    })
    const right = await Promise.all(clients)
    whole.close()
    await landed(site.fill)

    expect(right.every(Boolean)).toBe(true)
    expect(await site.receivedBytes()).toBe(bytes.length)
  })

  it('is published although every client has left, as long as the piece in progress brings it', async () => {
    const bytes = someBytes(5 * MiB)
    const digest = site.primary.hold([APP], bytes)
    const gate = Promise.withResolvers<void>()
    site.primary.answer(() => ({ pause: { after: MiB, until: gate.promise } }))
    const follower = await follow(site.fill, APP, digest)

    follower.close()
    gate.resolve()
    await landed(site.fill)

    expect(await site.store.blobs.stat(digest)).toBe(bytes.length)
    expect(site.primary.gets()).toHaveLength(1)
  })

  it('goes on for the others when one client gives up while it waits', async () => {
    const bytes = someBytes(2 * MiB)
    const digest = site.primary.hold([APP], bytes)
    const gate = Promise.withResolvers<void>()
    site.primary.answer(() => ({ pause: { after: MiB, until: gate.promise } }))
    const leaving = await follow(site.fill, APP, digest)
    const staying = await follow(site.fill, APP, digest)
    const gone = new AbortController()

    const left = readSpan(leaving, 0, bytes.length, { signal: gone.signal })
    gone.abort(new Error('the client has gone'))
    await expect(left).rejects.toThrow('the client has gone')
    leaving.close()
    gate.resolve()

    expect((await readSpan(staying)).equals(bytes)).toBe(true)
    staying.close()
  })

  it('does not wait for a client that reads nothing', async () => {
    const bytes = someBytes(40 * MiB)
    const digest = site.primary.hold([APP], bytes)
    const stalled = await follow(site.fill, APP, digest)

    const got = await pull(site.fill, APP, digest)
    await landed(site.fill)

    expect(got.equals(bytes)).toBe(true)
    expect((await readSpan(stalled)).equals(bytes)).toBe(true)
    stalled.close()
  })

  it('gives the first byte when the primary gives its first, not when a batch is full', async () => {
    const bytes = someBytes(2 * MiB)
    const digest = site.primary.hold([APP], bytes)
    const gate = Promise.withResolvers<void>()
    site.primary.answer(() => ({ pause: { after: 10, until: gate.promise } }))
    const follower = await follow(site.fill, APP, digest)

    expect((await readSpan(follower, 0, 10)).equals(bytes.subarray(0, 10))).toBe(true)
    gate.resolve()
    follower.close()
  })

  it('is taken whole from a primary that ignores ranges, in one request', async () => {
    const bytes = someBytes(PIECE_BYTES + 3 * MiB)
    const digest = site.primary.hold([APP], bytes)
    site.primary.answer(() => ({ ignoreRange: true }))

    const got = await pull(site.fill, APP, digest)
    await landed(site.fill)

    expect(got.equals(bytes)).toBe(true)
    expect(site.primary.gets()).toHaveLength(1)
    expect(await site.receivedBytes()).toBe(bytes.length)
  })

  it('is answered from the store by whoever comes after', async () => {
    const digest = site.primary.hold([APP], someBytes(KiB))
    await pull(site.fill, APP, digest)
    await landed(site.fill)

    expect(await site.fill.follow(APP, digest, { credential: token('bob') })).toEqual({ kind: 'stored' })
  })

  it('is said to be absent in the primary’s words, and nothing is left behind', async () => {
    const digest = digestOf(Buffer.from('never pushed'))

    await expect(pull(site.fill, APP, digest)).rejects.toMatchObject({ kind: 'absent', status: 404 })
    expect([site.fill.inFlight, await site.spools()]).toEqual([0, []])
  })

  it('is refused beyond the number of fills, while running ones can still be joined', async () => {
    await site.restart({ maxConcurrentFills: 1 })
    const first = site.primary.hold([APP], someBytes(KiB))
    const second = site.primary.hold([APP], someBytes(KiB))
    const gate = Promise.withResolvers<void>()
    site.primary.answer(() => ({ pause: { after: 1, until: gate.promise } }))
    const follower = await follow(site.fill, APP, first)

    await expect(follow(site.fill, APP, second)).rejects.toMatchObject({ name: 'FillLimitError' })
    const joined = await follow(site.fill, APP, first)
    gate.resolve()
    await Promise.all([readSpan(follower), readSpan(joined)])
    for (const one of [follower, joined]) one.close()
  })
})

describe('a lone range', () => {
  it('of a blob nobody asked for whole is passed through and starts no fill', async () => {
    const digest = site.primary.hold([APP], someBytes(MiB))
    const ask = { credential: token('alice') }

    for (const range of [
      { start: 5, end: 9 },
      { start: 5, end: undefined },
      { start: undefined, end: 10 },
    ]) {
      expect(await site.fill.follow(APP, digest, { ...ask, range })).toEqual({ kind: 'pass' })
    }
    expect(site.primary.requests).toEqual([])
  })

  it('ahead of a running fill comes at once, becomes part of the fill and is not fetched again', async () => {
    const bytes = someBytes(100 * MiB)
    const digest = site.primary.hold([APP], bytes)
    const gate = Promise.withResolvers<void>()
    site.primary.answer(({ range }) =>
      range?.[0] === 0 ? { pause: { after: MiB, until: gate.promise } } : undefined,
    )
    const whole = await follow(site.fill, APP, digest)

    const ahead = await pull(site.fill, APP, digest, { range: { start: 60 * MiB, end: 62 * MiB - 1 } })

    expect(ahead.equals(bytes.subarray(60 * MiB, 62 * MiB))).toBe(true)
    gate.resolve()
    expect((await readSpan(whole)).equals(bytes)).toBe(true)
    whole.close()
    await landed(site.fill)
    expect(await site.receivedBytes()).toBe(bytes.length)
    expect(await site.store.blobs.stat(digest)).toBe(bytes.length)
  })

  it('deep inside one long request is passed through: its bytes would take too long to come', async () => {
    const digest = site.primary.hold([APP], someBytes(100 * MiB))
    const gate = Promise.withResolvers<void>()
    site.primary.answer(() => ({ pause: { after: MiB, until: gate.promise } }))
    const whole = await follow(site.fill, APP, digest, { expiresAtMs: Date.now() + 10_000 })
    const ask = { credential: token('bob') }

    const near = await site.fill.follow(APP, digest, { ...ask, range: { start: 20 * MiB, end: 30 * MiB } })
    const far = await site.fill.follow(APP, digest, { ...ask, range: { start: 90 * MiB, end: 91 * MiB } })

    expect([near.kind, far.kind]).toEqual(['follower', 'pass'])
    gate.resolve()
    whole.close()
    if (near.kind === 'follower') near.follower.close()
  })

  it('at the end of a blob waits for the verdict on the whole', async () => {
    const bytes = someBytes(2 * MiB)
    const digest = site.primary.hold([APP], bytes)
    const whole = await follow(site.fill, APP, digest)
    const last = await follow(site.fill, APP, digest, { range: { start: undefined, end: 10 } })

    const tail = await readSpan(last, bytes.length - 10)

    expect(tail.equals(bytes.subarray(-10))).toBe(true)
    for (const one of [whole, last]) one.close()
  })
})
