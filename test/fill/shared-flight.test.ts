/** One fetch per digest for several processes on one store (law 7): what followers of another process's fetch get. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { HOLD_BACK_BYTES } from '../../src/store/verify-stream.ts'
import { until } from '../support/wait.ts'
import { APP, follow, KiB, MiB, OTHER, pull, readSpan, someBytes, token } from './fill-fixture.ts'
import { type SharedFixture, sharedFixture } from './shared-fixture.ts'

const PIECE = 4 * MiB
const SITE = { kind: 'site' } as const

let shared: SharedFixture
beforeEach(async () => {
  shared = await sharedFixture(() => ({ pieceBytes: PIECE }))
})
afterEach(() => shared[Symbol.asyncDispose]())

describe('clients of several processes', () => {
  it('get a blob that the primary sends once', async () => {
    const { site, processes } = shared
    const bytes = someBytes(10 * MiB + 17)
    const digest = site.primary.hold([APP, OTHER], bytes)

    const pulls = processes.flatMap(({ fill }, index) => [
      pull(fill, APP, digest, { credential: token(`whole-${index}`) }),
      pull(fill, OTHER, digest, { credential: token(`other-${index}`) }),
    ])

    for (const got of await Promise.all(pulls)) expect(got.equals(bytes)).toBe(true)
    await shared.allLanded()
    expect(await shared.receivedBytes()).toBe(bytes.length)
    expect(await site.spools()).toEqual([])
    for (const { store } of processes) {
      expect(await store.blobs.stat(digest)).toBe(bytes.length)
      expect(await store.index.link(APP, 'layer', digest)).toMatchObject({ target: digest })
      expect(await store.index.link(OTHER, 'layer', digest)).toMatchObject({ target: digest })
    }
  })

  it('follow while it arrives, and see what has come but for the last 64 KiB', async () => {
    const [one, two] = shared.processes
    const bytes = someBytes(MiB)
    const digest = shared.site.primary.hold([APP], bytes)
    const goOn = shared.site.primary.pauseFirst(bytes.length - 1)
    const first = await follow(one.fill, APP, digest)

    const second = await follow(two.fill, APP, digest, { credential: token('bob') })
    const visibleEnd = bytes.length - HOLD_BACK_BYTES
    expect((await readSpan(second, 0, visibleEnd)).equals(bytes.subarray(0, visibleEnd))).toBe(true)
    let isTailRead = false
    const tail = readSpan(second, visibleEnd).finally(() => {
      isTailRead = true
    })
    await until(() => shared.table.said(digest)?.held[0]?.[1] === bytes.length - 1, { what: 'nearly all' })
    expect(isTailRead).toBe(false)
    goOn()

    expect((await tail).equals(bytes.subarray(visibleEnd))).toBe(true)
    for (const one of [first, second]) one.close()
    await shared.allLanded()
  })

  it('read a range ahead of the fetch as another segment of it, whichever process it runs in', async () => {
    const [one, two] = shared.processes
    const bytes = someBytes(6 * PIECE)
    const digest = shared.site.primary.hold([APP], bytes)
    const goOn = shared.site.primary.pauseFirst(MiB)
    const first = await follow(one.fill, APP, digest)
    const range = { start: 4 * PIECE + 5, end: 4 * PIECE + MiB }

    // Nobody asked for the whole in that process.
    const got = await pull(two.fill, APP, digest, { range, credential: token('bob') })

    expect(got.equals(bytes.subarray(range.start, range.end + 1))).toBe(true)
    goOn()
    expect((await readSpan(first)).equals(bytes)).toBe(true)
    first.close()
    await shared.allLanded()
    expect(await two.receivedBytes()).toBe(0)
    expect(await shared.receivedBytes()).toBe(bytes.length)
  })

  it('are passed by with a lone range of a blob nobody asked for whole', async () => {
    const [one] = shared.processes
    const digest = shared.site.primary.hold([APP], someBytes(MiB))

    const outcome = await one.fill.follow(APP, digest, {
      credential: token('alice'),
      range: { start: 5, end: 10 },
    })

    expect(outcome).toEqual({ kind: 'pass' })
    expect(shared.table.taken).toBe(0)
    expect(shared.site.primary.requests).toEqual([])
  })

  it('get nothing of a blob that their own repository does not have, and no link', async () => {
    const [one, two] = shared.processes
    const bytes = someBytes(2 * MiB)
    const digest = shared.site.primary.hold([APP], bytes)
    const goOn = shared.site.primary.pauseFirst(MiB)
    const entitled = await follow(one.fill, APP, digest)

    await expect(follow(two.fill, OTHER, digest)).rejects.toMatchObject({ kind: 'absent' })
    goOn()
    await readSpan(entitled)
    entitled.close()
    await shared.allLanded()
    expect(await two.store.index.link(OTHER, 'layer', digest)).toBeUndefined()
  })

  it('are each confirmed by a question of their own repository, once for all who come together', async () => {
    const [one, two] = shared.processes
    const bytes = someBytes(2 * MiB)
    const digest = shared.site.primary.hold([APP], bytes)
    const goOn = shared.site.primary.pauseFirst(MiB)
    const first = await follow(one.fill, APP, digest)

    const others = await Promise.all(['bob', 'carol'].map(() => follow(two.fill, APP, digest)))

    expect(shared.site.primary.requests.map(({ method }) => method)).toEqual(['GET', 'HEAD'])
    goOn()
    for (const one of [first, ...others]) {
      expect((await readSpan(one)).equals(bytes)).toBe(true)
      one.close()
    }
  })
})

describe('content that is not what its digest says', () => {
  it('is cut before its last 64 KiB in every process, and published by none', async () => {
    const { processes, site } = shared
    const bytes = someBytes(2 * MiB)
    const digest = site.primary.hold([APP], bytes)
    site.primary.answer(({ method }) => (method === 'GET' ? { wrongByteAt: 1000 } : undefined))

    const results = await Promise.allSettled(
      processes.map(async ({ fill }) => {
        const follower = await follow(fill, APP, digest)
        const buffer = Buffer.alloc(64 * KiB)
        const signal = AbortSignal.timeout(10_000)
        let position = 0
        try {
          for (;;) position += await follower.read(buffer, buffer.length, position, signal)
        } catch (error) {
          expect(position).toBeLessThanOrEqual(bytes.length - HOLD_BACK_BYTES)
          throw error
        } finally {
          follower.close()
        }
      }),
    )

    for (const result of results) expect(result).toMatchObject({ reason: { kind: 'faulty' } })
    await shared.allLanded()
    expect(await site.store.blobs.stat(digest)).toBeUndefined()
    expect(await site.spools()).toEqual([])
  })
})

describe('a failed fetch', () => {
  it('is told to the followers of other processes when it is everyone’s', async () => {
    const [one, two] = shared.processes
    const digest = shared.site.primary.hold([APP], someBytes(MiB))
    const gate = Promise.withResolvers<void>()
    shared.site.primary.answer(({ method }) =>
      method === 'GET' ? { refuse: [503, 'UNAVAILABLE'], before: gate.promise } : undefined,
    )
    const first = follow(one.fill, APP, digest)
    await until(() => shared.site.primary.requests.length === 1, { what: 'the first request' })
    const second = follow(two.fill, APP, digest)
    await until(() => two.fill.inFlight === 1, { what: 'the second to wait' })
    gate.resolve()

    const results = await Promise.allSettled([first, second])

    expect(results).toMatchObject([
      { reason: { kind: 'unavailable', status: 503 } },
      { reason: { kind: 'unavailable', status: 503 } },
    ])
    expect(shared.site.primary.gets()).toHaveLength(1)
  })

  it('is not when it was said of the caller: another process goes on as its own', async () => {
    const [one, two] = shared.processes
    const bytes = someBytes(MiB)
    const digest = shared.site.primary.hold([APP], bytes)
    const gate = Promise.withResolvers<void>()
    shared.site.primary.answer(({ authorization }) =>
      authorization === 'Bearer mallory'
        ? { refuse: [401, 'UNAUTHORIZED'], before: gate.promise }
        : undefined,
    )
    const refused = follow(one.fill, APP, digest, { credential: token('mallory') })
    await until(() => shared.site.primary.requests.length === 1, { what: 'the first request' })
    const entitled = pull(two.fill, APP, digest, { credential: token('alice') })
    await until(() => two.fill.inFlight === 1, { what: 'the second to wait' })
    gate.resolve()

    await expect(refused).rejects.toMatchObject({ kind: 'unauthorized' })
    expect((await entitled).equals(bytes)).toBe(true)
  })
})

describe('a job', () => {
  it('waits for what a client of another process has begun, and asks for no byte itself', async () => {
    const [one, two] = shared.processes
    const bytes = someBytes(3 * PIECE)
    const digest = shared.site.primary.hold([APP], bytes)
    const goOn = shared.site.primary.pauseFirst(MiB)
    const client = await follow(one.fill, APP, digest)

    const job = two.fill.fetch(APP, digest, { credential: SITE, signal: AbortSignal.timeout(20_000) })
    await until(() => two.fill.inFlight === 1, { what: 'the job to follow' })
    goOn()
    await readSpan(client)
    client.close()
    await job

    expect(await two.store.blobs.stat(digest)).toBe(bytes.length)
    expect(await two.receivedBytes()).toBe(0)
  })

  it('lets its fetch go at a client’s speed when the client is in another process', async () => {
    const [one, two] = shared.processes
    const bytes = someBytes(3 * PIECE)
    const digest = shared.site.primary.hold([APP], bytes)
    const asleep = (_bytes: number, signal: AbortSignal) =>
      new Promise<void>((_, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason))
      })
    const leaving = new AbortController()
    const { signal } = leaving
    const job = one.fill.fetch(APP, digest, { credential: SITE, signal, pace: asleep })
    await until(() => (shared.table.said(digest)?.held.length ?? 0) > 0, { what: 'the job to have begun' })

    expect((await pull(two.fill, APP, digest)).equals(bytes)).toBe(true)

    await Promise.all([job, shared.allLanded()])
    expect(await shared.receivedBytes()).toBe(bytes.length)
  })
})
