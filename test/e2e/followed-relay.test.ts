/** A registry with a relay beside it and a site that follows it: pulls without a question, and nothing old. */
import { describe, expect, it } from 'vitest'
import type { StatusReport } from '../../src/status/status-report.ts'
import { startDockerRegistry } from '../support/docker-registry.ts'
import { type GeoRegistry, startGeoRegistry } from '../support/geo-registry.ts'
import { buildImage } from '../support/images.ts'
import { freePort } from '../support/port.ts'
import { pushImage } from '../support/push-image.ts'
import { createRegistryApi } from '../support/registry-api.ts'
import { notifiesRelay, type RelayProcess, startRelayProcess } from '../support/relay.ts'
import { until } from '../support/wait.ts'

interface FollowedRelay extends AsyncDisposable {
  readonly relay: RelayProcess
  readonly site: GeoRegistry
  /** The digest of the image that the tag is now. */
  push(tag: string, text: string): Promise<string>
  pull(tag: string): Promise<string | null>
  status(): Promise<StatusReport>
  /** Resolves when a watermark covers what is asked for. */
  covered(): Promise<unknown>
  /** How many manifests the primary was asked for while so many pulls were answered; jobs ask for some too. */
  questionsOf(pulls: number, digest: string): Promise<number>
}

async function startFollowedRelay(): Promise<FollowedRelay> {
  await using starting = new AsyncDisposableStack()
  const eventsPort = await freePort()
  const registry = starting.use(await startDockerRegistry({ notifications: notifiesRelay(eventsPort) }))
  const relay = starting.use(
    await startRelayProcess({ primary: registry.url, instances: [registry.url], eventsPort }),
  )
  const site = starting.use(
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
  const owned = starting.move()
  async function pull(tag: string): Promise<string | null> {
    const answer = await fetch(`${site.url}/v2/team/app/manifests/${tag}`, {
      headers: { accept: 'application/vnd.oci.image.manifest.v1+json' },
    })
    await answer.arrayBuffer()
    return answer.headers.get('docker-content-digest')
  }
  async function asked(): Promise<number> {
    const counts = (await site.metrics()).matchAll(
      /^geo_registry_upstream_requests_total\{operation="manifest",[^}]*\} (\d+)/gm,
    )
    return [...counts].reduce((sum, [, count]) => sum + Number(count), 0)
  }
  const status = async () => (await (await fetch(`${site.adminUrl}/status`)).json()) as StatusReport
  return {
    relay,
    site,
    async push(tag, text) {
      await using api = createRegistryApi(registry.url)
      const image = await buildImage({ seed: text })
      await pushImage(api, 'team/app', tag, image)
      return image.digest
    },
    pull,
    status,
    covered: () =>
      until(async () => ((await status()).relay?.watermark_age_seconds ?? Number.NaN) < 3, {
        what: 'a watermark at the site',
        deadlineMs: 30_000,
      }),
    async questionsOf(pulls, digest) {
      const before = await asked()
      for (let turn = 0; turn < pulls; turn++) expect(await pull('v1')).toBe(digest)
      return (await asked()) - before
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

describe.concurrent('a site that follows a relay', { timeout: 90_000 }, () => {
  it('asks the primary for a tag once, pulls it without a question from then on, and sees the next push', async () => {
    await using scene = await startFollowedRelay()
    const { site, push, pull, status, covered, questionsOf } = scene
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
    await using scene = await startFollowedRelay()
    const { relay, push, pull, status, covered } = scene
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
