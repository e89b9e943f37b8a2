/** Freshness in memory keeps the contract, and nothing of it in doubt where memory ends. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createMemoryFreshness } from '../../src/freshness/memory-freshness.ts'
import { freshnessContract } from '../contracts/freshness.contract.ts'
import { history, LIMITS, runHistory } from '../contracts/freshness-model.ts'
import { confirmNow, NAME, NEW, OLD, OTHER_TAG, TAG, tagNamed } from '../contracts/freshness-world.ts'

describe('freshness in memory', () => {
  freshnessContract(
    async (settings) => ({
      freshness: createMemoryFreshness({ ...settings, maxEntries: 5000 }),
      [Symbol.asyncDispose]: async () => {},
    }),
    { histories: 2000 },
  )

  it('confirms nothing more where most of it has to be forgotten', async () => {
    await fc.assert(
      fc.asyncProperty(history, async (steps) => {
        let nowMs = 0
        const now = () => nowMs
        const freshness = createMemoryFreshness({ ...LIMITS, now, maxEntries: 1 })
        await runHistory(steps, [{ freshness, isExact: false, now }], (byMs) => {
          nowMs += byMs
        })
      }),
      { numRuns: 1000 },
    )
  })

  it('forgets the tag that was asked for longest ago, and asks for it again', async () => {
    const freshness = createMemoryFreshness({ trustMs: 1000, maxEntries: 2, now: () => 0 })
    const tags = [TAG, OTHER_TAG, tagNamed('v3')]
    const forgotten = await freshness.observe(NAME, TAG)

    for (const tag of tags) await confirmNow(freshness, OLD, NAME, tag)

    expect(await Promise.all(tags.map((tag) => freshness.confirmed(NAME, tag)))).toEqual([
      undefined,
      OLD,
      OLD,
    ])
    expect(await freshness.stands(forgotten)).toBe(false)
    expect(await freshness.confirm(forgotten, NEW)).toBe(false)
  })
})
