/**
 * Law 2 under the watermark, from the registry's processes to the clients of two sites: whatever is lost, delayed,
 * repeated, killed and started in between, no tag is served by the watermark that is older than the bound. What runs is
 * simulated time, so that a run is the same again: `WATERMARK_SEED` (and `WATERMARK_PATH`, as a failure prints it), shortened
 * with `WATERMARK_SHRINK=1`.
 */
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { play } from './watermark-model-run.ts'
import { setting, steps } from './watermark-model-steps.ts'

const SEED = Number(process.env['WATERMARK_SEED'] ?? Date.now() % 1_000_000)
const PATH = process.env['WATERMARK_PATH']
const RUNS = 2_000
/** Ends of epochs that some hundred runs may not see: others come before. */
const SELDOM = ['canary-out-of-order', 'relay-paused', 'instance-changed', 'instance-left']
const SECONDS = Number(process.env['WATERMARK_SECONDS'] ?? 25)
/** Shortening a run that fails can take minutes: only where it is asked for. */
const SHORTENS = process.env['WATERMARK_SHRINK'] !== undefined

it(`serves no tag that is older than the bound (WATERMARK_SEED=${SEED})`, {
  timeout: (SECONDS + (SHORTENS ? 1_200 : 60)) * 1000,
}, async () => {
  const seen = new Map<string, number>()
  const endsAtMs = performance.now() + SECONDS * 1000
  let runs = 0

  await fc.assert(
    fc.asyncProperty(steps, setting, async (taken, where) => {
      if (performance.now() >= endsAtMs && runs > 0 && !SHORTENS) return
      const tally = await play(taken, where, { recovers: true })
      for (const [what, count] of Object.entries(tally)) seen.set(what, (seen.get(what) ?? 0) + count)
      runs += 1
    }),
    {
      seed: SEED,
      endOnFailure: !SHORTENS,
      ...(PATH === undefined ? { numRuns: RUNS } : { path: PATH, numRuns: 1 }),
    },
  )

  // It was not for want of tags that were served by the watermark, nor of trouble.
  expect((seen.get('covered') ?? 0) / runs).toBeGreaterThan(300)
  if (runs < 200) return
  const never = [...seen].filter(([what, count]) => count === 0 && !SELDOM.includes(what))
  expect(never).toEqual([])
})
