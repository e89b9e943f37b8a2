/** What the relay's proof rests on fails: the epoch ends with a sentence, pulls go on and ask, and all heals by itself. */
import { describe, expect, it } from 'vitest'
import { until } from '../support/wait.ts'
import { pulledAsked, pulledUnasked } from './relayed-requests.ts'
import { becomes, commandSays, pushNew, type RelayedSites, startRelayedSites } from './relayed-site.ts'

const APP = 'team/app'

/** Pushed once: a tag that events contradict each other about is asked for until a minute after the last of them. */
const STEADY = 'steady'

interface ProvedSites extends AsyncDisposable {
  readonly all: RelayedSites
  /** Resolves in another epoch than the one at the start, when pulls ask nobody at either site. */
  provedAgain(): Promise<void>
}

/** Each test has its own, and they run side by side. Resolves in an epoch. */
async function startProved(): Promise<ProvedSites> {
  const all = await startRelayedSites({ repositories: [APP] })
  const steady = await pushNew(all.there, APP, STEADY, 1)
  await all.covered()
  const first = (await all.relayStatus()).epoch?.id
  return {
    all,
    async provedAgain() {
      const begun = async () => {
        const { epoch: now } = await all.relayStatus()
        return now !== null && now.id !== first
      }
      await until(begun, { what: 'a new epoch', deadlineMs: 60_000 })
      await all.covered()
      await pulledUnasked(all, [APP, STEADY], steady)
    },
    [Symbol.asyncDispose]: () => all[Symbol.asyncDispose](),
  }
}

async function seenEverywhere({ sites }: RelayedSites, tag: string, digest: string): Promise<void> {
  const pushedAtMs = performance.now()
  await Promise.all(sites.map((site) => becomes(site, [APP, tag], digest, pushedAtMs)))
}

describe.concurrent('a registry, a relay and two sites, when', { timeout: 180_000 }, () => {
  it('a process of the registry is killed: pulls and pushes go on, nothing is proved until it is back', async () => {
    await using proved = await startProved()
    const { all, provedAgain } = proved
    const [alive, killed] = all.registries
    const first = await pushNew(all.there, APP, 'killed', 1)
    await pulledUnasked(all, [APP, 'killed'], first)
    await killed.kill()

    const note = await all.bothSay(new RegExp(`instance ${killed.url} did not take a canary: .*; check that`))
    const relay = await commandSays(all.relay.configFile, 'status')
    expect(relay.status).toBe(1)
    expect(relay.text).toContain('Epoch: none\n')
    expect(relay.text).toContain(
      `Completeness is not proved, so sites ask the primary at each pull by tag. ${note}`,
    )
    for (const { process } of all.sites) {
      expect((await commandSays(process.configFile, 'status')).text).toContain(`Relay says: ${note}`)
    }
    for (const site of all.sites) {
      await pulledAsked([alive], site, [APP, 'killed'])
      expect(await site.pull(APP, 'killed')).toBe(first)
    }
    const second = await pushNew(all.there, APP, 'killed', 2)
    await seenEverywhere(all, 'killed', second)

    await killed.start()
    await provedAgain()
    await until(async () => (await all.relayStatus()).note === null, {
      what: 'nothing to be said',
      deadlineMs: 60_000,
    })
  })

  it('the relay is killed: no pull is older than tags.maxstaleness, and what it was not told meanwhile comes after it is back', async () => {
    await using proved = await startProved()
    const { all, provedAgain } = proved
    const { log } = await all.relayStatus()
    const first = await pushNew(all.there, APP, 'relay', 1)
    await pulledUnasked(all, [APP, 'relay'], first)
    await all.relay.kill()

    const second = await pushNew(all.there, APP, 'relay', 2)
    await seenEverywhere(all, 'relay', second)
    for (const { status, name, process } of all.sites) {
      await until(async () => (await status()).relay?.connected === false, { what: `${name} to notice` })
      expect((await commandSays(process.configFile, 'status')).text).toMatch(
        /^Relay: not followed, .*\nRelay error: the relay cannot be reached .*It is asked again by itself/m,
      )
    }
    const third = await pushNew(all.there, APP, 'after-the-relay', 3)
    await all.relay.start()

    await provedAgain()
    await all.copied()
    const after = await all.relayStatus()
    expect(after.log.id).toBe(log.id)
    expect(after.log.first).toBe(1)
    expect(after.log.last).toBeGreaterThanOrEqual(log.last + 3)
    for (const site of all.sites) {
      expect(await site.pull(APP, 'after-the-relay')).toBe(third)
      expect((await site.status()).relay).toMatchObject({ connected: true, last_gap: null, last_error: null })
    }
  })

  it('a process of the registry that nobody named takes a push: the epoch ends with its sentence, and the push is seen', async () => {
    await using proved = await startProved()
    const { all, provedAgain } = proved
    const first = await pushNew(all.there, APP, 'stranger', 1)
    await pulledUnasked(all, [APP, 'stranger'], first)
    const stranger = await all.startStranger()
    await using direct = await all.client(stranger.url)
    const told = all.bothSay(
      /event came from the registry process \S+, which no canary has come back from; .*name/,
    )

    const second = await pushNew(direct, APP, 'stranger', 2)
    await seenEverywhere(all, 'stranger', second)
    await told
    const { last_end: end, setback } = await all.relayStatus()
    expect([end?.reason, setback?.reason]).toContain('unknown-instance')
    await stranger.stop()
    await provedAgain()
  })
})
