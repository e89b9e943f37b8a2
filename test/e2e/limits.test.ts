/** What one client may have at once: over it 429 with `Retry-After`, for that client alone, until it has let go. */
import { Readable } from 'node:stream'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { errorCodesOf } from '../../src/oci/errors.ts'
import { type Content, contentBytes, randomContent } from '../support/content.ts'
import type { Tree } from '../support/deep-merge.ts'
import { type GeoRegistry, startGeoRegistry } from '../support/geo-registry.ts'
import { buildImage } from '../support/images.ts'
import { type LyingPrimary, startLyingPrimary } from '../support/lying-primary.ts'
import { type Answer, createRegistryApi, locationOf, type RegistryApi } from '../support/registry-api.ts'
import { until } from '../support/wait.ts'

const NAME = 'team/app'
const MIB = 1024 * 1024

let owned: AsyncDisposableStack
let primary: LyingPrimary
beforeEach(async () => {
  owned = new AsyncDisposableStack()
  primary = owned.use(await startLyingPrimary())
})
afterEach(() => owned.disposeAsync())

async function start(limits: Tree): Promise<{ site: GeoRegistry; api: RegistryApi }> {
  const http = { limits, trustedproxies: ['127.0.0.1'] }
  const site = owned.use(
    await startGeoRegistry({ primary: primary.url, config: { http, auth: { none: { push: true } } } }),
  )
  return { site, api: owned.use(createRegistryApi(site.url)) }
}

async function heldLayers(count: number): Promise<Content[]> {
  const image = await buildImage({ seed: 'limits', layers: Array(count).fill(400_000), gzip: false })
  await primary.hold(NAME, image)
  return image.blobs.slice(1)
}

const path = (content: Content | undefined) => `/v2/${NAME}/blobs/${content?.digest}`
const from = (address: string) => ({ headers: { 'x-forwarded-for': address } })

function expectLimited(answer: Pick<Answer, 'status' | 'headers' | 'body'>): void {
  expect([answer.status, errorCodesOf(answer.body)]).toEqual([429, ['TOOMANYREQUESTS']])
  expect(Number(answer.headers['retry-after'])).toBeGreaterThan(0)
}

describe('cold blobs of one client', () => {
  it('are no more at once than http.limits.fills, and others are not held to its count', async () => {
    const { site, api } = await start({ fills: 2 })
    const layers = await heldLayers(3)
    const gate = primary.gate('GET', /blobs/)
    const pulls = layers.slice(0, 2).map((layer) => api.drain(path(layer), from('192.0.2.1')))
    await until(() => primary.asked('GET', /blobs/).length === 2, { what: 'two fills' })

    expectLimited(await api.request('GET', path(layers[2]), from('192.0.2.1')))
    const other = api.drain(path(layers[2]), from('192.0.2.2'))
    await until(() => primary.asked('GET', /blobs/).length === 3, { what: 'the other client’s fill' })
    gate.open()

    const digests = (await Promise.all([...pulls, other])).map(({ digest }) => digest)
    expect(digests).toEqual(layers.map(({ digest }) => digest))
    expect((await api.drain(path(layers[2]), from('192.0.2.1'))).status).toBe(200)
    expect(await site.metrics()).toMatch(/^geo_registry_limited_total{limit="fills"} 1$/m)
  })

  it('are no more at once for all clients than http.limits.maxfills, but those under way can be joined', async () => {
    const { api } = await start({ maxfills: 1 })
    const layers = await heldLayers(2)
    const gate = primary.gate('GET', path(layers[0]))
    const first = api.drain(path(layers[0]), from('192.0.2.1'))
    await until(() => primary.asked('GET', /blobs/).length === 1, { what: 'the fill' })

    expectLimited(await api.request('GET', path(layers[1]), from('192.0.2.2')))
    const joined = api.drain(path(layers[0]), from('192.0.2.2'))
    gate.open()

    expect((await first).digest).toBe(layers[0]?.digest)
    expect((await joined).digest).toBe(layers[0]?.digest)
    await until(async () => (await api.drain(path(layers[1]))).digest === layers[1]?.digest, {
      what: 'the second blob to have its turn',
    })
  })
})

describe('requests of one client', () => {
  it('are no more at once than http.limits.connections', async () => {
    const { api } = await start({ connections: 3 })
    const [layer] = await heldLayers(1)
    const gate = primary.gate('GET', /blobs/)
    const pulls = Array.from({ length: 3 }, () => api.drain(path(layer), from('192.0.2.1')))
    await until(() => primary.asked('GET', /blobs/).length === 1, { what: 'the fill' })

    const refused = await until(
      async () => {
        const answer = await api.request('GET', '/v2/', from('192.0.2.1'))
        return answer.status !== 200 && answer
      },
      { what: 'all three to be counted' },
    )
    expectLimited(refused)
    expect((await api.request('GET', '/v2/', from('192.0.2.2'))).status).toBe(200)
    gate.open()

    expect((await Promise.all(pulls)).map(({ digest }) => digest)).toEqual(Array(3).fill(layer?.digest))
    await until(async () => (await api.request('GET', '/v2/', from('192.0.2.1'))).status === 200, {
      what: 'the client to be let in again',
    })
  })

  it('are counted by its own address when nobody is trusted to say another', async () => {
    const site = owned.use(
      await startGeoRegistry({ primary: primary.url, config: { http: { limits: { fills: 1 } } } }),
    )
    const api = owned.use(createRegistryApi(site.url))
    const layers = await heldLayers(2)
    const gate = primary.gate('GET', /blobs/)
    const first = api.drain(path(layers[0]), from('192.0.2.1'))
    await until(() => primary.asked('GET', /blobs/).length === 1, { what: 'the fill' })

    expectLimited(await api.request('GET', path(layers[1]), from('192.0.2.2')))
    gate.open()
    expect((await first).digest).toBe(layers[0]?.digest)
  })
})

describe('uploads of one client', () => {
  it('are refused by the length they declare, in an answer it can read while it is still sending', async () => {
    const { api } = await start({ uploadbytes: '1MiB' })
    const session = locationOf(await api.startUpload(NAME))
    const bytes = await contentBytes(await randomContent(16 * MIB, { seed: 'declared' }))

    expectLimited(await api.patchUpload(NAME, session, bytes))
    expect(primary.asked('PATCH', /uploads/)).toEqual([])
    expect((await api.request('GET', session)).status).toBe(204)
  })

  it('are cut off in the middle when they did not say how long they are, and never become a blob', async () => {
    const { api } = await start({ uploadbytes: '1MiB' })
    const content = await randomContent(8 * MIB, { seed: 'streamed' })
    const session = locationOf(await api.startUpload(NAME))

    expectLimited(await api.patchUpload(NAME, session, Readable.from(content.read())))
    await until(() => primary.asked('PATCH', /uploads/).length === 1, { what: 'the upload at the primary' })
    expect(primary.asked('PATCH', /uploads/).map(({ complete }) => complete)).toEqual([false])
    expectLimited(await api.patchUpload(NAME, session, Buffer.alloc(10)))
    expectLimited(await api.putManifest(NAME, 'v1', '{}', 'application/vnd.oci.image.manifest.v1+json'))
    expect((await api.request('GET', '/v2/')).status).toBe(200)
  })
})
