/** A tag while the disk does not take what is to be written: the primary's word stands, and is not forgotten. */
import { expect, it } from 'vitest'
import { StoreError } from '../../src/store/blob-store.ts'
import { buildImage } from '../support/images.ts'
import { until } from '../support/wait.ts'
import { NAME, startTagSite, V1 } from './tag-site.ts'

const full = () => Promise.reject(new StoreError('full', 'no space left'))
const a = await buildImage({ seed: 'a', layers: [10] })
const b = await buildImage({ seed: 'b', layers: [10] })

it('is absent when the primary says so, also where that cannot be written down', async () => {
  const disk: { isFull: boolean } = { isFull: false }
  await using site = await startTagSite({
    index: ({ hideTag }) => ({ hideTag: (name, tag) => (disk.isFull ? full() : hideTag(name, tag)) }),
  })
  await site.primary.hold(NAME, a, V1)
  await site.resolve()
  site.primary.forget(NAME, V1)
  disk.isFull = true

  await expect(site.resolve()).rejects.toMatchObject({ kind: 'absent' })
})

it('is served on the primary’s 304, also where its link’s confirmation is lost and cannot be written', async () => {
  const disk: { isFull: boolean } = { isFull: false }
  await using site = await startTagSite({
    index: ({ link, putLink }) => ({
      // What a power cut leaves of a confirmation, which is written unsynced.
      link: async (...ask) => {
        const found = await link(...ask)
        return found && disk.isFull ? { ...found, confirmedAtMs: undefined } : found
      },
      putLink: (...ask) => (disk.isFull ? full() : putLink(...ask)),
    }),
  })
  await site.primary.hold(NAME, a, V1)
  await site.resolve()
  disk.isFull = true

  expect(await site.resolve()).toMatchObject({ kind: 'local', manifest: { digest: a.digest } })
})

it('is not what it was before, in an outage, once the primary has said what it is now and that could not be kept', async () => {
  const disk: { isFull: boolean } = { isFull: false }
  await using site = await startTagSite({
    blobs: ({ write }) => ({ write: (digest, bytes) => (disk.isFull ? full() : write(digest, bytes)) }),
  })
  await site.primary.hold(NAME, a, V1)
  await site.resolve()
  await site.primary.hold(NAME, b, V1)
  disk.isFull = true
  expect(await site.resolve()).toMatchObject({ manifest: { digest: b.digest } })
  await site.primary.stop()

  await expect(site.resolve()).rejects.toMatchObject({ kind: 'unavailable' })
})

it('is not served in an outage on a confirmation that a clock set back has put into the far future', async () => {
  let nowMs = Date.now()
  await using site = await startTagSite({ now: () => nowMs, maxStaleMs: 3_600_000 })
  await site.primary.hold(NAME, a, V1)
  await site.resolve()
  await site.primary.stop()
  expect(await site.resolve()).toMatchObject({ kind: 'stale' })
  nowMs -= 2 * 3_600_000

  await expect(site.resolve()).rejects.toMatchObject({ kind: 'unavailable' })
})

it('that only the primary may answer is not answered by a check that somebody else waits for', async () => {
  await using site = await startTagSite()
  await site.primary.hold(NAME, a, V1)
  await site.resolve()
  site.primary.gate('GET', `/v2/${NAME}/manifests/${V1}`)
  const underWay = site.resolve()
  await until(() => site.primary.requests.length === 2, { what: 'the check to be under way' })
  const waiting = site.resolve()
  const former = site.resolve({ onlyPrimary: true })
  former.catch(() => undefined) // Looked at below.
  await site.primary.stop()

  expect([(await underWay).kind, (await waiting).kind]).toEqual(['stale', 'stale'])
  await expect(former).rejects.toMatchObject({ kind: 'unavailable' })
})
