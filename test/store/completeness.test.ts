/** What ends a mark of completeness besides events: whatever else makes a list of what is here another than the primary's. */
import { expect, it } from 'vitest'
import { all, nameOf, putManifest, storeFixture, tagOf } from './store-fixture.ts'

const name = nameOf('team/app')
const latest = tagOf('latest')

it('ends when another project takes the path, also one set by an inventory of the former project', async () => {
  let clockMs = 1_700_000_000_000
  await using fixture = await storeFixture({ now: () => clockMs })
  const { holdings, index } = fixture.store
  await putManifest(fixture.store, name, 'm', latest)
  await index.identify(name, 7, 1000)
  const asked = index.mark()
  await holdings.markComplete(name, asked)
  clockMs += 1000

  expect(await index.identify(name, 8, 2000)).toBe('replaced')
  const after = await holdings.completeSince(name)
  await holdings.markComplete(name, asked) // By a job that had asked before.

  expect([after, await holdings.completeSince(name)]).toEqual([undefined, undefined])
  expect(await holdings.tags(name)).toEqual([])
})

it('ends when a hand brings back what the primary may not have', async () => {
  await using fixture = await storeFixture()
  const { holdings, index } = fixture.store
  await putManifest(fixture.store, name, 'm', latest)
  await index.hideTag(name, latest)
  await holdings.markComplete(name, index.mark())
  const [entry] = await all(holdings.hidden())

  expect(await holdings.restore(entry?.id ?? '')).toBe(true)

  expect(await holdings.tags(name)).toEqual([latest])
  expect(await holdings.completeSince(name)).toBeUndefined()
})

it('is not set by an old inventory of a repository whose event fell out of memory', async () => {
  let clockMs = 1_700_000_000_000
  await using fixture = await storeFixture({ now: () => clockMs })
  const { holdings, index } = fixture.store
  const asked = index.mark()
  clockMs += 10
  await holdings.dropComplete(name)
  const others = Array.from({ length: 16_384 }, (_, at) => nameOf(`other/app-${at}`))
  await Promise.all(others.map((other) => holdings.dropComplete(other)))

  await holdings.markComplete(name, asked)
  expect(await holdings.completeSince(name)).toBeUndefined()

  await holdings.markComplete(name, index.mark())
  expect(await holdings.completeSince(name)).toBe(clockMs)
})
