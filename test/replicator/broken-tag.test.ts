/** Law 9: one tag that is broken at the primary never stops the others, however long it has been broken. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { hexOf } from '../../src/oci/digest.ts'
import { startDockerRegistry } from '../support/docker-registry.ts'
import { buildImage, buildMultiArch } from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import { createRegistryApi } from '../support/registry-api.ts'
import { APP, syncFixture } from './sync-fixture.ts'

const primary = await startDockerRegistry()
const api = createRegistryApi(primary.url)
afterAll(async () => {
  await api[Symbol.asyncDispose]()
  await primary[Symbol.asyncDispose]()
})

it('a repository that was given up for one broken tag still gets what is pushed to its others', async () => {
  await using site = await syncFixture(primary.url)
  const broken = await buildMultiArch({ seed: 'broken' })
  await pushImage(api, APP, 'broken', broken)
  const child = broken.children[0]?.digest ?? expect.unreachable()
  const folder = 'docker/registry/v2/repositories'
  await rm(join(primary.root, folder, APP, '_manifests/revisions/sha256', hexOf(child)), { recursive: true })
  for (let attempt = 0; attempt < 10; attempt++) await site.sync()
  expect(await site.row()).toMatchObject({ state: 'failed', needsAttention: true, failingTagsCount: 1 })
  expect(await site.tracking.due(Date.now() + 86_400_000, 10)).toEqual([])

  const image = await buildImage({ seed: 'pushed later' })
  await pushImage(api, APP, 'later', image)
  await site.hear({ action: 'push', tag: 'later', digest: image.digest })
  await site.run()

  expect(await site.tags()).toMatchObject({ later: image.digest })
  expect(await site.row()).toMatchObject({ state: 'failed', needsAttention: true, failingTagsCount: 1 })
  expect(await site.tracking.pendingEvents(APP)).toEqual([])
})
