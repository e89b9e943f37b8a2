/** Law 11: what is replicated is a registry's root directory. A stock registry takes over from the site as it lies. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import {
  allBlobs,
  allManifests,
  buildArtifact,
  buildImage,
  buildIndex,
  buildMultiArch,
  cosignTag,
  type Image,
} from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import { createRegistryApi, type RegistryApi } from '../support/registry-api.ts'
import { registryFolder } from './registry-folder.ts'
import { type ReplicatedSite, startReplicatedSite } from './replicated-site.ts'

const REPOSITORIES = ['team/app', 'team/app/nested', 'team/multi', 'other/artifacts', 'cache']
let site: ReplicatedSite
let registry: DockerRegistry
let api: RegistryApi
let pushed: readonly { readonly name: string; readonly tag: string | undefined; readonly image: Image }[]

beforeAll(async () => {
  site = await startReplicatedSite({ repositories: REPOSITORIES })
  pushed = await everyKindOfContent()
  for (const { name, tag, image } of pushed) await pushImage(site.there, name, tag, image)
  await site.converged()
  await site.one.site.stop()
  await site.primary.stop()
  registry = await startDockerRegistry({ root: site.one.site.root })
  api = createRegistryApi(registry.url)
})
afterAll(async () => {
  await api[Symbol.asyncDispose]()
  await registry[Symbol.asyncDispose]()
  await site[Symbol.asyncDispose]()
})

describe('a stock registry on the replicated folder', () => {
  it('lists the same repositories and tags as the primary had', async () => {
    const primary = registryFolder(site.primary.root)
    const listed = await api.request('GET', '/v2/_catalog?n=1000')

    expect(JSON.parse(listed.body.toString())).toEqual({ repositories: [...REPOSITORIES].sort() })
    for (const name of REPOSITORIES) {
      const { tags } = JSON.parse((await api.tags(name)).body.toString()) as { tags: string[] }
      expect(new Set(tags)).toEqual(new Set((await primary.tags(name)).keys()))
    }
  })

  it('serves every tag of the primary with all that is under it', async () => {
    let blobs = 0
    for (const { name, tag, image } of pushed) {
      const answer = await api.getManifest(name, tag ?? image.digest)
      expect([answer.status, answer.digest], `${name}:${tag}`).toEqual([200, image.digest])
      expect(answer.headers['content-type']).toBe(image.mediaType)
      for (const manifest of allManifests(image)) {
        expect((await api.getManifest(name, manifest.digest)).digest).toBe(manifest.digest)
      }
      for (const { digest } of allBlobs(image)) {
        expect(await api.getBlob(name, digest), `${name}:${tag} ${digest}`).toMatchObject({
          status: 200,
          digest,
        })
        blobs++
      }
    }
    expect(blobs).toBeGreaterThan(20)
  })
})

/** In the order of their pushes: a tag that is pushed twice ends as the second. */
async function everyKindOfContent() {
  const app = await buildImage({ seed: 'app' })
  const old = await buildImage({ seed: 'old', format: 'docker' })
  const multi = await buildMultiArch({ seed: 'multi', architectures: ['amd64', 'arm64', 's390x'] })
  const signature = buildArtifact({ payload: 'a signature', artifactType: 'application/vnd.dev.cosign' })
  return [
    { name: 'team/app', tag: 'v1', image: app },
    { name: 'team/app', tag: 'latest', image: app },
    // The same blobs in another repository, which is below the first one.
    { name: 'team/app/nested', tag: 'v1', image: app },
    { name: 'team/app', tag: 'docker', image: old },
    { name: 'team/multi', tag: 'v1', image: multi },
    { name: 'team/multi', tag: 'list', image: await buildMultiArch({ seed: 'list', format: 'docker' }) },
    { name: 'team/multi', tag: 'nested', image: buildIndex([multi, app]) },
    { name: 'other/artifacts', tag: 'v1', image: app },
    { name: 'other/artifacts', tag: cosignTag(app), image: signature },
    { name: 'other/artifacts', tag: cosignTag(app, '.sbom'), image: buildArtifact({ payload: 'an sbom' }) },
    {
      name: 'other/artifacts',
      tag: undefined,
      image: buildArtifact({ payload: 'a referrer', subject: app }),
    },
    { name: 'cache', tag: 'undeclared', image: await buildImage({ seed: 'oras', declareMediaType: false }) },
    { name: 'cache', tag: 'empty', image: buildIndex([]) },
  ]
}
