/** A site and a relay as they are, over real connections: lost lines, restarts, kill -9, and the age of the watermark. */
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createFollower, type Follower } from '../../replicator/follower.ts'
import { createInbox } from '../../replicator/inbox.ts'
import { createRelayClient } from '../../replicator/relay-client.ts'
import { createMemoryFreshness } from '../../src/freshness/memory-freshness.ts'
import { createLogger } from '../../src/log.ts'
import { createMetrics } from '../../src/metrics.ts'
import { createMemoryQueue } from '../../src/queue/memory-queue.ts'
import { openStore } from '../../src/store/store.ts'
import { openTracking } from '../../src/tracking/open-tracking.ts'
import type { Tracking } from '../../src/tracking/tracking.ts'
import { type Link, type LinkOptions, startLink } from '../support/link.ts'
import { startProgram } from '../support/process.ts'
import { type TempFolder, tempFolder } from '../support/temp.ts'
import { until } from '../support/wait.ts'
import { notice, repository, tagNamed } from './inbox-world.ts'
import { type ListeningRelay, startListeningRelay, TOKENS } from './relay/listening-relay.ts'

let owned: AsyncDisposableStack
let relay: ListeningRelay
let folder: TempFolder
let lines: string[]
beforeEach(async () => {
  owned = new AsyncDisposableStack()
  relay = owned.use(await startListeningRelay())
  folder = owned.use(await tempFolder('follower'))
  lines = []
})
afterEach(() => owned.disposeAsync())

const APPS = 5
let pushed = 0
const push = () => notice('push', `team/app${pushed++ % APPS}`, { tag: `v${pushed}` })
/** Everything that was acknowledged until now is in the log. */
function prove(epoch = 'epoch-1'): void {
  const round = (relay.watermark?.round ?? 0) + 1
  relay.watermark = { epoch, round, through: relay.log.last, sentAtMs: performance.now() }
  relay.changed()
}
const linkTo = async (options: Partial<LinkOptions> = {}): Promise<Link> =>
  owned.use(await startLink({ target: `http://127.0.0.1:${relay.listener.address.port}`, ...options }))

interface Site {
  readonly follower: Follower
  readonly tracking: Tracking
  readonly freshness: ReturnType<typeof createMemoryFreshness>
  compared: number
}

async function site(url: string): Promise<Site> {
  const log = createLogger({ destination: { write: (line) => void lines.push(line) } })
  const metrics = createMetrics()
  const { index, holdings } = owned.adopt(
    await openStore(join(folder.path, 'root'), {}, { log, metrics }),
    (store) => store.close(),
  )
  const tracking = owned.use(
    await openTracking({ kind: 'sqlite', file: join(folder.path, 'tracking.sqlite') }, { log }),
  )
  const queue = owned.use(createMemoryQueue({ log }))
  const freshness = createMemoryFreshness({ maxStalenessMs: 10_000 })
  const inbox = owned.use(
    createInbox({ tracking, queue, freshness, index, holdings, modeOf: () => 'replicate', log, metrics }),
  )
  const client = owned.use(createRelayClient({ url, token: () => TOKENS.berlin }))
  const made: Omit<Site, 'follower'> = { tracking, freshness, compared: 0 }
  const reconciler = { compareEverything: async () => void made.compared++ }
  const follower = createFollower({ client, inbox, tracking, freshness, reconciler, log })
  follower.start()
  owned.defer(() => follower.close())
  return Object.assign(made, { follower })
}

async function idsIn(tracking: Tracking): Promise<Set<string>> {
  const ids = new Set<string>()
  for (let app = 0; app < APPS; app++) {
    for (const { id } of await tracking.pendingEvents(repository(`team/app${app}`))) ids.add(id)
  }
  return ids
}

/** Appends and returns the ids, as the relay acknowledges them. */
async function append(count: number): Promise<string[]> {
  const notices = Array.from({ length: count }, push)
  await relay.log.append(notices)
  return notices.map(({ id }) => id)
}
async function arrived({ follower, tracking }: Site, ids: readonly string[]): Promise<void> {
  const { last } = relay.log
  await until(() => follower.status().cursor === last, { what: 'the log to be read' })
  const here = await idsIn(tracking)
  expect(ids.filter((id) => !here.has(id))).toEqual([])
}

describe('a site on a real relay', () => {
  it('has every event within moments, and knows all writes until a moment ago', async () => {
    const here = await site((await linkTo({ latencyMs: 20 })).url)
    await until(() => here.follower.status().cursor === 0, { what: 'the site to begin' })
    prove()
    await until(() => here.freshness.watermark(), { what: 'a watermark' })

    const begun = performance.now()
    const ids = await append(3)
    prove()
    await arrived(here, ids)
    expect(performance.now() - begun).toBeLessThan(5_000)
    const { ageMs = Number.NaN } = (await here.freshness.watermark()) ?? {}
    expect(ageMs).toBeGreaterThan(40) // Two ways of the line.
    expect(ageMs).toBeLessThan(5_000)
    expect(here.compared).toBe(1)
  })

  it('never takes the watermark for younger than it is, however slow the line is', async () => {
    const link = await linkTo({ latencyMs: 150 })
    const here = await site(link.url)
    const ages: number[] = []
    for (let round = 0; round < 8; round++) {
      prove()
      const { sentAtMs = 0 } = relay.watermark ?? {}
      await append(1)
      await until(
        async () => {
          const mark = await here.freshness.watermark()
          const trueAgeMs = performance.now() - sentAtMs
          if (!mark || mark.ageMs > trueAgeMs + 400) return false
          ages.push(trueAgeMs - mark.ageMs)
          return true
        },
        { what: 'the watermark of this round', everyMs: 5 },
      )
    }
    // What is known here lies before the moment of the proof, by the time that the question took.
    expect(Math.max(...ages)).toBeLessThanOrEqual(1)
  })

  it('goes on where it was when the line was cut or refused', async () => {
    const link = await linkTo()
    const here = await site(link.url)
    await until(() => here.follower.status().cursor === 0, { what: 'the site to begin' })
    prove()
    await until(() => here.freshness.watermark(), { what: 'a watermark' })
    const first = await here.freshness.watermark()
    const ids: string[] = []
    for (let round = 0; round < 5; round++) {
      ids.push(...(await append(20)))
      link.cut()
      ids.push(...(await append(20)))
    }
    link.refuse()
    link.cut()
    await until(() => here.follower.status().connected === false, { what: 'the outage to be noticed' })
    expect(here.follower.status().lastError).toMatch(/the relay cannot be reached/)
    ids.push(...(await append(20)))
    await link.accept()
    prove()
    await arrived(here, ids)
    await until(() => here.follower.status().connected, { what: 'the relay to be back' })
    // Nothing was missed: what was confirmed stays covered.
    expect(await here.freshness.watermark()).toMatchObject({ epoch: first?.epoch })
    expect(here.compared).toBe(1)
  })

  it('reads a backlog of 10 000 events, in pages', { timeout: 60_000 }, async () => {
    const here = await site((await linkTo()).url)
    await until(() => here.follower.status().cursor === 0, { what: 'the site to begin' })
    const ids: string[] = []
    for (let batch = 0; batch < 10; batch++) ids.push(...(await append(1_000)))
    prove()
    await until(() => here.follower.status().cursor === 10_000, { what: 'the backlog', deadlineMs: 40_000 })
    await arrived(here, ids)
    await until(() => here.freshness.watermark(), { what: 'a watermark' })
    expect(await here.freshness.confirmed(repository('team/app1'), tagNamed('v2'))).toBeUndefined()
  })

  it('is told so when its token is not known, and goes on when it is', async () => {
    relay.tokens['berlin'] = 'another'
    const here = await site((await linkTo()).url)
    await until(() => here.follower.status().lastError, { what: 'the refusal' })
    expect(here.follower.status()).toMatchObject({ connected: false, cursor: undefined })
    expect(here.follower.status().lastError).toMatch(/does not know this site's token/)
    relay.tokens['berlin'] = TOKENS.berlin
    await until(() => here.follower.status().connected, { what: 'the token to be known' })
  })

  it('ends at once while its question is held, and when its relay is gone', async () => {
    const link = await linkTo()
    const here = await site(link.url)
    await until(() => relay.listener.sites()[0]?.asking === 1, { what: 'a question to be held' })
    const begun = performance.now()
    await here.follower.close()
    expect(performance.now() - begun).toBeLessThan(5_000)
    await until(() => relay.listener.sites()[0]?.asking === 0, { what: 'the question to be freed' })
  })
})

describe('a site that is killed', () => {
  it('has every event at last, whenever that was', { timeout: 60_000 }, async () => {
    const link = await linkTo()
    const args = [join(import.meta.dirname, 'following-process.ts'), folder.path, link.url]
    const ids: string[] = []
    let begun = false
    for (let round = 0; round < 4; round++) {
      const program = await startProgram(process.execPath, args)
      if (!begun)
        await until(() => program.logs().includes('is followed from here on'), { what: 'its begin' })
      begun = true
      const readBefore = relay.listener.sites()[0]?.through ?? 0
      const appending = (async () => {
        for (let batch = 0; batch < 40; batch++) ids.push(...(await append(5)))
      })()
      const killAt = readBefore + 20 + round * 23
      await until(() => (relay.listener.sites()[0]?.through ?? 0) >= killAt, {
        what: 'events to be read',
        everyMs: 2,
      })
      await program.kill()
      await appending
    }
    const here = await site(link.url)
    await arrived(here, ids)
    expect(here.compared).toBe(0)
  })
})
