/** The model of watermark-model.test.ts with two more parts that are real: a Redis between three processes, and a disk. */
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { createLogger } from '../../src/log.ts'
import { startRedis } from '../support/redis.ts'
import { tempFolder } from '../support/temp.ts'
import { createRealDisk } from './watermark-model-log.ts'
import { inRedis } from './watermark-model-redis.ts'
import { play } from './watermark-model-run.ts'
import { setting, steps } from './watermark-model-steps.ts'
import { SITES, type WorldOptions } from './watermark-model-world.ts'

const SEED = Number(process.env['WATERMARK_SEED'] ?? Date.now() % 1_000_000)
const PATH = process.env['WATERMARK_PATH']
const SECONDS = Number(process.env['WATERMARK_SECONDS'] ?? 12)

/** How often a tag was served by the watermark; and what was wrong is thrown. */
async function playFor(seconds: number, options: () => Promise<WorldOptions & { recovers?: boolean }>) {
  const endsAtMs = performance.now() + seconds * 1000
  const sum = { runs: 0, covered: 0 }
  await fc.assert(
    fc.asyncProperty(steps, setting, async (taken, where) => {
      if (performance.now() >= endsAtMs && sum.runs > 0) return
      const { covered = 0 } = await play(taken, where, await options())
      sum.runs += 1
      sum.covered += covered
    }),
    {
      seed: SEED,
      numRuns: PATH === undefined ? 500 : 1,
      endOnFailure: true,
      ...(PATH !== undefined && { path: PATH }),
    },
  )
  return sum
}

it(`serves no tag that is older than the bound from any process on a Redis that fails (WATERMARK_SEED=${SEED})`, {
  timeout: (SECONDS + 120) * 1000,
}, async () => {
  await using redis = await startRedis()
  const freshness: WorldOptions['freshness'] = (site, time, maxStalenessMs) =>
    inRedis(redis, time, { maxStalenessMs, isDisturbed: site === SITES[0] })

  const { covered } = await playFor(SECONDS, async () => ({ freshness }))

  expect(covered).toBeGreaterThan(300)
})

it(`serves no tag that is older than the bound with the relay's log on a disk (WATERMARK_SEED=${SEED})`, {
  timeout: (SECONDS + 120) * 1000,
}, async () => {
  await using folders = new AsyncDisposableStack()
  const logger = createLogger({ destination: { write: () => undefined } })

  const { covered } = await playFor(SECONDS, async () => {
    const folder = folders.use(await tempFolder('watermark-model'))
    return { disk: (time) => createRealDisk(time, folder.path, logger), recovers: true }
  })

  expect(covered).toBeGreaterThan(300)
})
