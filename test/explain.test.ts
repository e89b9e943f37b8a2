/** Why a pull by tag would be answered from here, where a watermark may cover tags. */
import { describe, expect, it } from 'vitest'
import { createExplain, type ExplainOptions } from '../src/explain.ts'
import { createMemoryFreshness } from '../src/freshness/memory-freshness.ts'
import { digestOf } from '../src/oci/digest.ts'
import type { RepositoryIndex } from '../src/store/repository-index.ts'
import { nameOf, tagOf } from './store/store-fixture.ts'

const APP = nameOf('team/app')
const V1 = tagOf('v1')
const DIGEST = digestOf(Buffer.from('x'))

interface World {
  readonly trustMs?: number
  readonly maxStalenessMs?: number | undefined
}

function world({ trustMs = 0, ...given }: World = {}) {
  let nowMs = 100_000
  const maxStalenessMs = 'maxStalenessMs' in given ? given.maxStalenessMs : 10_000
  const options: ExplainOptions = { maxStaleMs: 1, trustMs, maxStalenessMs }
  const freshness = createMemoryFreshness({ trustMs, maxStalenessMs, now: () => nowMs })
  const index: Pick<RepositoryIndex, 'tag'> = {
    tag: async () => ({ digest: DIGEST, confirmedAtMs: 1 }) as Awaited<ReturnType<RepositoryIndex['tag']>>,
  }
  const explain = createExplain(
    { index, freshness, upstream: { getManifest: async () => 'not-modified' }, modeOf: () => 'replicate' },
    options,
  )
  return {
    freshness,
    why: async () => (await explain(APP, V1)).why,
    async confirm() {
      await freshness.confirm(await freshness.observe(APP, V1), DIGEST)
    },
    later: (ms: number) => {
      nowMs += ms
    },
    now: () => nowMs,
  }
}

describe('explain, at a site whose tags a watermark may cover', () => {
  it('says when one does, and how old it is', async () => {
    const { freshness, confirm, later, now, why } = world()
    const epoch = await freshness.beginEpoch()
    await confirm()
    await freshness.advance(epoch, now())
    later(2_000)
    expect(await why()).toMatch(
      /^It is covered by the watermark: .* until 2 s ago .* the primary is not asked\.$/,
    )
  })

  it('says both where tags.trust may be the reason as well', async () => {
    const { freshness, confirm, now, why } = world({ trustMs: 60_000 })
    const epoch = await freshness.beginEpoch()
    await confirm()
    expect(await why()).toBe('Confirmed by the primary within tags.trust: it is not asked.')
    await freshness.advance(epoch, now())
    expect(await why()).toMatch(/^Confirmed by the primary within tags\.trust, or covered by the watermark/)
  })

  it('says why none does', async () => {
    const { freshness, confirm, later, now, why } = world()
    await confirm()
    expect(await why()).toMatch(/there is no watermark now/)
    const epoch = await freshness.beginEpoch()
    await freshness.advance(epoch, now())
    expect(await why()).toMatch(/was not asked for since the watermark began/)
    await confirm()
    later(11_000)
    expect(await why()).toMatch(/the watermark is 11 s old, more than tags\.maxstaleness/)
  })

  it('says that the primary is asked at each pull where none is to', async () => {
    expect(await world({ maxStalenessMs: undefined }).why()).toBe(
      'The primary is asked at each pull, and says what is here.',
    )
  })
})
