/** Law 11 through whole programs: docker-registry and geo-registry on one folder, one before the other. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import {
  allBlobs,
  allManifests,
  buildArtifact,
  buildImage,
  buildMultiArch,
  type Image,
} from '../support/images.ts'
import { signingKey } from '../support/keys.ts'
import { type Link, startLink } from '../support/link.ts'
import { pushImage } from '../support/push-image.ts'
import { createRegistryApi, type RegistryApi } from '../support/registry-api.ts'
import { tempFolder } from '../support/temp.ts'
import { until } from '../support/wait.ts'
import { REALM, sourceOf, startOneSite } from './one-site.ts'
import { cell } from './table-row.ts'

const NAME = 'team/app'
const ALL = ['pull', 'push', 'delete']
let primary: DockerRegistry
let link: Link

beforeAll(async () => {
  const key = await signingKey()
  const auth = { realm: REALM, service: 'container_registry', issuer: 'gitlab-issuer', key }
  primary = await startDockerRegistry({ auth })
  link = await startLink({ target: primary.url })
})
beforeEach(() => link.accept())
afterAll(async () => {
  await link[Symbol.asyncDispose]()
  await primary[Symbol.asyncDispose]()
})

/** The cells of the tag, of every manifest by digest and of every blob. */
async function pullAll(api: RegistryApi, name: string, tag: string, image: Image): Promise<string[]> {
  const cells = [cell(await api.getManifest(name, tag), image.digest)]
  for (const { digest } of allManifests(image)) cells.push(cell(await api.getManifest(name, digest), digest))
  for (const { digest } of allBlobs(image)) {
    cells.push(cell(await api.request('GET', `/v2/${name}/blobs/${digest}`), digest))
  }
  return cells
}

describe('a folder that docker-registry filled', () => {
  it('is worth nothing until the primary has confirmed it, and is then served without fetching a blob', async () => {
    await using folder = await tempFolder('adopted')
    const image = await buildMultiArch({ seed: 'adopted', layers: [300_000] })
    await using former = await startDockerRegistry({ root: folder.path })
    await using formerApi = createRegistryApi(former.url)
    await pushImage(formerApi, NAME, 'v1', image)
    await former.stop()
    await using one = await startOneSite(link.url, {}, folder.path)
    await pushImage(await one.client({ [NAME]: ALL }, primary.url), NAME, 'v1', image)
    const reader = await one.client({ [NAME]: ['pull'] })

    link.refuse()
    link.cut()
    const unconfirmed = await pullAll(reader, NAME, 'v1', image)
    expect(new Set(unconfirmed)).toEqual(new Set(['503 UNAVAILABLE, Retry-After 10']))

    await link.accept()
    const before = link.counts().down
    const confirmed = await pullAll(reader, NAME, 'v1', image)
    expect(new Set(confirmed)).toEqual(new Set(['200 local']))
    // Heads alone: two architectures' layers are 600 kB that no compression makes smaller.
    expect(link.counts().down - before).toBeLessThan(32 * 1024)

    link.refuse()
    link.cut()
    const [tag, ...digests] = await pullAll(reader, NAME, 'v1', image)
    expect([tag, new Set(digests)]).toEqual(['200 stale, Warning', new Set(['200 local'])])
  })

  it('shows none of its tags and images against the primary’s word', async () => {
    await using folder = await tempFolder('adopted')
    const [old, current] = [await buildImage({ seed: 'old' }), await buildImage({ seed: 'current' })]
    await using former = await startDockerRegistry({ root: folder.path })
    await using formerApi = createRegistryApi(former.url)
    for (const tag of ['moved', 'gone']) await pushImage(formerApi, 'team/old', tag, old)
    await former.stop()
    await using one = await startOneSite(link.url, {}, folder.path)
    await pushImage(await one.client({ 'team/old': ALL }, primary.url), 'team/old', 'moved', current)
    const reader = await one.client({ 'team/old': ['pull'] })

    expect(cell(await reader.getManifest('team/old', 'moved'), current.digest)).toBe('200 fill')
    expect(cell(await reader.getManifest('team/old', 'gone'))).toBe('404 MANIFEST_UNKNOWN')
    expect(cell(await reader.getManifest('team/old', old.digest))).toBe('404 MANIFEST_UNKNOWN')
    const layer = old.blobs.at(-1)?.digest ?? ''
    expect(cell(await reader.request('GET', `/v2/team/old/blobs/${layer}`))).toBe('404 BLOB_UNKNOWN')
  })
})

describe('docker-registry on the folder of a site', () => {
  it('serves and lists everything the site stored from pulls and from pushes', async () => {
    const pulled = await buildMultiArch({ seed: 'pulled', format: 'docker' })
    const pushed = await buildImage({ seed: 'pushed' })
    const signature = buildArtifact({ subject: pushed })
    await using one = await startOneSite(link.url)
    const writer = await one.client({ 'team/pulled': ALL, 'team/pushed': ALL })
    const there = await one.client({ 'team/pulled': ALL, 'team/pushed': ALL }, primary.url)
    await pushImage(there, 'team/pulled', 'v1', pulled)
    const reader = await one.client({ 'team/pulled': ['pull'] })
    await pullAll(reader, 'team/pulled', 'v1', pulled)
    for (const { digest } of allBlobs(pulled)) {
      const isHeld = async () => sourceOf(await reader.getBlob('team/pulled', digest)) === 'local'
      await until(isHeld, { what: `${digest} to be held` })
    }
    await pushImage(writer, 'team/pushed', 'v1', pushed)
    await pushImage(writer, 'team/pushed', 'v1.sig', signature)
    await one.site.stop()

    await using registry = await startDockerRegistry({ root: one.site.root })
    await using api = createRegistryApi(registry.url)
    const served = [
      ...(await pullAll(api, 'team/pulled', 'v1', pulled)),
      ...(await pullAll(api, 'team/pushed', 'v1', pushed)),
      ...(await pullAll(api, 'team/pushed', 'v1.sig', signature)),
    ]

    expect(new Set(served)).toEqual(new Set(['200 elsewhere']))
    expect(JSON.parse((await api.tags('team/pushed')).body.toString())).toEqual({
      name: 'team/pushed',
      tags: ['v1', 'v1.sig'],
    })
    expect(JSON.parse((await api.request('GET', '/v2/_catalog')).body.toString())).toEqual({
      repositories: ['team/pulled', 'team/pushed'],
    })
  })
})
