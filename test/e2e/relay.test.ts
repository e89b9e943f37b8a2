/** A registry of two processes, a relay, two sites: what is pushed anywhere is seen everywhere, and pulls ask nobody. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { until } from '../support/wait.ts'
import { isCanary, isPing, pulledAsked, pulledUnasked, requestsDuring } from './relayed-requests.ts'
import {
  becomes,
  commandSays,
  type FollowingSite,
  pushNew,
  type RelayedSites,
  startRelayedSites,
} from './relayed-site.ts'

const APP = 'team/app'
const LIB = 'team/lib'
/** A delete by digest may concern any tag of its repository: for a minute all of them are asked for. */
const GONE = 'team/gone'
const PULLS = 50

let all: RelayedSites
let tokyo: FollowingSite
let lima: FollowingSite
beforeAll(async () => {
  all = await startRelayedSites({ repositories: [APP, LIB, GONE] })
  const [first, second] = all.sites
  if (!first || !second) throw new Error('expected two sites')
  tokyo = first
  lima = second
})
afterAll(() => all[Symbol.asyncDispose]())

const deleted = (answer: { readonly status: number }) => expect(answer.status).toBe(202)

describe('two processes of a registry, a relay and two sites', { timeout: 120_000 }, () => {
  it('brings every push to both sites by itself, whichever process took it', async () => {
    const before = (await all.relayStatus()).log.last
    let pushes = 0
    const { lines } = await requestsDuring(all.registries, async () => {
      for (; pushes < 8; pushes++) await pushNew(all.there, pushes % 3 ? APP : LIB, `v${pushes}`, pushes)
    })

    const took = lines.map(
      (own) => own.filter((line) => /"PUT \/v2\/team\/\w+\/manifests\/v/.test(line)).length,
    )
    expect(took.reduce((sum, count) => sum + count)).toBe(pushes)
    expect(Math.min(...took)).toBeGreaterThan(0)
    await all.copied()
    expect((await all.relayStatus()).log.last).toBeGreaterThanOrEqual(before + pushes)
  })

  it('answers warm pulls by tag without a request to the primary, but for a canary a second and process', async () => {
    const digest = await pushNew(all.there, APP, 'warm', 1)
    await all.covered()
    await pulledUnasked(all, [APP, 'warm'], digest)
    const { lines, elapsedMs } = await requestsDuring(all.registries, async () => {
      for (let pull = 0; pull < PULLS; pull++) {
        for (const site of all.sites) expect(await site.pull(APP, 'warm')).toBe(digest)
      }
    })

    for (const own of lines) {
      expect(own.filter((line) => !isCanary(line) && !isPing(line))).toEqual([])
      expect(own.filter(isCanary).length).toBeLessThanOrEqual(elapsedMs / 1000 + 1)
    }
  })

  it('gives the new digest at each site within tags.maxstaleness of a push to the primary, and never the old again', async () => {
    await pushNew(all.there, APP, 'moving', 0)
    await all.covered()
    for (let turn = 1; turn <= 8; turn++) {
      const digest = await pushNew(all.there, APP, 'moving', turn)
      const pushedAtMs = performance.now()
      await Promise.all(all.sites.map((site) => becomes(site, [APP, 'moving'], digest, pushedAtMs)))
      for (const site of all.sites) expect(await site.pull(APP, 'moving')).toBe(digest)
    }
  })

  it('shows what is pushed through one site there at once, and at the other within tags.maxstaleness', async () => {
    await all.covered()
    for (let turn = 0; turn < 4; turn++) {
      const [at, other] = turn % 2 ? [lima, tokyo] : [tokyo, lima]
      const digest = await pushNew(at.api, APP, 'shared', turn)
      const pushedAtMs = performance.now()
      expect(await at.pull(APP, 'shared')).toBe(digest)
      await becomes(other, [APP, 'shared'], digest, pushedAtMs)
    }
  })

  it('no longer gives a tag that was deleted at the primary or through a site', async () => {
    const old = [
      await pushNew(all.there, GONE, 'old', 1),
      await pushNew(all.there, GONE, 'older', 2),
    ] as const
    await all.covered()
    for (const site of all.sites) {
      await becomes(site, [GONE, 'old'], old[0], performance.now())
      await becomes(site, [GONE, 'older'], old[1], performance.now())
    }

    deleted(await all.there.deleteManifest(GONE, old[0]))
    const deletedThereAtMs = performance.now()
    await Promise.all(all.sites.map((site) => becomes(site, [GONE, 'old'], undefined, deletedThereAtMs)))
    deleted(await tokyo.api.deleteManifest(GONE, old[1]))
    const deletedHereAtMs = performance.now()
    expect(await tokyo.pull(GONE, 'older')).toBeUndefined()
    await becomes(lima, [GONE, 'older'], undefined, deletedHereAtMs)
    await all.copied()
  })

  it('asks again when its line to the relay is dead, so that no pull is older than tags.maxstaleness', async () => {
    const first = await pushNew(all.there, APP, 'alone', 1)
    await all.covered()
    await pulledUnasked(all, [APP, 'alone'], first)
    tokyo.line?.blackhole()
    try {
      const second = await pushNew(all.there, APP, 'alone', 2)
      const pushedAtMs = performance.now()
      await becomes(lima, [APP, 'alone'], second, pushedAtMs)
      await becomes(tokyo, [APP, 'alone'], second, pushedAtMs)
      await pulledAsked(all.registries, tokyo, [APP, 'alone'])
    } finally {
      tokyo.line?.resume()
    }
    await until(async () => (await tokyo.status()).relay?.cursor === (await all.relayStatus()).log.last, {
      what: 'what was missed to be read',
      deadlineMs: 60_000,
    })
    expect((await tokyo.status()).relay?.last_gap).toBeNull()
  })

  it('says at the relay and at each site how they stand', async () => {
    await all.covered()
    await until(async () => (await all.relayStatus()).healthy, {
      what: 'a healthy relay',
      deadlineMs: 60_000,
    })
    const relay = await commandSays(all.relay.configFile, 'status')
    expect(relay.text).toMatch(/^Epoch: for /m)
    for (const { url } of all.registries)
      expect(relay.text).toMatch(new RegExp(`${url}: canary .* ago, process `))
    for (const { name, process } of all.sites) {
      expect(relay.text).toMatch(new RegExp(`${name}: connected, read up to \\d+`))
      const { text } = await commandSays(process.configFile, 'status')
      expect(text).toMatch(/^Relay: followed, 0 events behind, watermark \d+ m?s old/m)
    }
  })
})
