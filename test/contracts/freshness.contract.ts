/** What every freshness owes its callers: what may be served without asking the primary, and what never. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Freshness, Observation } from '../../src/freshness/freshness.ts'
import type { Digest } from '../../src/oci/digest.ts'
import type { RepositoryName } from '../../src/oci/reference.ts'
import { history, LIMITS, runHistory } from './freshness-model.ts'
import {
  confirmNow,
  freshnessWorld,
  type MakeFreshness,
  NAME,
  NAMES,
  NEW,
  OLD,
  OTHER_NAME,
  OTHER_TAG,
  TAG,
  TAGS,
  tagNamed,
} from './freshness-world.ts'
import { watermarkContract } from './watermark.contract.ts'

export interface FreshnessContractOptions {
  /** Histories that are tried. */
  readonly histories: number
}

export function freshnessContract(make: MakeFreshness, { histories }: FreshnessContractOptions): void {
  const world = freshnessWorld(make)
  const { open } = world
  const trusting = (trustMs = 1000) => open({ trustMs })

  async function heldOf(freshness: Freshness, name: RepositoryName): Promise<(Digest | undefined)[]> {
    return await Promise.all(TAGS.map((tag) => freshness.confirmed(name, tag)))
  }
  async function confirmAll(freshness: Freshness): Promise<void> {
    for (const name of NAMES) for (const tag of TAGS) await confirmNow(freshness, OLD, name, tag)
  }
  async function standsAndConfirms(freshness: Freshness, seen: Observation): Promise<boolean[]> {
    return [await freshness.stands(seen), await freshness.confirm(seen, OLD)]
  }

  describe('a tag within trust', () => {
    it('is never confirmed where nothing is trusted, which is the default, however it was answered', async () => {
      const freshness = await open({})

      await confirmNow(freshness, OLD)

      expect(await freshness.confirmed(NAME, TAG)).toBe(undefined)
    })

    it('is trusted from when the primary was asked, not from when it answered', async () => {
      const freshness = await trusting()
      const observation = await freshness.observe(NAME, TAG)
      world.nowMs += 600
      await freshness.confirm(observation, OLD)

      world.nowMs += 399
      expect(await freshness.confirmed(NAME, TAG)).toBe(OLD)
      world.nowMs += 1
      expect(await freshness.confirmed(NAME, TAG)).toBe(undefined)
    })

    it('is not written by an answer that a push overtook, begun or ended in between', async () => {
      const freshness = await trusting()
      const before = await freshness.observe(NAME, TAG)
      const write = await freshness.beginWrite(NAME, [TAG])
      const during = await freshness.observe(NAME, TAG)
      expect(await standsAndConfirms(freshness, before)).toEqual([false, false])
      expect(await freshness.stands(during)).toBe(true)

      await freshness.endWrite(write)

      expect(await standsAndConfirms(freshness, during)).toEqual([false, false])
      expect(await freshness.confirmed(NAME, TAG)).toBe(undefined)
    })

    it('is confirmed by the 201 of its own push, and not when another push of it was under way', async () => {
      const freshness = await trusting()
      const own = (await freshness.endWrite(await freshness.beginWrite(NAME, [TAG]))).get(TAG)
      expect(own && (await freshness.confirm(own, NEW))).toBe(true)
      expect(await freshness.confirmed(NAME, TAG)).toBe(NEW)

      const first = await freshness.beginWrite(NAME, [TAG, OTHER_TAG])
      const second = await freshness.beginWrite(NAME, [TAG])
      expect([...(await freshness.endWrite(first)).keys()]).toEqual([OTHER_TAG])
      expect([...(await freshness.endWrite(second)).keys()]).toEqual([])
    })

    it('loses its confirmation, as all tags of its repository do, by a delete of a digest; others keep theirs', async () => {
      const freshness = await trusting()
      await confirmAll(freshness)
      const asked = await freshness.observe(NAME, TAG)
      const push = await freshness.beginWrite(NAME, [TAG])

      const deletion = await freshness.beginWrite(NAME, [])

      expect(await heldOf(freshness, NAME)).toEqual([undefined, undefined, undefined])
      expect(await heldOf(freshness, OTHER_NAME)).toEqual([OLD, OLD, OLD])
      expect(await freshness.stands(asked)).toBe(false)
      expect((await freshness.endWrite(push)).size).toBe(0)
      expect((await freshness.endWrite(deletion)).size).toBe(0)
    })

    it('loses its confirmation, and every answer on its way, by an event that names it or its repository', async () => {
      const freshness = await trusting()

      await confirmAll(freshness)
      const asked = await freshness.observe(NAME, TAG)
      await freshness.hear(NAME, [{ tag: TAG, digest: NEW }])
      expect(await heldOf(freshness, NAME)).toEqual([undefined, OLD, OLD])
      expect(await standsAndConfirms(freshness, asked)).toEqual([false, false])

      await confirmAll(freshness)
      const otherAsked = await freshness.observe(NAME, OTHER_TAG)
      await freshness.hear(NAME, [{}])
      expect(await heldOf(freshness, NAME)).toEqual([undefined, undefined, undefined])
      expect(await standsAndConfirms(freshness, otherAsked)).toEqual([false, false])
      expect(await heldOf(freshness, OTHER_NAME)).toEqual([OLD, OLD, OLD])
    })

    it('is still confirmed by the 201 of its own push when the event of that push came before the answer', async () => {
      const freshness = await trusting()
      const write = await freshness.beginWrite(NAME, [TAG])
      await freshness.hear(NAME, [{ tag: TAG, digest: NEW }])

      const own = (await freshness.endWrite(write)).get(TAG)

      expect(own && (await freshness.confirm(own, NEW))).toBe(true)
      expect(await freshness.confirmed(NAME, TAG)).toBe(NEW)
    })

    it('keeps the answer that was asked for later when an earlier one comes in last', async () => {
      const freshness = await trusting()
      const earlier = await freshness.observe(NAME, TAG)
      world.nowMs += 1
      const later = await freshness.observe(NAME, TAG)

      expect(await freshness.confirm(later, NEW)).toBe(true)

      expect(await standsAndConfirms(freshness, earlier)).toEqual([false, false])
      expect(await freshness.confirm(earlier, NEW)).toBe(true)
      world.nowMs += 999
      expect(await freshness.confirmed(NAME, TAG)).toBe(NEW)
    })

    it('tells the outcome of a write once', async () => {
      const freshness = await trusting()
      const write = await freshness.beginWrite(NAME, [TAG])

      expect((await freshness.endWrite(write)).size).toBe(1)
      expect((await freshness.endWrite(write)).size).toBe(0)
    })

    it('has generations nobody can guess or meet again', async () => {
      const freshness = await open({})
      const seen = new Set<string>()
      for (let turn = 0; turn < 50; turn++) {
        await freshness.endWrite(await freshness.beginWrite(NAME, [TAG]))
        await freshness.endWrite(await freshness.beginWrite(NAME, []))
        const { tagGeneration, repositoryGeneration } = await freshness.observe(NAME, TAG)
        expect(tagGeneration).toMatch(/^[0-9a-f]{32}$/)
        seen.add(`tag ${tagGeneration}`).add(`repository ${repositoryGeneration}`)
      }
      expect(seen.size).toBe(100)
    })

    it('is observed among thousands as it is alone', async () => {
      const freshness = await trusting()
      const tags = Array.from({ length: 2500 }, (_, index) => tagNamed(`t${index}`))
      const early = await freshness.observe(NAME, tags[7] ?? TAG)

      const all = await freshness.observeAll(NAME, tags)

      expect([...all.keys()]).toEqual(tags)
      await freshness.hear(NAME, [{ tag: tags[3], digest: NEW }])
      const stands = await Promise.all([...all.values()].map((seen) => freshness.stands(seen)))
      expect(stands.flatMap((does, index) => (does ? [] : [index]))).toEqual([3])
      const late = all.get(tags[7] ?? TAG) ?? expect.unreachable()
      expect(await freshness.confirm(late, NEW)).toBe(true)
      expect(await freshness.confirm(early, OLD)).toBe(false)
      expect((await freshness.observeAll(NAME, [])).size).toBe(0)
    })
  })

  watermarkContract(make)

  describe('any history of questions, answers, pushes, deletes, events and epochs', () => {
    it('confirms exactly what the law confirms', async () => {
      await fc.assert(
        fc.asyncProperty(history, async (steps) => {
          await using subject = await make({ ...LIMITS, now: () => world.nowMs })
          const site = [{ freshness: subject.freshness, isExact: true, now: () => world.nowMs }]
          await runHistory(steps, site, (byMs) => {
            world.nowMs += byMs
          })
        }),
        { numRuns: histories },
      )
    })
  })
}
