/** A site that was away reads on where it stood; one whose relay forgot what it missed compares everything. */
import { rm } from 'node:fs/promises'
import { describe, expect, it } from 'vitest'
import { until } from '../support/wait.ts'
import { becomes, type FollowingSite, pushNew, type RelayedSites, startRelayedSites } from './relayed-site.ts'

const APP = 'team/app'
const LIB = 'team/lib'

interface AwaySite extends AsyncDisposable {
  readonly all: RelayedSites
  readonly tokyo: FollowingSite
}

/** Each test has its own, and they run side by side. */
async function startAwaySite(): Promise<AwaySite> {
  await using starting = new AsyncDisposableStack()
  const all = starting.use(await startRelayedSites({ repositories: [APP, LIB] }))
  const [tokyo] = all.sites
  if (!tokyo) throw new Error('expected a site')
  const owned = starting.move()
  return { all, tokyo, [Symbol.asyncDispose]: () => owned.disposeAsync() }
}

/** While the site is away a tag comes, one moves and one goes; then the work is done, and the site is back. */
async function missing({ all, tokyo }: AwaySite, seed: string, work: () => Promise<void>): Promise<void> {
  await pushNew(all.there, APP, `${seed}-moves`, `${seed} 1`)
  const going = await pushNew(all.there, LIB, `${seed}-goes`, seed)
  await all.covered()
  await all.copied()
  await tokyo.process.stop()
  const { last } = (await all.relayStatus()).log
  await pushNew(all.there, APP, `${seed}-comes`, seed)
  await pushNew(all.there, APP, `${seed}-moves`, `${seed} 2`)
  expect((await all.there.deleteManifest(LIB, going)).status).toBe(202)
  await until(async () => (await all.relayStatus()).log.last >= last + 3, { what: 'the events at the relay' })
  await work()
  await tokyo.process.start()
}

describe.concurrent('a site that was away', { timeout: 180_000 }, () => {
  it('catches up with what it missed from the log, and is in step', async () => {
    await using away = await startAwaySite()
    const { all, tokyo } = away
    await missing(away, 'log', async () => {
      const { log, sites } = await all.relayStatus()
      const reader = sites.find(({ name }) => name === 'tokyo')
      expect(reader?.through).toBeLessThan(log.last)
    })

    await all.copied()
    await until(async () => (await tokyo.status()).in_step, {
      what: 'the site to be in step',
      deadlineMs: 60_000,
    })
    await all.covered()
    const { log } = await all.relayStatus()
    expect((await tokyo.status()).relay).toMatchObject({ cursor: log.last, behind: 0, last_gap: null })
  })

  it('compares everything when the relay has lost its folder, and says why', async () => {
    await using away = await startAwaySite()
    const { all } = away
    const before = (await all.relayStatus()).log.id
    await missing(away, 'lost', async () => {
      await all.relay.stop()
      await rm(all.relay.folder, { recursive: true })
      await all.relay.start()
    })

    await all.copied()
    await all.covered()
    const { log } = await all.relayStatus()
    expect(log.id).not.toBe(before)
    for (const { status } of all.sites) {
      expect((await status()).relay).toMatchObject({
        last_gap: expect.stringMatching(/has begun a new log.*lost/),
      })
    }
    const digest = await pushNew(all.there, APP, 'afterwards', 1)
    const pushedAtMs = performance.now()
    await Promise.all(all.sites.map((site) => becomes(site, [APP, 'afterwards'], digest, pushedAtMs)))
  })
})
