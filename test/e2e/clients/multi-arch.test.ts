/** Indexes of both worlds, pushed and pulled through the site by the clients that handle them. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startContainerd } from '../../support/clients/containerd.ts'
import { startPodman } from '../../support/clients/podman.ts'
import { startSkopeo } from '../../support/clients/skopeo.ts'
import {
  allBlobs,
  allManifests,
  buildImage,
  buildIndex,
  buildMultiArch,
  type Format,
  type Image,
} from '../../support/images.ts'
import { pushImage } from '../../support/push-image.ts'
import { answersTo, DEVELOPER, startTwoSites, type TwoSites } from './two-sites.ts'

const owned = new AsyncDisposableStack()
let sites: TwoSites

beforeAll(async () => {
  sites = owned.use(await startTwoSites())
})
afterAll(() => owned.disposeAsync())

/** Everything of the image is in that repository at the primary. */
async function expectWholeAtPrimary(name: string, reference: string, image: Image): Promise<void> {
  const index = await sites.there.getManifest(name, reference)
  expect([index.digest, index.headers['content-type']]).toEqual([image.digest, image.mediaType])
  for (const { digest } of allManifests(image)) {
    expect((await sites.there.getManifest(name, digest)).digest).toBe(digest)
  }
  for (const { digest } of allBlobs(image)) {
    expect((await sites.there.getBlob(name, digest)).digest).toBe(digest)
  }
}

describe.each(['oci', 'docker'] as const)('an image for two architectures of %s types', (format: Format) => {
  const repository = `team/${format}`
  let image: Image
  beforeAll(async () => {
    image = await buildMultiArch({ format, seed: format })
    await sites.publish(repository, 'v1', image)
  })

  it('is copied whole by skopeo, out of the site and into it again', async () => {
    await using skopeo = await startSkopeo()
    await skopeo.login(sites.site.host, DEVELOPER.username, DEVELOPER.password)
    const source = `docker://${sites.site.host}/${repository}:v1`
    await skopeo.copy(source, `docker://${sites.site.host}/${repository}-copy:v1`)

    await expectWholeAtPrimary(`${repository}-copy`, 'v1', image)
    const here = await sites.here.getManifest(`${repository}-copy`, 'v1')
    expect([here.digest, here.headers['geo-registry-source']]).toEqual([image.digest, 'local'])
  })

  it('is pulled by ctr for one platform: nothing is fetched of the other', async () => {
    await using containerd = await startContainerd()
    const arm = image.children[1]
    if (!arm) throw new Error('the image has two children')
    const reference = `${sites.site.host}/${repository}-arm:v1`
    await sites.publish(`${repository}-arm`, 'v1', image)
    const user = ['--user', `${DEVELOPER.username}:${DEVELOPER.password}`, '--plain-http']
    const watched = await sites.watch(() =>
      containerd.exec(['content', 'fetch', '--platform', 'linux/arm64', ...user, reference]),
    )

    const fetched = answersTo(watched, 'GET', /\/blobs\//).map(({ uri }) => String(uri).split('/').at(-1))
    expect(new Set(fetched)).toEqual(new Set(arm.blobs.map(({ digest }) => digest)))
    expect(fetched).toHaveLength(arm.blobs.length)
  })

  it('is pulled by ctr for all platforms and pushed to another repository as it was', async () => {
    await using containerd = await startContainerd()
    const [from, to] = ['', '-ctr'].map((suffix) => `${sites.site.host}/${repository}${suffix}:v1`)
    if (from === undefined || to === undefined) throw new Error('two references')
    const user = ['--user', `${DEVELOPER.username}:${DEVELOPER.password}`, '--plain-http']
    await containerd.exec(['content', 'fetch', '--all-platforms', ...user, from])
    await containerd.exec(['images', 'tag', from, to])
    await containerd.exec(['images', 'push', ...user, to])

    await expectWholeAtPrimary(`${repository}-ctr`, 'v1', image)
  })

  it('is made into a list by podman and pushed through the site', async () => {
    await using podman = await startPodman()
    await podman.login(sites.site.host, DEVELOPER.username, DEVELOPER.password)
    await podman.exec(['manifest', 'create', 'list'])
    for (const { digest } of image.children) {
      const child = `docker://${sites.site.host}/${repository}@${digest}`
      await podman.exec(['manifest', 'add', '--tls-verify=false', 'list', child])
    }
    const target = `docker://${sites.site.host}/${repository}-podman:v1`
    const type = format === 'oci' ? 'oci' : 'v2s2'
    await podman.exec(['manifest', 'push', '--all', '--tls-verify=false', '--format', type, 'list', target])

    const there = await sites.there.getManifest(`${repository}-podman`, 'v1')
    const here = await sites.here.getManifest(`${repository}-podman`, 'v1')
    expect([here.digest, here.headers['content-type']]).toEqual([there.digest, image.mediaType])
    const list: { manifests: { digest: string }[] } = JSON.parse(there.body.toString('utf8'))
    expect(list.manifests.map(({ digest }) => digest)).toEqual(image.children.map(({ digest }) => digest))
  })
})

describe('pushed through the site and pulled by tag and digest, warm and cold, is', () => {
  it.each([
    ['an image without a mediaType', () => buildImage({ seed: 'bare', declareMediaType: false })],
    [
      'an index without a mediaType',
      async () => buildIndex([await buildImage({ seed: 'old' })], { declareMediaType: false }),
    ],
    ['an index of another index', async () => buildIndex([await buildMultiArch({ seed: 'inner' })])],
    [
      'an index of an OCI image and a Docker image',
      async () =>
        buildIndex([
          await buildImage({ seed: 'mixed oci' }),
          await buildImage({ seed: 'mixed docker', format: 'docker' }),
        ]),
    ],
    ['an index of nothing', async () => buildIndex([])],
  ])('%s', async (title, build) => {
    const image = await build()
    const repository = `team/${title.replaceAll(' ', '-').toLowerCase()}`
    await pushImage(sites.here, repository, 'v1', image)
    await sites.publish(`${repository}-cold`, 'v1', image)

    await expectWholeAtPrimary(repository, 'v1', image)
    for (const name of [repository, `${repository}-cold`]) {
      for (const { digest, mediaType, bytes } of allManifests(image)) {
        for (const reference of digest === image.digest ? ['v1', digest] : [digest]) {
          const pulled = await sites.reader.getManifest(name, reference)
          expect([pulled.digest, pulled.headers['content-type']]).toEqual([digest, mediaType])
          expect(pulled.body.equals(bytes)).toBe(true)
        }
      }
    }
  })
})
