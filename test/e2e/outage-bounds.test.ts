/** Law 5's bounds: how old a tag may be that is served in an outage, and what a restart in one takes away (nothing). */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Tree } from '../support/deep-merge.ts'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import type { GeoRegistry } from '../support/geo-registry.ts'
import { buildImage, type Image } from '../support/images.ts'
import { signingKey } from '../support/keys.ts'
import { type Link, startLink } from '../support/link.ts'
import { pushImage } from '../support/push-image.ts'
import type { RegistryApi } from '../support/registry-api.ts'
import { until } from '../support/wait.ts'
import { REALM, startOneSite } from './one-site.ts'
import { cell, whenConfirmed } from './table-row.ts'

const NAME = 'team/app'
let primary: DockerRegistry
let image: Image
let layer: string

beforeAll(async () => {
  const key = await signingKey()
  const auth = { realm: REALM, service: 'container_registry', issuer: 'gitlab-issuer', key }
  primary = await startDockerRegistry({ auth })
  image = await buildImage({ layers: [20_000] })
  layer = image.blobs.at(-1)?.digest ?? ''
  await using one = await startOneSite(primary.url)
  await pushImage(await one.client({ [NAME]: ['pull', 'push'] }, primary.url), NAME, 'v1', image)
})
afterAll(() => primary[Symbol.asyncDispose]())

interface Holding extends AsyncDisposable {
  readonly site: GeoRegistry
  /** Between the site and the primary. */
  readonly link: Link
  readonly reader: RegistryApi
}

/** A site that holds the image, over a line of its own. */
async function startHolding(config: Tree = {}): Promise<Holding> {
  await using starting = new AsyncDisposableStack()
  const link = starting.use(await startLink({ target: primary.url }))
  const one = starting.use(await startOneSite(link.url, config))
  const reader = await one.client({ [NAME]: ['pull'] })
  await reader.getManifest(NAME, 'v1')
  const isHeld = async () => (await pullLayer(reader)) !== '200 fill'
  await until(isHeld, { what: 'the layer to be held' })
  const owned = starting.move()
  return { site: one.site, link, reader, [Symbol.asyncDispose]: () => owned.disposeAsync() }
}

function startOutage({ link }: Holding): void {
  link.refuse()
  link.cut()
}

const pullTag = async (reader: RegistryApi) => cell(await reader.getManifest(NAME, 'v1'), image.digest)
const pullDigest = async (reader: RegistryApi) =>
  cell(await reader.getManifest(NAME, image.digest), image.digest)
const pullLayer = async (reader: RegistryApi) =>
  cell(await reader.request('GET', `/v2/${NAME}/blobs/${layer}`), layer)

// Each has a site and a line of its own.
describe.concurrent('in an outage', () => {
  it('a held tag is served until its last confirmation is as old as outage.maxstale, a digest for ever', async () => {
    await using held = await startHolding({ outage: { maxstale: '4s' } })
    const { link, reader } = held
    expect(await pullTag(reader)).toBe('200 local')

    startOutage(held)
    expect(await pullTag(reader)).toBe('200 stale, Warning')
    await until(async () => (await pullTag(reader)) === '503 UNAVAILABLE, Retry-After 10', {
      what: 'the tag to be too old',
    })
    expect([await pullDigest(reader), await pullLayer(reader)]).toEqual(['200 local', '200 local'])

    await link.accept()
    expect(await pullTag(reader)).toBe('200 local')
  })

  it('no tag is served where outage.maxstale is 0s', async () => {
    await using held = await startHolding({ outage: { maxstale: '0s' } })

    startOutage(held)

    expect(await pullTag(held.reader)).toBe('503 UNAVAILABLE, Retry-After 10')
    expect(await pullDigest(held.reader)).toBe('200 local')
  })

  it('a digest past digests.recheck is served with the time of its last confirmation', async () => {
    await using held = await startHolding({ digests: { recheck: '0s' } })
    const { reader } = held
    expect([await pullDigest(reader), await pullLayer(reader)]).toEqual(['200 local', '200 local'])

    startOutage(held)

    const pulled = [await pullDigest(reader), await pullLayer(reader)]
    expect(pulled).toEqual(['200 stale, Warning', '200 stale, Warning'])
  })

  it.each([
    ['stopped and started', 'SIGTERM'],
    ['killed and started', 'SIGKILL'],
  ] as const)('a site that is %s serves its tags and digests as before', async (_how, signal) => {
    await using held = await startHolding()
    const { site, link, reader } = held

    startOutage(held)
    const before = await reader.getManifest(NAME, 'v1')
    await (signal === 'SIGKILL' ? site.kill() : site.stop())
    await site.start()
    const after = await reader.getManifest(NAME, 'v1')

    expect(cell(after, image.digest)).toBe('200 stale, Warning')
    // The time that was written down: never later than what was true.
    expect(whenConfirmed(after)).toBeLessThanOrEqual(whenConfirmed(before))
    expect([await pullDigest(reader), await pullLayer(reader)]).toEqual(['200 local', '200 local'])

    await link.accept()
    await until(async () => (await pullTag(reader)) === '200 local', {
      what: 'the primary’s return to be noticed',
      deadlineMs: 5000,
    })
  })
})

// Alone: it tells how long a pull takes.
describe('in an outage', () => {
  it('a site started before a primary that never answers serves its tags within a second or so', async () => {
    await using held = await startHolding()
    const { site, link, reader } = held

    await site.stop()
    link.blackhole()
    try {
      await site.start()
      const startedAt = performance.now()

      expect(await pullTag(reader)).toBe('200 stale, Warning')
      expect(performance.now() - startedAt).toBeLessThan(3000)
    } finally {
      link.resume()
    }
  })
})
