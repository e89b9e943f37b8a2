/** Law 2 and law 4 through a whole site: no tag older than the last acknowledged write. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { buildImage, type Image } from '../support/images.ts'
import { signingKey } from '../support/keys.ts'
import { type LyingPrimary, startLyingPrimary } from '../support/lying-primary.ts'
import { pushImage } from '../support/push-image.ts'
import type { RegistryApi } from '../support/registry-api.ts'
import { until } from '../support/wait.ts'
import { type OneSite, REALM, sourceOf, startOneSite } from './one-site.ts'

const ALL = ['pull', 'push', 'delete']
let a: Image
let b: Image

beforeAll(async () => {
  a = await buildImage({ seed: 'a', layers: [2000] })
  b = await buildImage({ seed: 'b', layers: [3000] })
})

describe('a tag, with a real primary', () => {
  let primary: DockerRegistry
  let one: OneSite
  let here: RegistryApi
  let there: RegistryApi

  beforeAll(async () => {
    const auth = {
      realm: REALM,
      service: 'container_registry',
      issuer: 'gitlab-issuer',
      key: await signingKey(),
    }
    primary = await startDockerRegistry({ auth })
    // A long trust makes every confirmation that should have been withdrawn show.
    one = await startOneSite(primary.url, { tags: { trust: '1h' } })
    here = await one.client({ 'team/app': ALL })
    there = await one.client({ 'team/app': ALL }, primary.url)
  })
  afterAll(async () => {
    await one[Symbol.asyncDispose]()
    await primary[Symbol.asyncDispose]()
  })

  it('is what was just pushed through the site, from here, at the next pull', async () => {
    await pushImage(here, 'team/app', 'own', a)
    const pulled = await here.getManifest('team/app', 'own')

    expect([pulled.digest, sourceOf(pulled)]).toEqual([a.digest, 'local'])
  })

  it('follows a rollback through the site to a digest that is held here', async () => {
    for (const image of [a, b, a, b, a]) {
      await pushImage(here, 'team/app', 'rolled', image)
      const pulled = await here.getManifest('team/app', 'rolled')
      expect([pulled.digest, sourceOf(pulled)]).toEqual([image.digest, 'local'])
      expect((await there.getManifest('team/app', 'rolled')).digest).toBe(image.digest)
    }
  })

  it('is gone at once when it was deleted through the site by the digest it has', async () => {
    await pushImage(here, 'team/app', 'doomed', b)
    expect((await here.getManifest('team/app', 'doomed')).status).toBe(200)
    expect((await here.deleteManifest('team/app', b.digest)).status).toBe(202)

    const byTag = await here.getManifest('team/app', 'doomed')
    const byDigest = await here.getManifest('team/app', b.digest)
    expect([byTag.status, byDigest.status]).toEqual([404, 404])
    expect(byTag.body.toString()).toContain('MANIFEST_UNKNOWN')
  })

  it('can be pushed again after that, and is pulled again', async () => {
    await pushImage(here, 'team/app', 'doomed', b)

    expect((await here.getManifest('team/app', 'doomed')).digest).toBe(b.digest)
    expect((await here.getManifest('team/app', b.digest)).status).toBe(200)
  })

  it('whose layer the primary has lost can be pushed again through the site: its HEAD is asked there', async () => {
    const image = await buildImage({ seed: 'layer lost', layers: [5000, 7000] })
    await pushImage(here, 'team/app', 'lost', image)
    const layer = image.blobs[1]
    if (!layer) throw new Error('an image has layers')
    expect((await there.deleteBlob('team/app', layer.digest)).status).toBe(202)

    expect((await here.headBlob('team/app', layer.digest)).status).toBe(404)
    expect((await here.pushBlob('team/app', layer)).status).toBe(201)
    expect((await there.getBlob('team/app', layer.digest)).digest).toBe(layer.digest)
  })
})

describe('a tag without trust', () => {
  it('is what somebody pushed straight to the primary, at the very next pull', async () => {
    const auth = {
      realm: REALM,
      service: 'container_registry',
      issuer: 'gitlab-issuer',
      key: await signingKey(),
    }
    await using primary = await startDockerRegistry({ auth })
    await using one = await startOneSite(primary.url)
    const here = await one.client({ 'team/app': ['pull'] })
    const there = await one.client({ 'team/app': ALL }, primary.url)

    for (const [image, source] of [
      [a, 'fill'],
      [b, 'fill'],
      [a, 'fill'],
    ] as const) {
      await pushImage(there, 'team/app', 'v1', image)
      const first = await here.getManifest('team/app', 'v1')
      expect([first.digest, sourceOf(first)]).toEqual([image.digest, source])
      const again = await here.getManifest('team/app', 'v1')
      expect([again.digest, sourceOf(again)]).toEqual([image.digest, 'local'])
    }
    expect((await there.deleteManifest('team/app', a.digest)).status).toBe(202)
    expect((await here.getManifest('team/app', 'v1')).status).toBe(404)
  })
})

describe('a tag in a race', () => {
  let primary: LyingPrimary
  let one: OneSite
  let here: RegistryApi

  beforeAll(async () => {
    primary = await startLyingPrimary()
    one = await startOneSite(primary.url, { tags: { trust: '1h' } })
    here = await one.client({ 'team/app': ALL })
  })
  afterAll(async () => {
    await one[Symbol.asyncDispose]()
    await primary[Symbol.asyncDispose]()
  })

  const put = (tag: string, image: Image) => here.putManifest('team/app', tag, image.bytes, image.mediaType)
  const asked = (method: string, tag: string) => primary.asked(method, `/v2/team/app/manifests/${tag}`).length

  it('is not confirmed by an answer that a push overtook', async () => {
    await primary.hold('team/app', a, 'overtaken')
    const gate = primary.gate('GET', '/v2/team/app/manifests/overtaken')
    const slow = here.getManifest('team/app', 'overtaken')
    await until(() => asked('GET', 'overtaken') === 1, { what: 'the check to be on its way' })
    expect((await put('overtaken', b)).status).toBe(201)
    gate.open()
    await slow

    expect((await here.getManifest('team/app', 'overtaken')).digest).toBe(b.digest)
  })

  it('is asked for after two pushes that overlapped, since only the primary knows which came last', async () => {
    await put('twice', a)
    expect(sourceOf(await here.getManifest('team/app', 'twice'))).toBe('local')
    const gate = primary.gate('PUT', '/v2/team/app/manifests/twice')
    const both = [put('twice', a), put('twice', b)]
    await until(() => asked('PUT', 'twice') === 3, { what: 'both pushes to be on their way' })
    gate.open()
    await Promise.all(both)
    const before = asked('GET', 'twice')

    const pulled = await here.getManifest('team/app', 'twice')
    expect(asked('GET', 'twice')).toBe(before + 1)
    const truth = await fetch(`${primary.url}/v2/team/app/manifests/twice`)
    expect(pulled.digest).toBe(truth.headers.get('docker-content-digest'))
  })

  it('that two overlapping pushes left in doubt is not served when the primary is away', async () => {
    const gate = primary.gate('PUT', '/v2/team/app/manifests/doubt')
    const both = [put('doubt', a), put('doubt', b)]
    await until(() => asked('PUT', 'doubt') === 2, { what: 'both pushes to be on their way' })
    gate.open()
    await Promise.all(both)
    await primary.stop()

    expect((await here.getManifest('team/app', 'doubt')).status).toBe(503)
    await primary.start()
  })
})
