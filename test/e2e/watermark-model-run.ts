/** One run of the model, from its start to its end. */
import { vi } from 'vitest'
import type { Setting, Step } from './watermark-model-steps.ts'
import { startWorld, type WorldOptions } from './watermark-model-world.ts'

export interface PlayOptions extends WorldOptions {
  /** At the end everything is mended, and all tags must be served from here again. */
  readonly recovers?: boolean
}

/** How often things happened, the ends of the relay's epochs among them, by their reason. */
export type Tally = Readonly<Record<string, number>>

/** Until the first watermark: what ended an epoch must be over for 5 s. */
const BEGINNING_MS = 9_000
const REST_MS = 15_000

/** Throws `StaleError` when a tag was served that was too old. */
export async function play(
  steps: readonly Step[],
  setting: Setting,
  { recovers = false, ...options }: PlayOptions = {},
): Promise<Tally> {
  const world = await startWorld(setting, options)
  // The follower's, for how long it rests.
  const random = vi.spyOn(Math, 'random').mockImplementation(world.time.chance)
  try {
    await world.time.pass(BEGINNING_MS)
    for (const step of steps) await world.take(step)
    if (recovers) await world.recover()
    else await world.time.pass(REST_MS)
    return { ...world.seen, ...world.relay.ends() }
  } finally {
    random.mockRestore()
    await world.close()
  }
}
