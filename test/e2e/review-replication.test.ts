/** A replicated site in trouble: what it says, what it keeps to itself, and that it ends when it is told to. */
import { join } from 'node:path'
import pino from 'pino'
import { describe, expect, it } from 'vitest'
import { openTracking } from '../../src/tracking/open-tracking.ts'
import { nameOf } from '../store/store-fixture.ts'
import { buildImage } from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import { until } from '../support/wait.ts'
import { startReplicatedSite } from './replicated-site.ts'
import { isPublished } from './store-files.ts'

const NAME = 'team/app'

describe('a site whose own credential the primary refuses', () => {
  it('says what to correct, and keeps what is here', async () => {
    const config = { upstream: { auth: { issuer: 'nobody' } } }
    await using site = await startReplicatedSite({ repositories: [NAME], config })
    const image = await buildImage({ layers: [2000] })
    await pushImage(site.here, NAME, 'v1', image)

    const status = await until(
      async () => {
        const now = await site.status()
        return now.container_repositories_failed_count === 1 && now.reconcile?.error && now
      },
      { what: 'a job and a pass to have failed' },
    )

    expect(status).toMatchObject({ healthy: false, in_step: false, brake: { repositories: 0, tags: 0 } })
    expect(status.health).toContain('401')
    expect(status.health).toContain('correct upstream.auth')
    expect(await isPublished(site.one.site.root, image.digest)).toBe(true)
    expect((await site.here.getManifest(NAME, 'v1')).digest).toBe(image.digest)
  })
})

describe('a repository that has become one that is passed through', () => {
  it('has no list of tags in an outage, whatever is still here of it', async () => {
    await using site = await startReplicatedSite({ repositories: [NAME] })
    await pushImage(site.there, NAME, 'v1', await buildImage({ layers: [2000] }))
    const isApplied = async () => {
      const { tags, last_event_id: heard } = await site.inStep()
      return tags === 1 && heard !== null && heard > 0
    }
    await until(isApplied, { what: 'the push to be heard of and in step' })
    await site.primary.stop()
    await until(async () => (await site.here.tags(NAME)).status === 200, { what: 'the list to stand in' })

    const modes = '[{ pattern: "team/**", mode: passthrough }]'
    await site.one.site.restart({ env: { GEO_REGISTRY__REPLICATION__MODES: modes } })

    expect((await site.here.tags(NAME)).status).toBe(503)
  })
})

describe('SIGTERM', () => {
  it('ends a site whose Redis is away, at once and cleanly', async () => {
    const config = { redis: { url: 'redis://127.0.0.1:1' } }
    await using site = await startReplicatedSite({ repositories: [NAME], config })
    await until(async () => (await site.status()).queue === null, { what: 'the queue to be away' })
    const startedAtMs = performance.now()

    site.one.site.signal('SIGTERM')

    expect(await site.one.site.exited).toMatchObject({ code: 0 })
    expect(performance.now() - startedAtMs).toBeLessThan(4500)
  })

  it('ends a site in the middle of a copy, and leaves its repository due', async () => {
    await using site = await startReplicatedSite({ repositories: [NAME], notified: false })
    const image = await buildImage({ layers: [20_000_000] })
    await pushImage(site.there, NAME, 'v1', image)
    site.link.shape({ bytesPerSecond: 500_000 })
    await pushImage(site.here, NAME, 'small', await buildImage({ layers: [10] }))
    await until(async () => (await site.status()).queue?.running === 1, { what: 'a job to run' })

    site.one.site.signal('SIGTERM')

    expect(await site.one.site.exited).toMatchObject({ code: 0 })
    const file = join(site.one.site.root, 'geo-registry/tracking.db')
    await using tracking = await openTracking({ kind: 'sqlite', file }, { log: pino({ level: 'silent' }) })
    expect(await tracking.find(nameOf(NAME))).toMatchObject({ state: 'pending', retryCount: 0 })
    expect(await tracking.lease(nameOf(NAME), 1000)).toBeDefined()
  })
})
