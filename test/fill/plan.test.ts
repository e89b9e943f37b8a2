import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Claim, createPlan, MAX_FETCHES, PIECE_BYTES, partBytes } from '../../src/fill/plan.ts'
import { Segments } from '../../src/fill/segments.ts'
import { MiB } from './fill-fixture.ts'

const SIZE = 200 * MiB
const LEAD_BYTES = PIECE_BYTES / 4
/** Connections in the random test. */
const MOST = 5
const PART_BYTES = partBytes(PIECE_BYTES)

function spanOf(claim: Claim | undefined): readonly [number, number] | undefined {
  return claim?.wanted.list()[0]
}

/** What a fetch does to its claim when bytes of it were written. */
function arrive(claim: Claim | undefined, bytes: number): void {
  const [start] = spanOf(claim) ?? [0]
  claim?.wanted.remove(start, start + bytes)
}

describe('plan of a flight', () => {
  it('asks for the next piece only when the one before has a quarter to go', () => {
    const plan = createPlan(SIZE, new Segments())
    const first = plan.next(PIECE_BYTES)

    expect(spanOf(first)).toEqual([0, PIECE_BYTES])
    arrive(first, PIECE_BYTES - LEAD_BYTES - 1)
    expect(plan.next(PIECE_BYTES)).toBeUndefined()
    arrive(first, 1)
    expect(spanOf(plan.next(PIECE_BYTES))).toEqual([PIECE_BYTES, 2 * PIECE_BYTES])
  })

  it('keeps as many connections busy as are wanted, and makes parts shorter towards the end', () => {
    const plan = createPlan(SIZE, new Segments())
    plan.next(PART_BYTES, 1)

    // The short first part has little to go from the beginning: it keeps no connection busy.
    const parts = [1, 2, 3, 4, 5].map(() => spanOf(plan.next(PIECE_BYTES, 4)))

    const edges = [8, 40, 72, 104, 128].map((at) => at * MiB)
    expect(parts).toEqual([...edges.slice(1).map((end, index) => [edges[index], end]), undefined])
  })

  it('leaves no rest too short for a connection of its own', () => {
    const plan = createPlan(2 * PART_BYTES - 1, new Segments())

    expect(spanOf(plan.next(PIECE_BYTES, 2))).toEqual([0, 2 * PART_BYTES - 1])
  })

  it('gives a reader far ahead a piece of its own, bounded by its range', () => {
    const plan = createPlan(SIZE, new Segments())
    plan.next(PIECE_BYTES)

    const ahead = plan.ahead(100 * MiB, 103 * MiB)

    expect(spanOf(ahead)).toEqual([100 * MiB, 103 * MiB])
  })

  it('lets a reader who is only a little ahead share the piece before it', () => {
    const plan = createPlan(SIZE, new Segments())
    plan.next(PIECE_BYTES)

    expect(spanOf(plan.ahead(PIECE_BYTES + MiB, SIZE))).toEqual([PIECE_BYTES, 2 * PIECE_BYTES])
  })

  it('sends nothing for a reader whose byte is already being fetched', () => {
    const plan = createPlan(SIZE, new Segments())
    plan.next(PIECE_BYTES)

    expect(plan.ahead(PIECE_BYTES - 1, SIZE)).toBeUndefined()
  })

  it('always leaves room for the lowest gap, however many readers are ahead', () => {
    const plan = createPlan(SIZE, new Segments())
    const ahead = [40, 80, 120, 160].map((at) => plan.ahead(at * MiB, (at + 1) * MiB))

    expect(ahead.filter(Boolean)).toHaveLength(MAX_FETCHES - 1)
    expect(spanOf(plan.next(PIECE_BYTES))).toEqual([0, PIECE_BYTES])
  })

  it('fills around what is held', () => {
    const held = new Segments([
      [0, 10],
      [20, 30],
    ])
    const plan = createPlan(40, held)

    const first = plan.next(PIECE_BYTES)
    const second = plan.next(PIECE_BYTES)

    expect([spanOf(first), spanOf(second), plan.next(PIECE_BYTES)]).toEqual([[10, 20], [30, 40], undefined])
  })

  it('gives back what a fetch did not bring', () => {
    const plan = createPlan(SIZE, new Segments())
    const first = plan.next(PIECE_BYTES)
    arrive(first, 1000)
    if (first) plan.release(first)

    expect(spanOf(plan.next(PIECE_BYTES))).toEqual([1000, 1000 + PIECE_BYTES])
  })

  it('reads one body to its end when the primary ignores ranges', () => {
    const plan = createPlan(SIZE, new Segments([[90 * MiB, 91 * MiB]]))
    const first = plan.next(PIECE_BYTES)
    if (first) plan.widen(first, 0, SIZE)

    expect(first?.wanted.list()).toEqual([
      [0, 90 * MiB],
      [91 * MiB, SIZE],
    ])
    arrive(first, 85 * MiB)
    expect(plan.next(PIECE_BYTES)).toBeUndefined()
    expect(plan.ahead(150 * MiB, SIZE)).toBeUndefined()
  })

  it('tells a range deep inside one open-ended request to ask for itself', () => {
    const plan = createPlan(SIZE, new Segments())
    plan.next(Number.POSITIVE_INFINITY)

    expect([PIECE_BYTES, PIECE_BYTES + 1].map((position) => plan.reaches(position))).toEqual([true, false])
  })

  it('never claims a byte twice nor one that is held, and misses none', () => {
    const action = fc.oneof(
      fc.record({
        kind: fc.constant('next' as const),
        limit: fc.integer({ min: 1, max: 90 }),
        connections: fc.integer({ min: 1, max: MOST }),
      }),
      fc.record({
        kind: fc.constant('ahead' as const),
        at: fc.nat(199),
        end: fc.integer({ min: 1, max: 200 }),
      }),
      fc.record({
        kind: fc.constant('arrive' as const),
        which: fc.nat(8),
        bytes: fc.integer({ min: 1, max: 50 }),
      }),
      fc.record({ kind: fc.constant('end' as const), which: fc.nat(8) }),
    )
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60 }), fc.boolean(), (actions, holdsSome) => {
        const held = new Segments(holdsSome ? [[30 * MiB, 45 * MiB]] : [])
        const plan = createPlan(SIZE, held)
        const claims: Claim[] = []
        const write = (claim: Claim, bytes: number) => {
          const [start, end] = spanOf(claim) ?? [0, 0]
          const upTo = Math.min(start + bytes, end)
          expect(new Segments(held.list()).gapEnd(start)).toBeGreaterThanOrEqual(upTo)
          claim.wanted.remove(start, upTo)
          held.add(start, upTo)
        }
        const check = () => {
          const all = [held, ...claims.map(({ wanted }) => wanted)]
          const union = new Segments(all.flatMap((one) => one.list()))
          expect(union.bytes).toBe(all.reduce((sum, one) => sum + one.bytes, 0))
          expect(claims.length).toBeLessThanOrEqual(MAX_FETCHES - 1 + MOST)
        }
        for (const step of actions) {
          if (step.kind === 'next' || step.kind === 'ahead') {
            const claim =
              step.kind === 'next'
                ? plan.next(step.limit * MiB, step.connections)
                : plan.ahead(step.at * MiB, Math.max(step.end, step.at + 1) * MiB)
            if (claim) claims.push(claim)
          } else {
            const claim = claims[step.which]
            if (claim && step.kind === 'arrive') write(claim, step.bytes * MiB)
            if (claim && (step.kind === 'end' || claim.wanted.isEmpty)) {
              plan.release(claim)
              claims.splice(step.which, 1)
            }
          }
          check()
        }
        for (const claim of claims.splice(0)) plan.release(claim)
        for (let claim = plan.next(PIECE_BYTES); claim; claim = plan.next(PIECE_BYTES)) {
          write(claim, SIZE)
          plan.release(claim)
        }
        expect(held.list()).toEqual([[0, SIZE]])
      }),
      { numRuns: 300 },
    )
  })
})
