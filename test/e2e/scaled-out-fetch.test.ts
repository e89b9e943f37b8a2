/** Law 7 across processes: what clients of two proxies and the replicator want at once crosses the line once. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type Content, contentBytes, randomContent } from '../support/content.ts'
import { buildImage } from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import type { DrainedAnswer, RegistryApi } from '../support/registry-api.ts'
import { until } from '../support/wait.ts'
import { type ScaledOutSite, startScaledOutSite } from './scaled-out-site.ts'
import { expectSoundStore, isPublished } from './store-files.ts'

const MIB = 1024 * 1024
const COLD = 'cold/app'
/** What heads, questions and answers may cost beside the blob's bytes. */
const TALK_BYTES = 400_000

let site: ScaledOutSite

beforeAll(async () => {
  // What the replicator brings by itself must not be counted where clients alone are looked at.
  const config = { replication: { modes: [{ pattern: 'cold/*', mode: 'ondemand' }] } }
  site = await startScaledOutSite({ repositories: [COLD, 'warm/app'], config })
})
afterAll(() => site[Symbol.asyncDispose]())
beforeEach(() => site.link.shape({}))

async function coldBlob(sizeBytes: number, seed: string): Promise<Content> {
  const content = await randomContent(sizeBytes, { seed })
  expect((await site.there.pushBlob(COLD, content)).status).toBe(201)
  return content
}

function expectWhole(answers: readonly DrainedAnswer[], { digest, sizeBytes }: Content): void {
  for (const answer of answers) {
    const { status, cut } = answer
    expect([status, answer.digest, answer.sizeBytes, cut]).toEqual([200, digest, sizeBytes, undefined])
  }
}

/** Bytes that came from the primary while `run` ran. */
async function cost(run: () => Promise<void>): Promise<number> {
  const before = site.link.counts().down
  await run()
  return site.link.counts().down - before
}

/** Resolves when so much has come from the primary since `before`. */
async function arrived(before: number, bytes: number): Promise<void> {
  await until(() => site.link.counts().down - before >= bytes, { what: 'bytes to arrive', everyMs: 5 })
}

describe('one blob that is not here', () => {
  it('costs the primary one fetch, however many clients of both proxies want it at once', async () => {
    const blob = await coldBlob(64 * MIB, 'twenty clients')
    site.link.shape({ bytesPerSecond: 48 * MIB, latencyMs: 10 })

    const spent = await cost(async () => {
      const clients = Array.from({ length: 20 }, (_, index) => (index % 2 === 0 ? site.a : site.b))
      expectWhole(await Promise.all(clients.map((api) => api.getBlob(COLD, blob.digest))), blob)
    })

    expect(spent).toBeGreaterThan(blob.sizeBytes)
    expect(spent).toBeLessThan(blob.sizeBytes + TALK_BYTES)
    expect(await isPublished(site.root, blob.digest)).toBe(true)
    expectWhole([await site.a.getBlob(COLD, blob.digest), await site.b.getBlob(COLD, blob.digest)], blob)
  })

  it('is read once for clients that come one after another and ask for parts of it, as containerd does', async () => {
    const blob = await coldBlob(24 * MIB, 'by parts')
    const bytes = await contentBytes(blob)
    site.link.shape({ bytesPerSecond: 12 * MIB })
    const before = site.link.counts().down

    const spent = await cost(async () => {
      const first = site.a.getBlob(COLD, blob.digest, { range: 'bytes=0-' })
      await arrived(before, 2 * MIB)
      const whole = site.b.getBlob(COLD, blob.digest)
      await arrived(before, 4 * MIB)
      const range = 'bytes=1048576-2097151'
      const part = await site.b.request('GET', `/v2/${COLD}/blobs/${blob.digest}`, { headers: { range } })
      expect(part.status).toBe(206)
      expect(part.body.equals(bytes.subarray(MIB, 2 * MIB))).toBe(true)
      expectWhole([await whole], blob)
      expect((await first).digest).toBe(blob.digest)
    })

    expect(spent).toBeLessThan(blob.sizeBytes + TALK_BYTES)
  })

  it('is one fetch for the replicator and for clients of both proxies', async () => {
    const image = await buildImage({ seed: 'shared with the replicator', layers: [24 * MIB], gzip: false })
    const layer = image.blobs.find(({ sizeBytes }) => sizeBytes > MIB)
    if (!layer) return expect.unreachable('it has a layer')
    site.link.shape({ bytesPerSecond: 12 * MIB })
    const before = site.link.counts().down

    const spent = await cost(async () => {
      await pushImage(site.there, 'warm/app', 'v1', image)
      // Nobody but the replicator has been told so far.
      await arrived(before, 2 * MIB)
      const clients = [site.a, site.b, site.a, site.b]
      expectWhole(await Promise.all(clients.map((api) => api.getBlob('warm/app', layer.digest))), layer)
      await site.inStep()
    })

    expect(spent).toBeLessThan(layer.sizeBytes + TALK_BYTES)
    await expectSoundStore(site.root)
  })
})

describe('a proxy that is killed', () => {
  it('in the middle of a fetch costs nobody else a byte, and the line at most what was not on the disk', async () => {
    const blob = await coldBlob(96 * MIB, 'killed')
    site.link.shape({ bytesPerSecond: 32 * MIB })
    const before = site.link.counts().down
    const [killed] = site.proxies

    const spent = await cost(async () => {
      // Cut with its process.
      const lost = site.a.getBlob(COLD, blob.digest).catch(() => undefined)
      await arrived(before, 4 * MIB)
      const followers = [site.b, site.b, site.b].map((api) => api.getBlob(COLD, blob.digest))
      await arrived(before, 48 * MIB)
      await killed.kill()

      expectWhole(await Promise.all(followers), blob)
      expect((await lost)?.digest).not.toBe(blob.digest)
    })

    expect(spent).toBeLessThan(blob.sizeBytes + 64 * MIB + TALK_BYTES)
    await killed.start()
    expectWhole([await site.a.getBlob(COLD, blob.digest)], blob)
  })

  it('is gone for what it alone fetched, which the next client of the other goes on with', async () => {
    const blob = await coldBlob(80 * MIB, 'left behind')
    site.link.shape({ bytesPerSecond: 40 * MIB })
    const before = site.link.counts().down
    const [, killed] = site.proxies
    const lost = site.b.getBlob(COLD, blob.digest).catch(() => undefined)
    await arrived(before, 70 * MIB)
    await killed.kill()
    await lost
    site.link.shape({})

    const spent = await cost(async () => expectWhole([await site.a.getBlob(COLD, blob.digest)], blob))

    // What was synced is not read again: a sync begins at 32 MiB.
    expect(spent).toBeLessThan(56 * MIB)
    await killed.start()
  })

  it('in the middle of a push leaves nothing half-kept, and the other takes the push again', async () => {
    const [layer] = (await buildImage({ seed: 'pushed', layers: [8 * MIB], gzip: false })).blobs.toReversed()
    if (!layer) return expect.unreachable('it has a layer')
    const [killed] = site.proxies
    site.link.shape({ bytesPerSecond: 4 * MIB })
    const sentBefore = site.link.counts().up
    const lost = pushed(site.a, layer)
    await until(() => site.link.counts().up - sentBefore > 2 * MIB, { what: 'the push to be on its way' })

    await killed.kill()
    expect(await lost).toBe('cut')
    site.link.shape({})

    expect(await isPublished(site.root, layer.digest)).toBe(false)
    expect(await pushed(site.b, layer)).toBe(201)
    await killed.start()
    expectWhole([await site.a.getBlob('warm/app', layer.digest)], layer)
    await expectSoundStore(site.root)
  })
})

async function pushed(api: RegistryApi, content: Content): Promise<number | 'cut'> {
  try {
    return (await api.pushBlob('warm/app', content)).status
  } catch {
    return 'cut' // The connection went with the process.
  }
}
