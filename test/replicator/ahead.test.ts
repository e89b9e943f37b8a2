/** After the primary was restored from an old backup: what only this site still has is listed, and nothing else. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Ahead, ahead } from '../../replicator/ahead.ts'
import { createInventory } from '../../replicator/open-inventory.ts'
import { createLogger } from '../../src/log.ts'
import { nameOf, type StoreFixture, storeFixture, tagOf } from '../store/store-fixture.ts'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { startGitlabApi } from '../support/gitlab-api.ts'
import { buildArtifact, type Image } from '../support/images.ts'
import { html } from '../support/lies.ts'
import { startLyingPrimary } from '../support/lying-primary.ts'
import { pushImage } from '../support/push-image.ts'
import { createRegistryApi, type RegistryApi } from '../support/registry-api.ts'
import { clientOf } from '../upstream/primary.ts'

const log = createLogger({ level: 'silent' })

let stack: AsyncDisposableStack
let registry: DockerRegistry
let api: RegistryApi
let fixture: StoreFixture

beforeEach(async () => {
  stack = new AsyncDisposableStack()
  registry = stack.use(await startDockerRegistry())
  api = stack.use(createRegistryApi(registry.url))
  fixture = stack.use(await storeFixture())
})
afterEach(() => stack.disposeAsync())

function artifact(payload: string): Image {
  return buildArtifact({ payload })
}

/** Held here under a tag, or by digest alone. */
async function keep(name: string, image: Image, tag?: string): Promise<void> {
  const { blobs, index } = fixture.store
  await blobs.write(image.digest, image.bytes)
  await index.putLink(nameOf(name), 'manifest', image.digest, index.mark())
  if (tag !== undefined) await index.putTag(nameOf(name), tagOf(tag), image.digest, index.mark())
}

async function aheadOf(url: string): Promise<{ found: Ahead[]; unknown: string[] }> {
  const { upstream, dispatcher } = clientOf(url)
  stack.defer(() => dispatcher.close())
  const { holdings, index } = fixture.store
  const inventory = createInventory({ upstream, log })
  const found: Ahead[] = []
  const unknown: string[] = []
  const onUnknown = (repository: string) => void unknown.push(repository)
  for await (const one of ahead({ holdings, index, inventory, upstream }, { onUnknown })) found.push(one)
  return { found, unknown }
}

describe('what is ahead of the primary', () => {
  it.each(['oci', 'gitlab'] as const)('is listed whichever lists the primary has (%s)', async (kind) => {
    const url = kind === 'oci' ? registry.url : stack.use(await startGitlabApi(registry)).url
    const [same, onlyHere, old, moved, overwritten, untagged, shared] = [
      'same',
      'only here',
      'old',
      'moved',
      'overwritten',
      'untagged',
      'shared',
    ].map(artifact) as [Image, Image, Image, Image, Image, Image, Image]
    // As it is: the same tag, one that moved on at the primary, and a digest without a tag at either end.
    await pushImage(api, 'team/app', 'same', same)
    await pushImage(api, 'team/app', 'moved', old)
    await pushImage(api, 'team/app', 'moved', moved)
    await pushImage(api, 'team/app', undefined, shared)
    await keep('team/app', same, 'same')
    await keep('team/app', old, 'moved')
    await keep('team/app', shared)
    // As the backup left it: a tag that is gone, one that was overwritten since, a digest that was never in it.
    await pushImage(api, 'team/app', 'overwritten', artifact('of the backup'))
    await keep('team/app', onlyHere, 'only-here')
    await keep('team/app', overwritten, 'overwritten')
    await keep('team/app', untagged)

    const { found, unknown } = await aheadOf(url)

    expect(found).toHaveLength(3)
    expect(found).toEqual(
      expect.arrayContaining([
        { repository: 'team/app', tag: 'only-here', digest: onlyHere.digest },
        { repository: 'team/app', tag: 'overwritten', digest: overwritten.digest },
        { repository: 'team/app', tag: undefined, digest: untagged.digest },
      ]),
    )
    expect(unknown).toEqual([])
  })

  it('names every tag of a repository that the primary no longer knows', async () => {
    await keep('team/lost', artifact('a'), 'a')
    await keep('team/lost', artifact('b'), 'b')

    const { found } = await aheadOf(registry.url)

    expect(found.map(({ repository, tag }) => `${repository}:${tag}`)).toEqual(['team/lost:a', 'team/lost:b'])
  })

  it('removes nothing', async () => {
    await keep('team/lost', artifact('a'), 'a')
    await keep('team/lost', artifact('b'))

    await aheadOf(registry.url)

    const { holdings } = fixture.store
    expect(await holdings.tags(nameOf('team/lost'))).toEqual(['a'])
    expect(await holdings.links(nameOf('team/lost'), 'manifest')).toHaveLength(2)
  })

  it("takes an ingress's page for no answer: the repository is named, and nothing of it is called ahead", async () => {
    await using primary = await startLyingPrimary()
    const here = artifact('a')
    await primary.hold('team/good', here, 'v1')
    primary.lie('GET', '/v2/team/bad/tags/list', html(404))
    primary.lie('*', /^\/v2\/team\/worse\/manifests/, html(404))
    await keep('team/bad', here, 'v1')
    await keep('team/good', here, 'v1')
    await keep('team/good', artifact('b'), 'v2')
    await primary.hold('team/worse', here, 'v1')
    await keep('team/worse', artifact('c'), 'v1')

    const { found, unknown } = await aheadOf(primary.url)

    expect(unknown).toEqual(['team/bad', 'team/worse'])
    expect(found.map(({ repository, tag }) => `${repository}:${tag}`)).toEqual(['team/good:v2'])
  })

  it('says nothing about a primary that is away', async () => {
    await keep('team/app', artifact('a'), 'a')
    await registry.stop()

    await expect(aheadOf(registry.url)).rejects.toMatchObject({ kind: 'unavailable' })
  })
})
