/** What is removed wins over every request that began before, whichever process saw it. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Coordination } from '../../src/store/coordination.ts'
import { until } from '../support/wait.ts'

export interface Removals extends AsyncDisposable {
  readonly one: Coordination
  /** Another process' view of the same store; the same object where there is only one process. */
  readonly other: Coordination
  /** How many are kept. */
  readonly maxKept: number
}

export function tombstonesContract(make: () => Promise<Removals>): void {
  let removals: Removals
  beforeEach(async () => {
    removals = await make()
  })
  afterEach(() => removals[Symbol.asyncDispose]())

  describe('removals', () => {
    it('overrule a request that began before, not one that began after', async () => {
      const { one } = removals
      const before = one.mark()
      await one.bury(['a', 'b'])
      const after = one.mark()

      expect(await one.overrules(before, 'a')).toBe(true)
      expect(await one.overrules(before, 'x', 'b')).toBe(true)
      expect(await one.overrules(before, 'x')).toBe(false)
      expect(await one.overrules(after, 'a', 'b')).toBe(false)
    })

    it('overrule a request of another process', async () => {
      const { one, other } = removals
      const before = other.mark()
      const removal = await one.bury(['a'])

      expect(await other.overrules(before, 'a')).toBe(true)
      expect(await other.overrules(before, 'x')).toBe(false)
      expect(await other.overrules(other.mark(), 'a')).toBe(false)
      expect(await other.overrules(removal, 'a')).toBe(false)
    })

    it('are heard of by the others without asking', async () => {
      const { one, other } = removals
      const { sequence } = await one.bury(['a'])

      await until(() => other.mark().sequence >= sequence, { what: 'the other to hear of it' })

      expect(await other.overrules(other.mark(), 'a')).toBe(false)
    })

    it('count what went with them as removed when they were seen, whoever says so', async () => {
      const { one, other } = removals
      const before = one.mark()
      const removal = await one.bury(['manifest'])
      const between = one.mark()
      const same = await other.bury(['tag'], removal)

      expect(same).toEqual(removal)
      expect(await one.overrules(before, 'tag')).toBe(true)
      expect(await one.overrules(between, 'tag')).toBe(false)
    })

    it('count as the latest of several', async () => {
      const { one } = removals
      const first = await one.bury(['manifest'])
      const between = one.mark()
      await one.bury(['tag'])
      await one.bury(['tag'], first)

      expect(await one.overrules(between, 'tag')).toBe(true)
    })

    it('are bounded in number: what had to be forgotten overrules every older mark, and no younger', async () => {
      const { one, maxKept } = removals
      const before = one.mark()
      await one.bury(['first'])
      const after = one.mark()
      for (let other = 0; other < maxKept; other++) await one.bury([`other ${other}`])

      expect(await one.overrules(before, 'x')).toBe(true)
      expect(await one.overrules(after, 'first')).toBe(false)
      expect(await one.overrules(after, 'other 0')).toBe(true)
      expect(await one.overrules(after, `other ${maxKept - 1}`)).toBe(true)
      expect(await one.overrules(one.mark(), 'other 0')).toBe(false)
    })

    it('are numbered once, however many come at the same time', async () => {
      const { one, other } = removals
      const recorded = await Promise.all(
        Array.from({ length: 50 }, (_, at) => (at % 2 ? one : other).bury([`key ${at}`])),
      )

      expect(new Set(recorded.map(({ sequence }) => sequence)).size).toBe(50)
    })

    it('can be recorded now', async () => {
      await expect(removals.one.reach()).resolves.toBeUndefined()
    })
  })
}
