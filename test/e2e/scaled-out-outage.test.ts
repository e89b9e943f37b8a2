/** Redis away, frozen and emptied under two proxies and a replicator: what each client gets, and that it ends by itself. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { buildImage, type Image } from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import type { Answer, RegistryApi } from '../support/registry-api.ts'
import { until } from '../support/wait.ts'
import { sourceOf } from './one-site.ts'
import { type ScaledOutSite, startScaledOutSite } from './scaled-out-site.ts'
import { expectSoundStore } from './store-files.ts'

const NAME = 'team/app'

let images: Image[]
beforeAll(async () => {
  images = await Promise.all(
    ['held', 'new', 'missed', 'late', 'doomed'].map((seed) => buildImage({ seed, layers: [3000] })),
  )
})
const image = (index: number): Image => images[index] ?? expect.unreachable('there are five')

function expectUnavailable(answer: Answer): void {
  expect(answer.status).toBe(503)
  expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0)
  const [error] = JSON.parse(answer.body.toString()).errors
  expect(error.code).toBe('UNAVAILABLE')
  expect(error.message).toMatch(/try again later.*pulls of what this site holds still work/)
}

const TRUSTS = [{ trust: '0s' }, { trust: '60s' }]
/** The two sites live side by side; what happens to each happens one after the other. */
const IN_ORDER = { concurrent: false }

describe.concurrent.each(TRUSTS)('Redis away, with a trust of $trust', ({ trust }) => {
  let site: ScaledOutSite
  let both: readonly [RegistryApi, RegistryApi]

  beforeAll(async () => {
    site = await startScaledOutSite({ repositories: [NAME, 'team/web'], config: { tags: { trust } } })
    both = [site.a, site.b]
    await pushImage(site.a, NAME, 'held', image(0))
    await pushImage(site.a, NAME, 'doomed', image(4))
    for (const api of both) expect((await api.getManifest(NAME, 'held')).digest).toBe(image(0).digest)
    await site.redis.stop()
  })
  afterAll(() => site[Symbol.asyncDispose]())

  it('leaves the proxies ready, and pulls of what is held go on', IN_ORDER, async () => {
    for (const { adminUrl } of site.proxies) {
      for (const path of ['/-/readiness', '/-/liveness'])
        expect((await fetch(adminUrl + path)).status).toBe(200)
    }
    for (const api of both) {
      const answers = [
        await api.getManifest(NAME, image(0).digest),
        // Nobody knows whether another process has written it since: the primary is asked.
        await api.getManifest(NAME, 'held'),
      ]
      for (const answer of answers) {
        expect([answer.status, answer.digest, sourceOf(answer)]).toEqual([200, image(0).digest, 'local'])
      }
      for (const { digest } of image(0).blobs) {
        const blob = await api.getBlob(NAME, digest)
        expect([blob.digest, sourceOf(blob)]).toEqual([digest, 'local'])
      }
    }
  })

  it('refuses deletes before they reach the primary, and says what still works', IN_ORDER, async () => {
    expectUnavailable(await site.a.deleteManifest(NAME, image(4).digest))
    const [config] = image(4).blobs
    if (config) expectUnavailable(await site.b.deleteBlob(NAME, config.digest))

    expect((await site.there.getManifest(NAME, image(4).digest)).status).toBe(200)
    for (const api of both) expect((await api.getManifest(NAME, image(4).digest)).status).toBe(200)
  })

  it(
    trust === '0s' ? 'takes pushes, which both show' : 'refuses pushes before they reach the primary',
    IN_ORDER,
    async () => {
      for (const blob of image(1).blobs) expect((await site.a.pushBlob(NAME, blob)).status).toBe(201)
      const push = (tag: string) => site.a.putManifest(NAME, tag, image(1).bytes, image(1).mediaType)
      if (trust === '0s') {
        expect((await push('held')).status).toBe(201)
        for (const api of both) expect((await api.getManifest(NAME, 'held')).digest).toBe(image(1).digest)
      } else {
        expectUnavailable(await push('held'))
        expect((await site.there.getManifest(NAME, 'held')).digest).toBe(image(0).digest)
        for (const api of both) expect((await api.getManifest(NAME, 'held')).digest).toBe(image(0).digest)
      }
    },
  )

  it('serves what is not here from the primary', IN_ORDER, async () => {
    await pushImage(site.there, 'team/web', 'missed', image(2))

    for (const api of both) {
      expect((await api.getManifest('team/web', 'missed')).digest).toBe(image(2).digest)
      for (const { digest } of image(2).blobs) {
        expect((await api.getBlob('team/web', digest)).digest).toBe(digest)
      }
    }
  })

  it(
    'lets no proxy serve what was overwritten meanwhile when the primary goes away as well',
    IN_ORDER,
    async () => {
      site.link.refuse()
      site.link.cut()
      try {
        for (const api of both) {
          const answer = await api.getManifest(NAME, 'held')
          if (trust === '0s') expect(answer.status).toBe(503)
          else expect([answer.digest, sourceOf(answer)]).toEqual([image(0).digest, 'stale'])
          const known = await api.getManifest(NAME, image(0).digest)
          expect([known.status, known.digest]).toEqual([200, image(0).digest])
        }
      } finally {
        await site.link.accept()
      }
    },
  )

  it(
    'is over when Redis is back: writes through one are shown by the other, and all is in step',
    IN_ORDER,
    async () => {
      await site.redis.start()
      await site.recovered()
      await worksAgain(site, image(3))
      expect((await site.b.deleteManifest(NAME, image(4).digest)).status).toBe(202)
      for (const api of both) expect((await api.getManifest(NAME, 'doomed')).status).toBe(404)
      await site.resynced()
      await expectSoundStore(site.root)
    },
  )

  it('does no harm when Redis is emptied under the site', IN_ORDER, async () => {
    for (const [writer, reader, pushed] of [
      [site.a, site.b, image(0)],
      [site.b, site.a, image(1)],
      [site.a, site.b, image(2)],
    ] as const) {
      for (const blob of pushed.blobs) expect((await writer.pushBlob(NAME, blob)).status).toBe(201)
      for (const api of both) await api.getManifest(NAME, 'held')
      await site.redis.command('FLUSHALL')
      expect((await reader.getManifest(NAME, 'held')).status).toBe(200)
      // What was under way with the Redis that was is refused once, and can be tried again.
      const push = () => writer.putManifest(NAME, 'held', pushed.bytes, pushed.mediaType)
      await until(async () => (await push()).status === 201, {
        what: 'the push to be taken',
        deadlineMs: 3000,
      })
      await site.redis.command('FLUSHALL')
      for (const api of [reader, writer]) {
        expect((await api.getManifest(NAME, 'held')).digest).toBe(pushed.digest)
      }
    }
    await site.resynced()
  })

  it('holds no pull up for long when Redis is there and answers nobody', IN_ORDER, async () => {
    site.redis.freeze()
    try {
      for (const api of both) {
        for (const reference of [image(0).digest, 'held', image(0).digest, 'held', 'held']) {
          const startedAt = performance.now()
          expect((await api.getManifest(NAME, reference)).status).toBe(200)
          expect(performance.now() - startedAt).toBeLessThan(5000)
        }
        const [config] = image(0).blobs
        if (config) expect((await api.getBlob(NAME, config.digest)).status).toBe(200)
      }
      expectUnavailable(await site.a.deleteManifest(NAME, image(0).digest))
    } finally {
      site.redis.thaw()
    }
    await site.recovered()
    await worksAgain(site, image(1))
  })
})

async function worksAgain({ a, b, there }: ScaledOutSite, pushed: Image): Promise<void> {
  const other = await buildImage({ seed: `after ${pushed.digest}`, layers: [1000] })
  for (const [writer, reader, next] of [
    [a, b, pushed],
    [b, a, other],
    [a, b, pushed],
  ] as const) {
    await until(async () => await pushImage(writer, NAME, 'again', next), {
      what: 'pushes to be taken again',
    })
    for (const api of [reader, writer, there]) {
      expect((await api.getManifest(NAME, 'again')).digest).toBe(next.digest)
    }
  }
}
