/** Any clients of any processes, any faults of processes and of Redis: right bytes for everyone, once where nothing fails. */
import fc from 'fast-check'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { APP, KiB, landed, OTHER, readSpan, someBytes, token } from './fill-fixture.ts'
import { type SharedFixture, sharedFixture } from './shared-fixture.ts'

const PIECE = 64 * KiB

let shared: SharedFixture
beforeAll(async () => {
  shared = await sharedFixture((index) => ({
    pieceBytes: PIECE,
    // Of a site's processes, only the replicator has a credential of its own.
    siteCredential: index === 2 ? { kind: 'site' } : undefined,
  }))
})
afterAll(() => shared[Symbol.asyncDispose]())

const client = fc.record({
  process: fc.nat(2),
  other: fc.boolean(),
  from: fc.double({ min: 0, max: 1, noNaN: true }),
  to: fc.double({ min: 0, max: 1, noNaN: true }),
  isRange: fc.boolean(),
  stepBytes: fc.constantFrom(1000, 32 * KiB, 512 * KiB),
  /** Leaves after this part of what it wanted. */
  stays: fc.constantFrom(0, 0.5, 1, 1),
})

/** After so many turns of the event loop. */
const fault = fc.record({ after: fc.nat(60), kind: fc.constantFrom('silence', 'loseAll') })

async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve))
}

it('any mix of clients and faults gets the right bytes', { timeout: 240_000 }, async () => {
  const { site, table, processes } = shared
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 12 * PIECE }),
      fc.array(client, { minLength: 1, maxLength: 8 }),
      fc.array(fault, { maxLength: 2 }),
      async (size, clients, faults) => {
        const bytes = someBytes(size)
        const digest = site.primary.hold([APP, OTHER], bytes)
        const before = await shared.receivedBytes()
        const wakes: (() => void)[] = []

        const breaking = faults.map(async ({ after, kind }) => {
          await turns(after)
          if (kind === 'loseAll') table.loseAll()
          else wakes.push(table.silence(digest))
          await turns(5)
          table.away = false
        })
        const reads = clients.map(async ({ process, other, from, to, isRange, stepBytes, stays }, index) => {
          const start = isRange ? Math.floor(Math.min(from, to) * size) : 0
          const end = isRange ? Math.ceil(Math.max(from, to) * size) : size
          const range = isRange && end > start ? { start, end: end - 1 } : undefined
          const fill = processes[process]?.fill
          const outcome = await fill?.follow(other ? OTHER : APP, digest, {
            credential: token(`client-${index}`),
            ...(range && { range }),
          })
          if (outcome?.kind !== 'follower') return
          const until = start + Math.floor((end - start) * stays)
          const got = await readSpan(outcome.follower, start, until, { stepBytes })
          outcome.follower.close()
          expect(got.equals(bytes.subarray(start, until))).toBe(true)
        })
        await Promise.all([...reads, ...breaking])
        for (const wake of wakes) wake()
        for (const { fill } of processes) await landed(fill)

        if (faults.length > 0) return
        expect((await shared.receivedBytes()) - before).toBeLessThanOrEqual(size)
      },
    ),
    { numRuns: 150 },
  )
})
