/**
 * Each assumption of the proof of freshness, broken by itself: the model then finds a tag that is too old. So the model
 * would see it if the proof did not hold, and no assumption is named in vain.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { StaleError } from './watermark-model-primary.ts'
import type { Rules } from './watermark-model-rules.ts'
import { play } from './watermark-model-run.ts'
import { type Setting, type Step, setting, stepsWith, type Trouble } from './watermark-model-steps.ts'

/** Most show in some ten of them. */
const RUNS = 800

type Run = readonly [steps: readonly Step[], setting: Setting]

/** The first run in which a tag is too old, of those that a seed gives: always the same ones. */
async function findStale(rules: Partial<Rules>, troubles: readonly Trouble[]): Promise<Run | undefined> {
  const found = await fc.check(
    fc.asyncProperty(stepsWith(troubles), setting, async (taken, where) => {
      await play(taken, where, { rules })
    }),
    { seed: 1, numRuns: RUNS, endOnFailure: true },
  )
  if (!found.failed) return undefined
  expect(found.errorInstance).toBeInstanceOf(StaleError)
  return found.counterexample ?? undefined
}

/** What shows best that the assumption is needed. */
const EVENTS: readonly Trouble[] = ['events-down', 'events-slow', 'events-flaky']

describe('a tag may be served that is too old, unless', () => {
  it.each<[assumption: string, broken: Partial<Rules>, troubles: readonly Trouble[]]>([
    ['each process of the registry delivers its events in their order', { isOrdered: false }, EVENTS],
    ['no sender gives an event up before it has tried it for 4 s', { givesUpMs: 600 }, ['events-down']],
    ['an event is queued before its write is acknowledged', { eventLagMs: 30_000 }, EVENTS],
    ['a tag is written within a minute of its event', { settledMs: 300_000 }, EVENTS],
    [
      'a tag whose event was lost is written within 5 s of it',
      { settlesMs: 60_000 },
      ['events-down', 'relay-log-lost'],
    ],
    ['the queue of a registry holds as many events as the relay was told', { toldQueueSize: 3_000 }, EVENTS],
    ['each process is named from before its first write', { namedLateMs: 60_000 }, ['join', 'leave']],
    ['each process is named until after its last write', { writesOnMs: 60_000 }, ['join', 'leave']],
    ['each start of a process makes a new instanceID', { keepsInstanceId: true }, ['crash']],
    ['the primary shows what it acknowledged to whoever asks later', { shownLateMs: 120_000 }, EVENTS],
    ['the clock of the site goes as fast as that of the relay', { siteClockRate: 0.2 }, EVENTS],
    ['the clock of the relay does not stand still', { relayClockStops: true }, ['relay-still']],
    [
      'an answer of the relay is one to the question that was asked',
      { mixesPages: true },
      ['site-line-losing'],
    ],
  ])('%s', { timeout: 300_000 }, async (_, broken, troubles) => {
    const found = await findStale(broken, troubles)

    expect(found).toBeDefined()
    if (found) await play(...found)
  })
})
