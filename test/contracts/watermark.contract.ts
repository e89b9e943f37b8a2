/** What a watermark lets be served without asking the primary, and what it never does. */
import { describe, expect, it } from 'vitest'
import { type Epochs, type Freshness, SETTLED_MS } from '../../src/freshness/freshness.ts'
import type { Digest } from '../../src/oci/digest.ts'
import type { RepositoryName, Tag } from '../../src/oci/reference.ts'
import {
  confirmNow,
  DIGESTS,
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
} from './freshness-world.ts'

const MAX_STALENESS_MS = 10_000

export function watermarkContract(make: MakeFreshness): void {
  const world = freshnessWorld(make)
  const watching = () => world.open({ maxStalenessMs: MAX_STALENESS_MS })
  async function heldOf(freshness: Freshness, name: RepositoryName): Promise<(Digest | undefined)[]> {
    return await Promise.all(TAGS.map((tag) => freshness.confirmed(name, tag)))
  }
  async function confirmAll(freshness: Freshness): Promise<void> {
    for (const name of NAMES) for (const tag of TAGS) await confirmNow(freshness, OLD, name, tag)
  }

  describe('the watermark', () => {
    async function covering(): Promise<{ freshness: Freshness & Epochs; epoch: string }> {
      const freshness = await watching()
      const epoch = await freshness.beginEpoch()
      await freshness.advance(epoch, world.nowMs)
      return { freshness, epoch }
    }

    it('confirms a tag that was asked for in its epoch until it is older than allowed, and again when it advances', async () => {
      const { freshness, epoch } = await covering()
      await confirmNow(freshness, OLD)

      world.nowMs += MAX_STALENESS_MS
      expect(await freshness.confirmed(NAME, TAG)).toBe(OLD)
      world.nowMs += 1
      expect(await freshness.confirmed(NAME, TAG)).toBe(undefined)
      await freshness.advance(epoch, world.nowMs - 3000)
      expect(await freshness.confirmed(NAME, TAG)).toBe(OLD)
      expect(await freshness.watermark()).toEqual({ epoch, ageMs: 3000 })
    })

    it('confirms nothing where it is not asked for', async () => {
      const freshness = await world.open({ trustMs: 1 })
      const epoch = await freshness.beginEpoch()
      await freshness.advance(epoch, world.nowMs)
      await confirmNow(freshness, OLD)

      world.nowMs += 1
      expect(await freshness.confirmed(NAME, TAG)).toBe(undefined)
    })

    it('is unknown before the first of an epoch is told, and confirms nothing until then', async () => {
      const freshness = await watching()
      expect(await freshness.watermark()).toBe(undefined)
      const epoch = await freshness.beginEpoch()
      await confirmNow(freshness, OLD)

      expect(await freshness.watermark()).toBe(undefined)
      expect(await freshness.confirmed(NAME, TAG)).toBe(undefined)
      await freshness.advance(epoch, world.nowMs)
      expect(await freshness.confirmed(NAME, TAG)).toBe(OLD)
    })

    it('covers no answer to a question from before its epoch began', async () => {
      const freshness = await watching()
      const before = await freshness.observe(NAME, TAG)
      const epoch = await freshness.beginEpoch()
      const within = await freshness.observe(NAME, OTHER_TAG)
      await freshness.advance(epoch, world.nowMs)

      expect(await freshness.confirm(before, OLD)).toBe(true)
      expect(await freshness.confirm(within, OLD)).toBe(true)

      expect(await heldOf(freshness, NAME)).toEqual([undefined, OLD, undefined])
    })

    it('covers nothing any longer that was confirmed before a new epoch', async () => {
      const { freshness } = await covering()
      await confirmNow(freshness, OLD)

      const epoch = await freshness.beginEpoch()
      expect(await freshness.watermark()).toBe(undefined)
      await freshness.advance(epoch, world.nowMs)

      expect(await freshness.confirmed(NAME, TAG)).toBe(undefined)
      await confirmNow(freshness, OLD)
      expect(await freshness.confirmed(NAME, TAG)).toBe(OLD)
    })

    it('is changed by no epoch that has ended and no moment before the one told last', async () => {
      const { freshness, epoch: ended } = await covering()
      const epoch = await freshness.beginEpoch()

      await freshness.advance(ended, world.nowMs)
      expect(await freshness.watermark()).toBe(undefined)
      await freshness.advance(epoch, world.nowMs - 10)
      await freshness.advance(epoch, world.nowMs - 500)
      await freshness.advance(ended, world.nowMs)

      expect(await freshness.watermark()).toEqual({ epoch, ageMs: 10 })
    })

    it('covers no tag of a repository of which an event was heard, and every tag of the others', async () => {
      const { freshness } = await covering()
      await confirmAll(freshness)

      await freshness.hear(NAME, [{ tag: TAG, digest: NEW }])

      expect(await heldOf(freshness, NAME)).toEqual([undefined, undefined, undefined])
      expect(await heldOf(freshness, OTHER_NAME)).toEqual([OLD, OLD, OLD])
      await confirmNow(freshness, OLD, NAME, OTHER_TAG)
      expect(await heldOf(freshness, NAME)).toEqual([undefined, OLD, undefined])
    })

    it('covers no answer that was on its way when an event of its repository was heard', async () => {
      const { freshness } = await covering()
      const asked = await freshness.observe(NAME, OTHER_TAG)

      await freshness.hear(NAME, [{ tag: TAG, digest: NEW }])

      expect(await freshness.confirm(asked, OLD)).toBe(true)
      expect(await freshness.confirmed(NAME, OTHER_TAG)).toBe(undefined)
    })

    it('goes on being told while a write of a tag unconfirms it alone', async () => {
      const { freshness } = await covering()
      await confirmAll(freshness)

      await freshness.endWrite(await freshness.beginWrite(NAME, [TAG]))

      expect(await heldOf(freshness, NAME)).toEqual([undefined, OLD, OLD])
    })
  })

  describe('an announcement', () => {
    async function afterHearing(...said: Parameters<Freshness['hear']>[1]): Promise<Freshness & Epochs> {
      const freshness = await watching()
      const epoch = await freshness.beginEpoch()
      for (const each of said) await freshness.hear(NAME, [each])
      await freshness.advance(epoch, world.nowMs)
      return freshness
    }
    /** Which of both answers the watermark covers when the question is asked now. */
    async function covered(freshness: Freshness & Epochs, tag: Tag = TAG): Promise<Digest[]> {
      const held: Digest[] = []
      for (const digest of DIGESTS) {
        await confirmNow(freshness, digest, NAME, tag)
        if ((await freshness.confirmed(NAME, tag)) === digest) held.push(digest)
      }
      return held
    }
    async function coveredLater(freshness: Freshness & Epochs, afterMs: number): Promise<Digest[]> {
      world.nowMs += afterMs
      await freshness.advance((await freshness.watermark())?.epoch ?? expect.unreachable(), world.nowMs)
      return await covered(freshness)
    }

    it.each([
      ['an answer that agrees, and none that contradicts it', [{ tag: TAG, digest: NEW }], [NEW]],
      ['nothing when it says that the tag is gone', [{ tag: TAG, digest: 'gone' as const }], []],
      ['nothing when it does not say what the tag is', [{ tag: TAG }], []],
      [
        'nothing when it is disputed',
        [
          { tag: TAG, digest: OLD },
          { tag: TAG, digest: NEW },
        ],
        [],
      ],
      ['nothing when it names no tag', [{}], []],
      ['nothing when something is gone by its digest', [{ digest: 'gone' as const }], []],
      ['every answer when a manifest was pushed by its digest', [{ digest: NEW }], DIGESTS],
      ['every answer of a tag it does not name', [{ tag: OTHER_TAG, digest: NEW }], DIGESTS],
      [
        'an answer that agrees when it is heard again',
        [
          { tag: TAG, digest: NEW },
          { tag: TAG, digest: NEW },
        ],
        [NEW],
      ],
    ])('lets the watermark cover %s, and every answer a minute later', async (_what, said, expected) => {
      const freshness = await afterHearing(...said)

      expect(await covered(freshness)).toEqual(expected)
      expect(await coveredLater(freshness, SETTLED_MS - 1)).toEqual(expected)
      expect(await coveredLater(freshness, 1)).toEqual(DIGESTS)
    })

    it('from before the epoch counts in it', async () => {
      const freshness = await watching()
      await freshness.hear(NAME, [{ tag: TAG, digest: NEW }])
      world.nowMs += 1000
      await freshness.advance(await freshness.beginEpoch(), world.nowMs)

      expect(await covered(freshness)).toEqual([NEW])
      expect(await coveredLater(freshness, SETTLED_MS - 1000)).toEqual(DIGESTS)
    })

    it('is in doubt for a minute after the last that disputed it', async () => {
      const freshness = await afterHearing({ tag: TAG, digest: OLD })
      world.nowMs += SETTLED_MS - 1
      await freshness.hear(NAME, [{ tag: TAG, digest: NEW }])

      expect(await coveredLater(freshness, SETTLED_MS - 1)).toEqual([])
      expect(await coveredLater(freshness, 1)).toEqual(DIGESTS)
    })
  })

  ownWriteContract(
    watching,
    () => world.nowMs,
    (byMs) => {
      world.nowMs += byMs
    },
  )
}

/** What the 201 of a push through this site is worth to the watermark. */
function ownWriteContract(
  watching: () => Promise<Freshness & Epochs>,
  now: () => number,
  pass: (ms: number) => void,
): void {
  describe('the 201 of a push through this site', () => {
    /** Pushes `NEW` while something happens, and says whether the watermark covers it. */
    async function pushWhile(
      freshness: Freshness & Epochs,
      happens: () => Promise<unknown> = async () => {},
    ): Promise<boolean> {
      const write = await freshness.beginWrite(NAME, [TAG])
      await happens()
      const own = (await freshness.endWrite(write)).get(TAG) ?? expect.unreachable()
      expect(await freshness.confirm(own, NEW)).toBe(true)
      return (await freshness.confirmed(NAME, TAG)) === NEW
    }
    async function begun(): Promise<Freshness & Epochs> {
      const freshness = await watching()
      await freshness.advance(await freshness.beginEpoch(), now())
      return freshness
    }

    it('is covered when the push began in the epoch', async () => {
      expect(await pushWhile(await begun())).toBe(true)
    })

    it('is not covered when the push began before the epoch', async () => {
      const freshness = await begun()

      const covered = await pushWhile(freshness, async () => {
        await freshness.advance(await freshness.beginEpoch(), now())
      })

      expect(covered).toBe(false)
    })

    it('is covered when its own event came first, and until the event comes when it comes after', async () => {
      const freshness = await begun()
      const own = () => freshness.hear(NAME, [{ tag: TAG, digest: NEW }])
      expect(await pushWhile(freshness, own)).toBe(true)
      expect(await pushWhile(freshness)).toBe(true)

      await own()

      expect(await freshness.confirmed(NAME, TAG)).toBe(undefined)
    })

    it.each([
      ['another push of the tag', { tag: TAG, digest: OLD }],
      ['a delete of the tag', { tag: TAG, digest: 'gone' as const }],
      ['a change that names no tag', {}],
    ])('is not covered when %s was heard of meanwhile', async (_what, change) => {
      const freshness = await begun()

      expect(await pushWhile(freshness, () => freshness.hear(NAME, [change]))).toBe(false)
    })

    it('is not covered when what it contradicts was heard of before and settled meanwhile', async () => {
      const freshness = await begun()
      await freshness.hear(NAME, [{ tag: TAG, digest: OLD }])
      pass(SETTLED_MS - 1000)

      const covered = await pushWhile(freshness, async () => {
        pass(2000)
        await freshness.advance((await freshness.watermark())?.epoch ?? '', now())
      })

      expect(covered).toBe(false)
    })

    it('is not covered when it took so long that what was heard of meanwhile has settled', async () => {
      const freshness = await begun()

      const covered = await pushWhile(freshness, async () => {
        await freshness.hear(NAME, [{ tag: TAG, digest: OLD }])
        pass(SETTLED_MS)
        await freshness.advance((await freshness.watermark())?.epoch ?? '', now())
      })

      expect(covered).toBe(false)
    })
  })
}
