/** After events were missed, what the primary said before is asked for again: a tag may have moved and nobody told. */
import { afterAll, describe, expect, it } from 'vitest'
import { noteMissed } from '../../replicator/missed.ts'
import { PRIORITIES } from '../../src/queue/queue.ts'
import { startDockerRegistry } from '../support/docker-registry.ts'
import { buildImage } from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import { createRegistryApi } from '../support/registry-api.ts'
import { APP, syncFixture } from './sync-fixture.ts'

const HOUR_MS = 3_600_000
const primary = await startDockerRegistry()
const api = createRegistryApi(primary.url)
afterAll(async () => {
  await api[Symbol.asyncDispose]()
  await primary[Symbol.asyncDispose]()
})

describe('a job after events were missed', () => {
  it('asks for each tag once more, although the primary confirmed all of them lately, and then believes again', async () => {
    let nowMs = Date.now()
    await using site = await syncFixture(primary.url, { reconcileMs: 24 * HOUR_MS, now: () => nowMs })
    await pushImage(api, APP, 'stays', await buildImage({ seed: 'stays' }))
    await pushImage(api, APP, 'moves', await buildImage({ seed: 'before' }))
    await site.sync(APP)
    const after = await buildImage({ seed: 'after' })
    await pushImage(api, APP, 'moves', after)

    nowMs += 1000
    await noteMissed(site.tracking, nowMs)
    await site.tracking.touch([APP], { priority: PRIORITIES.reconcile })
    await site.run(APP)
    expect((await site.tags(APP))['moves']).toBe(after.digest)
    expect((await site.row(APP)).inventoryAtMs).toBeGreaterThanOrEqual(nowMs)

    nowMs += 1000
    const asked = (await site.asked()).manifest
    await site.sync(APP)
    expect((await site.asked()).manifest).toBe(asked)
  })
})
