/** Law 6: what a transfer holds in memory does not grow with its size, however slow the other end is. */
import { Readable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Content, randomBytesOf, randomContent } from '../support/content.ts'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { type GeoRegistry, startGeoRegistry } from '../support/geo-registry.ts'
import { type Link, startLink } from '../support/link.ts'
import { createRegistryApi, locationOf, type RegistryApi } from '../support/registry-api.ts'
import { until } from '../support/wait.ts'
import { isPublished } from './store-files.ts'

const NAME = 'team/app'
const MIB = 1024 * 1024
const BIG_BYTES = 512 * MIB
/** Both buffers of a transfer, a fill's batches, sockets, and what V8 does not collect at once; never 512 MiB. */
const GROWTH_BYTES = 64 * MIB
const RESIDENT_BYTES = 256 * MIB

let primary: DockerRegistry
let link: Link
let site: GeoRegistry
let here: RegistryApi
let there: RegistryApi

beforeAll(async () => {
  primary = await startDockerRegistry()
  link = await startLink({ target: primary.url })
  site = await startGeoRegistry({ primary: link.url, config: { auth: { none: { push: true } } } })
  here = createRegistryApi(site.url)
  there = createRegistryApi(primary.url)
  // Code, pools and the heap reach their working size before anything is measured.
  const warmUp = await randomContent(64 * MIB, { seed: 'warm-up' })
  expect((await here.pushBlob(NAME, warmUp)).status).toBe(201)
  await there.pushBlob(NAME, await randomContent(MIB, { seed: 'warm-up 2' }))
  for (let turn = 0; turn < 3; turn++) await here.getBlob(NAME, warmUp.digest)
})
afterAll(async () => {
  for (const owned of [here, there, site, link, primary]) await owned[Symbol.asyncDispose]()
})

/** The site's highest resident memory while `work` runs, and by how much it rose. */
async function peakDuring(work: () => Promise<void>): Promise<{ peakBytes: number; growthBytes: number }> {
  const { residentBytes } = await site.memory()
  let peakBytes = residentBytes
  let done = false
  const watching = (async () => {
    while (!done) {
      peakBytes = Math.max(peakBytes, (await site.memory()).residentBytes)
      await delay(50)
    }
  })()
  try {
    await work()
  } finally {
    done = true
    await watching
  }
  return { peakBytes, growthBytes: peakBytes - residentBytes }
}

/** Takes `bytes` of a body at 10 MB/s, then leaves. */
async function sip(content: Content, bytes: number): Promise<void> {
  const { body } = await here.open(`/v2/${NAME}/blobs/${content.digest}`)
  let taken = 0
  const startedAtMs = performance.now()
  for await (const chunk of body as AsyncIterable<Buffer>) {
    taken += chunk.length
    if (taken >= bytes) break // Leaving the loop destroys the body.
    const dueMs = startedAtMs + taken / 10_000
    await delay(Math.max(0, dueMs - performance.now()))
  }
}

function expectFlat(measured: { peakBytes: number; growthBytes: number }): void {
  expect(measured.growthBytes).toBeLessThan(GROWTH_BYTES)
  expect(measured.peakBytes).toBeLessThan(RESIDENT_BYTES)
}

describe('the memory of a site', () => {
  it('stays flat while a slow client reads 512 MiB that arrive fast, and when it reads them warm', async () => {
    const content = await randomContent(BIG_BYTES, { seed: 'big' })
    expect((await there.pushBlob(NAME, content)).status).toBe(201)

    const cold = await peakDuring(async () => {
      await Promise.all([
        sip(content, 40 * MIB),
        until(() => isPublished(site.root, content.digest), { what: 'the fill', deadlineMs: 40_000 }),
      ])
    })
    const warm = await peakDuring(async () => {
      await Promise.all(Array.from({ length: 8 }, () => sip(content, 10 * MIB)))
    })

    expectFlat(cold)
    expectFlat(warm)
  })

  it('stays flat while a client pushes fast over a slow line', async () => {
    const sizeBytes = 96 * MIB
    const content = await randomContent(sizeBytes, { seed: 'fast push' })
    const session = locationOf(await here.startUpload(NAME))
    link.shape({ bytesPerSecond: 25e6 })

    const pushing = await peakDuring(async () => {
      const body = Readable.from(randomBytesOf(sizeBytes, 'fast push'))
      const patched = await here.patchUpload(NAME, session, body)
      expect((await here.finishUpload(NAME, locationOf(patched), content.digest)).status).toBe(201)
    })

    link.shape({})
    expectFlat(pushing)
  })
})
