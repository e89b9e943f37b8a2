/** A layer of 2 GiB: past every 32-bit length on the way, and no more memory than a small one. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { type Content, randomContent } from '../../support/content.ts'
import { type GeoRegistry, startGeoRegistry } from '../../support/geo-registry.ts'
import { createLogin } from '../../support/login.ts'
import { createRegistryApi, type RegistryApi } from '../../support/registry-api.ts'
import { READER, startTwoSites, type TwoSites } from './two-sites.ts'

const SIZE_BYTES = 2 * 1024 ** 3 + 1
const MEMORY_BYTES = 256 * 1024 ** 2

const owned = new AsyncDisposableStack()
let sites: TwoSites
/** Another site of the same primary, where nothing is held. */
let second: GeoRegistry
let readerThere: RegistryApi
let layer: Content

beforeAll(async () => {
  sites = owned.use(await startTwoSites())
  second = owned.use(await startGeoRegistry({ primary: sites.primary.url, auth: sites.tokens }))
  readerThere = owned.use(createRegistryApi(second.url, { authorize: createLogin(sites.tokens, READER) }))
  layer = await randomContent(SIZE_BYTES, { seed: 'large' })
})
afterAll(() => owned.disposeAsync())

it('is pushed through the site in one stream', { timeout: 120_000 }, async () => {
  const answer = await sites.here.pushBlob('team/large', layer)

  expect([answer.status, answer.headers['docker-content-digest']]).toEqual([201, layer.digest])
  expect((await sites.there.headBlob('team/large', layer.digest)).headers['content-length']).toBe(
    String(SIZE_BYTES),
  )
  expect((await sites.site.memory()).peakBytes).toBeLessThan(MEMORY_BYTES)
})

it('is then pulled from the site, which has it already', { timeout: 120_000 }, async () => {
  const before = sites.link.counts().down
  const pulled = await sites.reader.getBlob('team/large', layer.digest)

  expect([pulled.digest, pulled.sizeBytes, pulled.cut]).toEqual([layer.digest, SIZE_BYTES, undefined])
  expect(pulled.headers['geo-registry-source']).toBe('local')
  expect(sites.link.counts().down - before).toBeLessThan(64 * 1024)
  expect((await sites.site.memory()).peakBytes).toBeLessThan(MEMORY_BYTES)
})

it('is pulled cold from another site, while it is fetched', { timeout: 120_000 }, async () => {
  const pulled = await readerThere.getBlob('team/large', layer.digest)

  expect([pulled.digest, pulled.sizeBytes, pulled.cut]).toEqual([layer.digest, SIZE_BYTES, undefined])
  expect(pulled.headers['geo-registry-source']).toBe('fill')
  expect(pulled.firstByteMs).toBeLessThan(pulled.totalMs / 4)
  expect((await second.memory()).peakBytes).toBeLessThan(MEMORY_BYTES)
})

it('has its last bytes read alone, past 2 GiB', async () => {
  const start = 2 ** 31 - 5
  const path = `/v2/team/large/blobs/${layer.digest}`
  const scope = 'repository:team/large:pull'
  const tail = await readerThere.request('GET', path, { headers: { range: `bytes=${start}-` }, scope })
  const same = await sites.there.request('GET', path, { headers: { range: `bytes=${start}-` }, scope })

  expect([tail.status, tail.headers['content-range']]).toEqual([
    206,
    `bytes ${start}-${SIZE_BYTES - 1}/${SIZE_BYTES}`,
  ])
  expect(tail.body.equals(same.body)).toBe(true)
})
