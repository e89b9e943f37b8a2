/** Every real client logs in to the token-protected primary, pushes to it and pulls from it: the kit can be relied on. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type DockerRegistry, startDockerRegistry } from '../docker-registry.ts'
import { buildMultiArch, type Format } from '../images.ts'
import { signingKey } from '../keys.ts'
import { createLogin } from '../login.ts'
import { pushImage } from '../push-image.ts'
import { createRegistryApi, type RegistryApi } from '../registry-api.ts'
import { startTokenService, type TokenService } from '../token-service.ts'
import { startBuildah } from './buildah.ts'
import type { RegistryClient } from './client.ts'
import { startContainerd } from './containerd.ts'
import { startDocker } from './docker.ts'
import { startPodman } from './podman.ts'
import { startSkopeo } from './skopeo.ts'

const ALICE = { name: 'alice', password: 's3cret', repositories: { 'team/*': ['pull', 'push'] } }
const BOB = { name: 'bob', password: 'other', repositories: { 'team/*': ['pull'] } }

const owned = new AsyncDisposableStack()
let tokens: TokenService
let registry: DockerRegistry
let api: RegistryApi

beforeAll(async () => {
  tokens = owned.use(await startTokenService({ key: await signingKey(), users: [ALICE, BOB] }))
  registry = owned.use(await startDockerRegistry({ auth: tokens }))
  api = owned.use(
    createRegistryApi(registry.url, {
      authorize: createLogin(tokens, { username: ALICE.name, password: ALICE.password }),
    }),
  )
})
afterAll(() => owned.disposeAsync())

async function layersOf(name: string, tag: string): Promise<string[]> {
  const { body } = await api.getManifest(name, tag)
  const manifest: { layers: { digest: string }[] } = JSON.parse(body.toString('utf8'))
  return manifest.layers.map(({ digest }) => digest)
}

const CLIENTS: readonly [string, () => Promise<RegistryClient>][] = [
  ['skopeo', startSkopeo],
  ['podman', startPodman],
  ['buildah', startBuildah],
  ['containerd', startContainerd],
  ['docker', startDocker],
]

describe.each(CLIENTS)('%s', (name, start) => {
  let client: RegistryClient
  beforeAll(async () => {
    client = await start()
  })
  afterAll(() => client[Symbol.asyncDispose]())

  it('pushes what it made and pulls it back', async () => {
    const reference = `${registry.host}/team/${name}:made`
    await client.login(registry.host, ALICE.name, ALICE.password)

    await client.make(reference, `made by ${name}`)
    await client.push(reference)
    await client.pull(reference)

    const layers = await layersOf(`team/${name}`, 'made')
    expect(layers).not.toEqual([])
    const fetched = registry.logs().matchAll(/"GET \/v2\/team\/[^/]+\/blobs\/(sha256:[0-9a-f]+)/g)
    expect(Array.from(fetched, ([, digest]) => digest)).toEqual(expect.arrayContaining(layers))
  })

  it.each(['oci', 'docker'] as const)(
    'pulls and unpacks its platform of a multi-arch image (%s)',
    async (format: Format) => {
      const image = await buildMultiArch({ format, seed: `${name}-${format}` })
      await pushImage(api, `team/${name}`, format, image)

      await client.login(registry.host, BOB.name, BOB.password)
      await client.pull(`${registry.host}/team/${name}:${format}`)
      await client.pull(`${registry.host}/team/${name}@${image.digest}`)

      expect(tokens.requests.at(-1)).toMatchObject({ user: 'bob', status: 200 })
    },
  )

  it('is refused a push without the right to it', async () => {
    const reference = `${registry.host}/team/${name}-refused:v1`
    await client.login(registry.host, BOB.name, BOB.password)
    await client.make(reference, 'refused')

    await expect(client.push(reference)).rejects.toThrow(
      /denied|unauthorized|authentication required|insufficient/i,
    )
  })
})
