/** Whatever the relay, the line and the site do, no tag is taken for confirmed by the watermark that could be too old. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { runModel, type Step } from './follower-model.ts'

const ms = (max: number) => fc.integer({ min: 0, max })
const tag = fc.nat(2)
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('tick'), ms: ms(2_000) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('tick'), ms: ms(20_000) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('write'),
      tag,
      afterMs: fc.oneof(ms(50_000), ms(1_000)),
      lost: fc.oneof(
        { weight: 5, arbitrary: fc.constant(false) },
        { weight: 1, arbitrary: fc.constant(true) },
      ),
    }),
  },
  { weight: 2, arbitrary: fc.constant({ kind: 'deliver' }) },
  { weight: 2, arbitrary: fc.constant({ kind: 'canary' }) },
  { weight: 15, arbitrary: fc.constant({ kind: 'follows' }) },
  {
    weight: 1,
    arbitrary: fc.constantFrom<Step>(
      { kind: 'relay-restarts' },
      { kind: 'log-lost' },
      { kind: 'log-trimmed' },
    ),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('exchange'),
      ms: fc.tuple(ms(4_000), ms(4_000), ms(9_000)),
      meanwhile: fc.option(tag, { nil: undefined }),
    }),
  },
  { weight: 2, arbitrary: fc.constant({ kind: 'answer-lost' }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('repeated'), which: fc.nat(20) }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'site-restarts' }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('breaks'),
      part: fc.constantFrom('hear', 'accept', 'setCursor', 'advance', 'beginEpoch'),
    }),
  },
  { weight: 2, arbitrary: fc.constant({ kind: 'mended' }) },
  { weight: 10, arbitrary: fc.record({ kind: fc.constant('asks'), tag, ms: ms(2_000) }) },
  { weight: 10, arbitrary: fc.constant({ kind: 'answered' }) },
)

describe('a tag that the watermark covers', () => {
  it('is never older than tags.maxstaleness', { timeout: 180_000 }, async () => {
    let covered = 0
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 120, size: 'max' }), async (steps) => {
        const run = await runModel(steps)
        covered += run.covered
        expect(run.broken).toBeUndefined()
      }),
      { numRuns: 200 },
    )
    expect(covered).toBeGreaterThan(1_000) // It was not for want of covered tags.
  })
})
