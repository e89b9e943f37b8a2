/**
 * A site that was set up wrongly, or was away, as GitLab Geo's users report it: what it says of itself, and that it is
 * in step again once mended. GL# and GL! are gitlab-org/gitlab, CH# gitlab-org/charts/gitlab. Each test has a site of its
 * own, and they run side by side.
 */
import { readFile } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { createStorePaths } from '../../src/store/paths.ts'
import { registryFolder } from '../e2e/registry-folder.ts'
import { type ReplicatedSite, SECRET, startReplicatedSite } from '../e2e/replicated-site.ts'
import { expectSoundStore } from '../e2e/store-files.ts'
import { buildImage } from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import { until } from '../support/wait.ts'

const NAME = 'team/app'
const tagsHere = ({ one }: ReplicatedSite) => registryFolder(one.site.root).allTags()

describe.concurrent('a site whose issuer the primary does not trust', () => {
  it('says that it is not in step and why, and calls nothing synced, until it is mended (GL#431944, GL!148105)', async () => {
    await using site = await startReplicatedSite({
      repositories: [NAME],
      config: { upstream: { auth: { issuer: 'omnibus-gitlab-issuer' } } },
    })
    await pushImage(site.there, NAME, 'v1', await buildImage({ seed: 'untrusted' }))

    const status = await until(
      async () => {
        const now = await site.status()
        return now.container_repositories_failed_count === 1 && now.reconcile?.error !== null && now
      },
      { what: 'the site to say that it is not in step', deadlineMs: 20_000 },
    )

    expect(status).toMatchObject({
      healthy: false,
      in_step: false,
      container_repositories_synced_count: 0,
      container_repositories_synced_in_percentage: '0.00%',
    })
    expect(status.health).toMatch(/401|unauthorized/i)
    expect(await site.rows()).toMatchObject([{ path: NAME, state: 'failed' }])
    await site.reconfigure({ upstream: { auth: { issuer: 'gitlab-issuer' } } })
    expect((await site.command('resync', '--failed')).status).toBe(0) // Or by itself, at its next attempt.
    await site.converged()
  })
})

describe.concurrent('a registry that sends its notifications with the wrong secret', () => {
  it('is kept in step by comparison alone, and the status shows that no event ever came (GL!249943, CH#5948, CH#6164)', async () => {
    await using site = await startReplicatedSite({
      repositories: [NAME],
      notified: false,
      config: { replication: { reconcile: '1s' } },
    })
    const headers = { Authorization: [`not ${SECRET}`] }
    const endpoint = { name: 'geo_event', url: site.eventsUrl, timeout: '1s', threshold: 5, backoff: '1s' }
    await site.primary.restart({ notifications: { endpoints: [{ ...endpoint, headers }] } })
    await pushImage(site.there, NAME, 'v1', await buildImage({ seed: 'secretive' }))

    await site.converged()

    expect(await site.status()).toMatchObject({ last_event_id: 0, events_pending: 0, in_step: true })
    expect(site.one.site.lines.some(({ msg }) => /secret|authorization/i.test(String(msg)))).toBe(true)
    expect(await site.one.site.metrics()).toMatch(
      /geo_registry_notifications_total\{result="unauthorized"\} [1-9]/,
    )
  })
})

describe.concurrent('replication that was off', () => {
  it('is seen to be off before a failover, and what was pushed, moved and deleted meanwhile is found (GL!84901, GL!245877)', async () => {
    await using site = await startReplicatedSite({
      repositories: [NAME, 'team/gone', 'team/new'],
      notified: false,
      config: { replication: { reconcile: '1s' } },
    })
    const [old, now] = [await buildImage({ seed: 'off: old' }), await buildImage({ seed: 'off: now' })]
    await pushImage(site.there, NAME, 'moved', old)
    await pushImage(site.there, NAME, 'deleted', old)
    await pushImage(site.there, 'team/gone', 'v1', old)
    await site.converged()

    await site.reconfigure({ replication: { enabled: false } })
    const asked = await site.command('status')
    expect([asked.status, asked.output]).toEqual([1, expect.stringMatching(/replicat/i)])
    await pushImage(site.there, NAME, 'moved', now)
    await pushImage(site.there, 'team/new', 'v1', now)
    await registryFolder(site.primary.root).removeTags(NAME, ['deleted'])
    await registryFolder(site.primary.root).removeTags('team/gone', ['v1'])
    expect(Object.keys(await tagsHere(site)).length).toBe(3)
    await site.reconfigure({ replication: { enabled: true } })

    await site.converged()

    expect(await tagsHere(site)).toEqual({ [`${NAME}:moved`]: now.digest, 'team/new:v1': now.digest })
  })
})

describe.concurrent('a site that is killed in the middle of a copy', () => {
  it('has no tag without its image, and nothing half in place of a blob, and goes on (zot#4357)', async () => {
    await using site = await startReplicatedSite({ repositories: [NAME] })
    const image = await buildImage({ seed: 'killed', layers: [6_000_000], gzip: false })
    site.link.shape({ connectionBytesPerSecond: 3_000_000 })
    await pushImage(site.there, NAME, 'v1', image)
    await until(() => site.link.counts().down > 2_000_000, { what: 'the copy to be under way' })

    await site.one.site.kill()

    expect(await tagsHere(site)).toEqual({})
    const layer = createStorePaths(site.one.site.root).blob(image.blobs[1]?.digest ?? image.digest)
    await expect(readFile(layer)).rejects.toMatchObject({ code: 'ENOENT' })
    site.link.shape({})
    await site.one.site.start()
    // A client that asks meanwhile is served, whoever still holds the lease.
    expect((await site.here.getManifest(NAME, 'v1')).digest).toBe(image.digest)
    expect((await site.here.getBlob(NAME, image.blobs[1]?.digest ?? '')).status).toBe(200)
    await expectSoundStore(site.one.site.root)
  })
})

describe.concurrent('a limit of the bandwidth', () => {
  it('holds for what comes over the link, not only for what clients are sent (harbor#21226)', async () => {
    await using site = await startReplicatedSite({
      repositories: [NAME],
      config: { replication: { bandwidth: '2MB/s' } },
    })
    const image = await buildImage({
      seed: 'limited',
      layers: [3_000_000, 3_000_000, 3_000_000],
      gzip: false,
    })
    await pushImage(site.there, NAME, 'v1', image)
    const from = site.link.counts().down
    await until(() => site.link.counts().down > from + 100_000, { what: 'the copy to begin', everyMs: 5 })
    const startedAt = performance.now()

    await until(async () => (await tagsHere(site))[`${NAME}:v1`] === image.digest, {
      what: 'the image to be here',
      deadlineMs: 30_000,
    })

    // 9 MB, of which one second's worth comes at once.
    const seconds = (performance.now() - startedAt) / 1000
    expect(seconds).toBeGreaterThan(3)
    expect(site.link.counts().down - from).toBeGreaterThan(9_000_000)
  })
})
