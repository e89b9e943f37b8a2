import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Segments } from '../../src/fill/segments.ts'

const SIZE = 24

/** The same set as one flag per position. */
function modelOf(steps: readonly (readonly [boolean, number, number])[]): boolean[] {
  const model = new Array<boolean>(SIZE).fill(false)
  for (const [adds, start, end] of steps) {
    for (let position = start; position < end; position++) model[position] = adds
  }
  return model
}

const step = fc.tuple(fc.boolean(), fc.nat(SIZE), fc.nat(SIZE))

describe('segments', () => {
  it('hold exactly what was added and not removed, whatever the order and overlap', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
        const segments = new Segments()
        for (const [adds, start, end] of steps) {
          if (adds) segments.add(start, end)
          else segments.remove(start, end)
        }
        const model = modelOf(steps)
        const indexes = model.map((_, position) => position)

        expect(indexes.map((position) => segments.has(position))).toEqual(model)
        expect(segments.bytes).toBe(model.filter(Boolean).length)
        expect(segments.isEmpty).toBe(!model.includes(true))
        expect(new Segments(segments.list()).list()).toEqual(segments.list())
      }),
      { numRuns: 500 },
    )
  })

  it('tell the run and the gap around any position', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), fc.nat(SIZE - 1), (steps, position) => {
        const segments = new Segments()
        for (const [adds, start, end] of steps) {
          if (adds) segments.add(start, end)
          else segments.remove(start, end)
        }
        const model = modelOf(steps)
        const before = model.lastIndexOf(true, position)
        const runEnd = model.indexOf(false, position)
        const gapEnd = model.indexOf(true, position)

        if (model[position]) {
          expect(segments.runEnd(position)).toBe(runEnd === -1 ? SIZE : runEnd)
          expect([segments.gapStart(position), segments.gapEnd(position)]).toEqual([position, position])
        } else {
          expect(segments.runEnd(position)).toBe(position)
          expect(segments.gapStart(position)).toBe(before + 1)
          expect(segments.gapEnd(position)).toBe(gapEnd === -1 ? Number.POSITIVE_INFINITY : gapEnd)
        }
      }),
      { numRuns: 500 },
    )
  })

  it('are listed without touching or empty runs', () => {
    const segments = new Segments([
      [0, 4],
      [4, 8],
      [10, 10],
      [12, 14],
    ])
    segments.remove(13, 20)

    expect(segments.list()).toEqual([
      [0, 8],
      [12, 13],
    ])
  })
})
