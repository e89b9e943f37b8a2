/**
 * Laws 2, 8, 9 and 12 against chance: pushes, overwrites, rollbacks, deletes and renames; events lost, repeated, late and
 * in another order; the site restarted, killed and paused, the line to the primary gone, at any point. It always ends with
 * the site equal to the primary. `MODEL_SEED` (and `MODEL_PATH`, as a failure prints it) repeats the story, not its timing.
 */
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { buildArtifact, buildImage, buildMultiArch, type Image } from '../support/images.ts'
import { compareAnswers, converge } from './replication-model-audit.ts'
import { startReader } from './replication-model-reader.ts'
import { createRun } from './replication-model-run.ts'
import { IMAGES, type Step, stories, TOUR } from './replication-model-steps.ts'
import { startWorld } from './replication-model-world.ts'
import { expectSoundStore } from './store-files.ts'

const SEED = Number(process.env['MODEL_SEED'] ?? Date.now() % 1_000_000)
const PATH = process.env['MODEL_PATH']
const SECONDS = Number(process.env['MODEL_SECONDS'] ?? 40)

it(`ends equal to the primary, whatever happens (MODEL_SEED=${SEED})`, {
  timeout: (SECONDS + 180) * 1000,
}, async () => {
  await using world = await startWorld()
  const images = await buildImages()
  const tally = new Map<string, number>()
  const endsAtMs = performance.now() + SECONDS * 1000
  let told = 0

  async function play(story: readonly Step[]): Promise<void> {
    // Not by interrupting: a story that never ends must fail.
    if (told > 0 && performance.now() >= endsAtMs) return
    const clients = await world.newClients()
    const settle = async () => {
      await world.mend()
      await converge(world, images, owed(), tally)
    }
    const run = createRun(world, clients, { images, settle })
    const owed = () => [...run.untagged].filter((key) => world.post.accepted.has(key))
    try {
      await using reader = startReader(world, clients, run, tally)
      for (const step of story) {
        await run.take(step)
        reader.check()
      }
      await settle()
      await compareAnswers(clients, images)
      reader.check()
      told++
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error)
      throw new Error([message, ...run.story].join('\n  '), { cause: error })
    } finally {
      await world.mend()
    }
  }

  await fc.assert(fc.asyncProperty(stories, play), {
    seed: SEED,
    ...(PATH === undefined ? { examples: [[TOUR]] } : { path: PATH }),
    numRuns: 20 + SECONDS,
    // A story takes seconds: what is left of the time is better spent on reading this one.
    endOnFailure: true,
  })

  const { lose, repeat, hold } = world.post.counts
  if (PATH === undefined) {
    expect([...tally.keys()]).toEqual(
      expect.arrayContaining(['200 local', '200 stale', '404 primary', 'brake released']),
    )
    expect(Math.min(lose, repeat, hold), 'events of every kind').toBeGreaterThan(0)
  }
  expect(told, 'stories told to their end').toBeGreaterThan(0)
  expect(await expectSoundStore(world.site.one.site.root)).toBeGreaterThan(0)
})

/** As `IMAGES` counts them. */
async function buildImages(): Promise<readonly Image[]> {
  const plain = await buildImage({ seed: 'plain', layers: [1000, 3000] })
  const sibling = await buildImage({
    seed: 'plain',
    layers: [1000, 3000],
    annotations: { of: 'the same layers' },
  })
  const index = await buildMultiArch({ seed: 'index', layers: [2000] })
  const referrer = buildArtifact({ subject: plain })
  const large = await buildImage({ seed: 'large', layers: [300_000] })
  const images = [plain, sibling, index, referrer, large]
  if (images.length !== IMAGES) throw new Error('the steps count other images')
  return images
}
