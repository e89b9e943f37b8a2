/** `replication.modes` through a whole site: what is read through leaves nothing here, what is denied is not served. */
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { buildImage, type Image } from '../support/images.ts'
import { signingKey } from '../support/keys.ts'
import { pushImage } from '../support/push-image.ts'
import type { RegistryApi } from '../support/registry-api.ts'
import { type OneSite, REALM, sourceOf, startOneSite } from './one-site.ts'
import { filesBelow } from './store-files.ts'

const ALL = ['pull', 'push', 'delete']
const GRANTS = { 'secret/app': ALL, 'secret/new': ALL, 'denied/app': ALL, 'team/app': ALL }
let image: Image
let primary: DockerRegistry
let one: OneSite
let here: RegistryApi
let there: RegistryApi

beforeAll(async () => {
  image = await buildImage({ layers: [2000, 3000] })
  const auth = {
    realm: REALM,
    service: 'container_registry',
    issuer: 'gitlab-issuer',
    key: await signingKey(),
  }
  primary = await startDockerRegistry({ auth })
  one = await startOneSite(primary.url, {
    replication: {
      modes: [
        { pattern: 'secret/**', mode: 'passthrough' },
        { pattern: 'denied/*', mode: 'deny' },
      ],
    },
  })
  here = await one.client(GRANTS)
  there = await one.client(GRANTS, primary.url)
})
afterAll(async () => {
  await one[Symbol.asyncDispose]()
  await primary[Symbol.asyncDispose]()
})

/** Everything the site keeps of content, but for what every store has. */
async function kept(): Promise<string[]> {
  const docker = await filesBelow(join(one.site.root, 'docker'))
  const spools = await filesBelow(join(one.site.root, 'geo-registry/spools'))
  return [...docker, ...spools].filter((path) => !path.endsWith('filesystem-in-use'))
}

describe('a repository that is passed through', () => {
  it('is pulled and pushed as from the primary, and nothing of it is on the disk', async () => {
    await pushImage(there, 'secret/app', 'v1', image)

    const manifest = await here.getManifest('secret/app', 'v1')
    const layers = await Promise.all(image.blobs.map(({ digest }) => here.getBlob('secret/app', digest)))
    await pushImage(here, 'secret/new', 'v1', image)

    expect([manifest.status, manifest.digest, sourceOf(manifest)]).toEqual([200, image.digest, 'primary'])
    expect(layers.map(({ digest }) => digest)).toEqual(image.blobs.map(({ digest }) => digest))
    expect((await there.getManifest('secret/new', 'v1')).digest).toBe(image.digest)
    expect((await here.getManifest('secret/new', image.digest)).status).toBe(200)
    expect(await kept()).toEqual([])
  })

  it('is asked of the primary each time, so that a deleted tag is gone at once', async () => {
    await pushImage(there, 'secret/app', 'gone', image)
    expect((await here.getManifest('secret/app', 'gone')).status).toBe(200)

    await there.deleteManifest('secret/app', image.digest)

    expect((await here.getManifest('secret/app', 'gone')).status).toBe(404)
  })
})

describe('a repository that is denied', () => {
  it('is refused with words that say where it can be had, whatever is asked of it', async () => {
    await pushImage(there, 'denied/app', 'v1', image)

    const answers = [
      await here.getManifest('denied/app', 'v1'),
      await here.getBlob('denied/app', image.blobs[0]?.digest ?? ''),
      await here.tags('denied/app'),
      await here.startUpload('denied/app'),
      await here.putManifest('denied/app', 'v2', image.bytes, image.mediaType),
    ]

    expect(answers.map(({ status }) => status)).toEqual([403, 403, 403, 403, 403])
    const { body } = await here.getManifest('denied/app', 'v1')
    expect(JSON.parse(body.toString()).errors[0]).toMatchObject({
      code: 'DENIED',
      message: 'this repository is not served at this site: use the primary registry',
    })
  })
})

describe('any other repository', () => {
  it('is kept as before', async () => {
    await pushImage(here, 'team/app', 'v1', image)

    expect(sourceOf(await here.getBlob('team/app', image.blobs[0]?.digest ?? ''))).toBe('local')
  })
})
