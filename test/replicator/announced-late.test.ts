/** Events that announce what the primary does not say: a job waits a moment for them, and keeps nobody else waiting. */

import pino from 'pino'
import { afterAll, expect, it } from 'vitest'
import { parseRepositoryName, type RepositoryName } from '../../src/oci/reference.ts'
import { createMemoryQueue } from '../../src/queue/memory-queue.ts'
import { PRIORITIES } from '../../src/queue/queue.ts'
import { nameOf } from '../store/store-fixture.ts'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { buildImage } from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import { createRegistryApi, type RegistryApi } from '../support/registry-api.ts'
import { until } from '../support/wait.ts'
import { type SyncFixture, syncFixture } from './sync-fixture.ts'

const primary: DockerRegistry = await startDockerRegistry()
const api: RegistryApi = createRegistryApi(primary.url)
afterAll(async () => {
  await api[Symbol.asyncDispose]()
  await primary[Symbol.asyncDispose]()
})

const older = await buildImage({ seed: 'older', layers: [1000] })
const newer = await buildImage({ seed: 'newer', layers: [1000] })
/** As in production. */
const EVENT_RETRY_MS = [100, 400, 1000, 5000, 15_000, 60_000]

/** The primary has the newer image; only the push of the older one has been heard of. */
async function overwritten(site: SyncFixture, repository: RepositoryName): Promise<void> {
  await pushImage(api, repository, 'latest', older)
  await pushImage(api, repository, 'latest', newer)
  await site.hear({ action: 'push', repository, tag: 'latest', digest: older.digest })
}

it('a job that waits for what an event announced hears the event that came after it', async () => {
  await using site = await syncFixture(primary.url, { eventRetryMs: EVENT_RETRY_MS })
  const name = nameOf('group/twice')
  await overwritten(site, name)

  const job = site.run(name)
  await until(async () => (await site.tags(name))['latest'] === newer.digest, { what: 'the tag to be here' })
  await site.hear({ action: 'push', repository: name, tag: 'latest', digest: newer.digest })

  const startedAtMs = performance.now()
  await job
  await site.run(name)
  expect(performance.now() - startedAtMs).toBeLessThan(5000)
  expect(await site.row(name)).toMatchObject({ state: 'synced' })
  expect(await site.tracking.pendingEvents(name)).toEqual([])
}, 100_000)

it('repositories whose events do not come true delay no other', async () => {
  await using site = await syncFixture(primary.url, { eventRetryMs: EVENT_RETRY_MS })
  await using queue = createMemoryQueue({ log: pino({ level: 'silent' }) })
  const wake = (key: string) => queue.wake({ key, priority: PRIORITIES.event })
  queue.work(async (key, signal) => await site.run(parseRepositoryName(key) ?? nameOf('none'), signal), {
    concurrency: 2,
  })
  for (const name of [nameOf('group/one'), nameOf('group/two')]) {
    await overwritten(site, name)
    await wake(name)
  }
  const other = nameOf('group/other')
  await pushImage(api, other, 'v1', newer)
  await site.hear({ action: 'push', repository: other, tag: 'v1', digest: newer.digest })
  await wake(other)

  await until(async () => (await site.tags(other))['v1'] === newer.digest, {
    what: 'the other repository to be here',
    deadlineMs: 8000,
  })
})
