/**
 * Laws 2 to 5 against chance: pushes, pulls and deletes through the site and around it, outages, restarts and kills in
 * any order and side by side, every answer held against what the primary can have had. `MODEL_SEED` (and `MODEL_PATH`,
 * as a failure prints it) repeats a run; what happens side by side may still fall out in another order.
 */
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { buildImage } from '../support/images.ts'
import { createRun } from './model-run.ts'
import { IMAGES, TOUR, type Turn, turns } from './model-steps.ts'
import { startWorld } from './model-world.ts'
import { expectSoundStore } from './store-files.ts'

const SEED = Number(process.env['MODEL_SEED'] ?? Date.now() % 1_000_000)
const PATH = process.env['MODEL_PATH']
const SECONDS = Number(process.env['MODEL_SECONDS'] ?? 50)

it(`answers as the primary would, whatever happens (MODEL_SEED=${SEED})`, {
  timeout: (SECONDS + 120) * 1000,
}, async () => {
  await using world = await startWorld()
  const images = await Promise.all(
    Array.from({ length: IMAGES }, (_, seed) => buildImage({ seed, layers: [100_000] })),
  )
  const tally = new Map<string, number>()

  async function play(story: readonly Turn[]): Promise<void> {
    await using clients = await world.newClients()
    const run = createRun(world, clients, images, tally)
    try {
      for (const turn of story) await run.take(turn)
      await run.audit()
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error)
      throw new Error([message, ...run.story].join('\n  '), { cause: error })
    } finally {
      await world.recover()
    }
  }

  let last: Promise<void> = Promise.resolve()
  const property = fc.asyncProperty(turns, (story) => {
    last = play(story)
    return last
  })
  try {
    await fc.assert(property, {
      seed: SEED,
      ...(PATH === undefined ? { examples: [[TOUR]] } : { path: PATH }),
      numRuns: 10_000,
      interruptAfterTimeLimit: SECONDS * 1000,
      markInterruptAsFailure: false,
    })
    await last
  } finally {
    // What the time limit interrupts goes on by itself, and would start its site again after the end of the test.
    await Promise.allSettled([last])
  }

  expect([...tally.keys()]).toEqual(
    expect.arrayContaining(['200 local', '200 fill', '200 stale', '503 local', '404 primary']),
  )
  expect(await expectSoundStore(world.site.root)).toBeGreaterThan(0)
})
