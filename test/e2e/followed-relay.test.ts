/** A registry with a relay beside it and a site that follows it: pulls without a question, and nothing old. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { StatusReport } from '../../src/status/status-report.ts'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { type GeoRegistry, startGeoRegistry } from '../support/geo-registry.ts'
import { buildImage } from '../support/images.ts'
import { freePort } from '../support/port.ts'
import { pushImage } from '../support/push-image.ts'
import { createRegistryApi } from '../support/registry-api.ts'
import { notifiesRelay, type RelayProcess, startRelayProcess } from '../support/relay.ts'
import { until } from '../support/wait.ts'

let owned: AsyncDisposableStack
let registry: DockerRegistry
let relay: RelayProcess
let site: GeoRegistry
beforeEach(async () => {
  owned = new AsyncDisposableStack()
  const eventsPort = await freePort()
  registry = owned.use(await startDockerRegistry({ notifications: notifiesRelay(eventsPort) }))
  relay = owned.use(await startRelayProcess({ primary: registry.url, instances: [registry.url], eventsPort }))
  site = owned.use(
    await startGeoRegistry({
      primary: registry.url,
      config: {
        site: { name: 'tokyo' },
        relay: { url: relay.url, tokenfile: relay.tokenFile('tokyo') },
        tags: { freshness: 'watermark' },
        replication: { enabled: true },
      },
    }),
  )
})
afterEach(() => owned.disposeAsync())

/** The digest of the image that the tag is now. */
async function push(tag: string, text: string): Promise<string> {
  await using api = createRegistryApi(registry.url)
  const image = await buildImage({ seed: text })
  await pushImage(api, 'team/app', tag, image)
  return image.digest
}
async function pull(tag: string): Promise<string | null> {
  const answer = await fetch(`${site.url}/v2/team/app/manifests/${tag}`, {
    headers: { accept: 'application/vnd.oci.image.manifest.v1+json' },
  })
  await answer.arrayBuffer()
  return answer.headers.get('docker-content-digest')
}
const status = async () => (await (await fetch(`${site.adminUrl}/status`)).json()) as StatusReport
const covered = () =>
  until(async () => ((await status()).relay?.watermark_age_seconds ?? Number.NaN) < 3, {
    what: 'a watermark at the site',
    deadlineMs: 30_000,
  })
async function asked(): Promise<number> {
  const counts = (await site.metrics()).matchAll(
    /^geo_registry_upstream_requests_total\{operation="manifest",[^}]*\} (\d+)/gm,
  )
  return [...counts].reduce((sum, [, count]) => sum + Number(count), 0)
}
/** How many manifests the primary was asked for while so many pulls were answered; jobs ask for some too. */
async function questionsOf(pulls: number, digest: string): Promise<number> {
  const before = await asked()
  for (let turn = 0; turn < pulls; turn++) expect(await pull('v1')).toBe(digest)
  return (await asked()) - before
}

describe('a site that follows a relay', { timeout: 90_000 }, () => {
  it('asks the primary for a tag once, pulls it without a question from then on, and sees the next push', async () => {
    await covered()
    const first = await push('v1', 'first')
    await until(async () => (await status()).in_step, { what: 'the push to be copied', deadlineMs: 30_000 })
    expect(await pull('v1')).toBe(first)
    await until(async () => (await questionsOf(50, first)) === 0, { what: 'jobs to end' })

    const second = await push('v1', 'second')
    await until(async () => (await pull('v1')) === second, { what: 'the second push', everyMs: 50 })
    expect(second).not.toBe(first)
    expect(await site.metrics()).toMatch(/^geo_registry_watermark_age_seconds [0-2]\./m)
  })

  it('says that the relay is away, asks the primary for every pull, and goes on by itself', async () => {
    await covered()
    const digest = await push('v1', 'first')
    await relay.stop()
    await until(async () => (await status()).relay?.connected === false, { what: 'the outage to be noticed' })
    expect((await status()).relay?.last_error).toMatch(/the relay cannot be reached/)
    expect(await pull('v1')).toBe(digest)
    const second = await push('v2', 'second')
    await relay.start()
    await until(async () => (await status()).relay?.connected, { what: 'the relay to be heard again' })
    await covered()
    expect(await pull('v2')).toBe(second)
    // The event of the push, which the registry sends again, may come between.
    await until(async () => (await status()).relay?.behind === 0, {
      what: 'all that the relay has to be here',
    })
    expect((await status()).relay).toMatchObject({ connected: true, last_gap: null, last_error: null })
  })
})
