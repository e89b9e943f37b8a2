/** Any clients, any reads, any trouble with the primary: right bytes, once. */
import { setImmediate } from 'node:timers/promises'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Manner } from './blob-primary.ts'
import {
  APP,
  type FillFixture,
  fillFixture,
  KiB,
  landed,
  OTHER,
  pull,
  readSpan,
  someBytes,
  token,
} from './fill-fixture.ts'

const PIECE = 64 * KiB

let site: FillFixture
beforeAll(async () => {
  site = await fillFixture({ pieceBytes: PIECE })
})
afterAll(() => site[Symbol.asyncDispose]())

const NEVER = new AbortController().signal

/** A pace that lets everything else go first. */
async function slowly(_bytes: number, signal: AbortSignal): Promise<void> {
  await setImmediate(undefined, { signal })
}

const client = fc.record({
  other: fc.boolean(),
  /** Where it reads, as parts of the blob. */
  from: fc.double({ min: 0, max: 1, noNaN: true }),
  to: fc.double({ min: 0, max: 1, noNaN: true }),
  isRange: fc.boolean(),
  stepBytes: fc.constantFrom(1000, 32 * KiB, 512 * KiB),
  /** Leaves after this part of what it wanted. */
  stays: fc.constantFrom(0, 0.5, 1, 1),
})

const background = fc.record({
  other: fc.boolean(),
  connections: fc.integer({ min: 1, max: 5 }),
  paced: fc.boolean(),
  /** Gives up at once. */
  leaves: fc.boolean(),
})

const trouble: fc.Arbitrary<Manner | undefined> = fc.oneof(
  { weight: 4, arbitrary: fc.constant(undefined) },
  { weight: 2, arbitrary: fc.record({ cutAfter: fc.integer({ min: 0, max: 2 * PIECE }) }) },
  { weight: 1, arbitrary: fc.constant({ refuse: [503, 'UNAVAILABLE'] } as const) },
)

describe('any mix of clients', () => {
  it('and fetches gets the right bytes, and the primary is read once', { timeout: 240_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 12 * PIECE }),
        fc.array(client, { maxLength: 6 }),
        fc.array(background, { maxLength: 3 }),
        fc.array(trouble, { maxLength: 5 }),
        async (size, clients, backgrounds, troubles) => {
          const bytes = someBytes(size)
          const digest = site.primary.hold([APP, OTHER], bytes)
          const before = await site.receivedBytes()
          let number = 0
          // The opening request is spared: its failure is its client's to hear.
          site.primary.answer(({ method }) => (method === 'GET' ? troubles[number++ - 1] : undefined))
          const first = site.fill.fetch(APP, digest, { credential: token('first'), signal: NEVER })

          const reads = clients.map(async ({ other, from, to, isRange, stepBytes, stays }, index) => {
            const start = isRange ? Math.floor(Math.min(from, to) * size) : 0
            const end = isRange ? Math.ceil(Math.max(from, to) * size) : size
            const range = isRange && end > start ? { start, end: end - 1 } : undefined
            const ask = { credential: token(`client-${index}`), ...(range && { range }) }
            const outcome = await site.fill.follow(other ? OTHER : APP, digest, ask)
            if (outcome.kind !== 'follower') return
            const until = start + Math.floor((end - start) * stays)
            const got = await readSpan(outcome.follower, start, until, { stepBytes })
            outcome.follower.close()
            expect(got.equals(bytes.subarray(start, until))).toBe(true)
          })
          const fetches = backgrounds.map(async ({ other, connections, paced, leaves }, index) => {
            const gone = new AbortController()
            const fetching = site.fill.fetch(other ? OTHER : APP, digest, {
              credential: token(`fetch-${index}`),
              signal: gone.signal,
              connections,
              pace: paced ? slowly : undefined,
            })
            if (leaves) gone.abort(new Error('gone'))
            await (leaves ? expect(fetching).rejects.toThrow('gone') : fetching)
          })
          await Promise.all([first, ...reads, ...fetches])
          await landed(site.fill)

          expect(await site.store.blobs.stat(digest)).toBe(size)
          const refusals = troubles.slice(0, Math.max(0, number - 1)).filter((one) => one?.refuse).length
          const extra = (await site.receivedBytes()) - before - size
          expect(extra).toBeLessThanOrEqual(refusals * 100)
          expect(extra).toBeGreaterThanOrEqual(0)
          site.primary.answer(() => undefined)
          expect(await site.fill.follow(APP, digest, { credential: token('late') })).toEqual({
            kind: 'stored',
          })
        },
      ),
      { numRuns: 100 },
    )
  })

  it('gets the right bytes from a primary that ignores ranges', { timeout: 120_000 }, async () => {
    site.primary.answer(() => ({ ignoreRange: true }))
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 6 * PIECE }), fc.nat(3), async (size, clients) => {
        const bytes = someBytes(size)
        const digest = site.primary.hold([APP], bytes)
        const pulls = Array.from({ length: clients + 1 }, () => pull(site.fill, APP, digest))
        expect((await Promise.all(pulls)).every((got) => got.equals(bytes))).toBe(true)
        await landed(site.fill)
      }),
      { numRuns: 30 },
    )
    site.primary.answer(() => undefined)
  })
})
