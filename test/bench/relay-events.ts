/**
 * A relay under many events, read by three sites over lines of 20, 100 and 250 ms, the last of them dead for a minute.
 * What is told is true: each event is of a tag that has just been moved on the primary's disk.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { LogPage } from '../../replicator/relay/page.ts'
import { registryFolder, requireDigest } from '../e2e/registry-folder.ts'
import { type FollowingSite, pushNew, type RelayedSites, startRelayedSites } from '../e2e/relayed-site.ts'
import { until } from '../support/wait.ts'
import { percentile } from './measure.ts'
import { createNotifier, type Notifier } from './relay-notifier.ts'
import { absolute, information, milliseconds, perSecond, type Row } from './report.ts'

const RATE = 200
const BEFORE_MS = 10_000
const DEAD_MS = 60_000
const AFTER_MS = 10_000
const ROUND_TRIPS_MS: Readonly<Record<string, number>> = { near: 20, middle: 100, far: 250 }
const DEAD = 'far'
const READER = 'reader'
const LAG_BOUND_MS = 1000
const POLL_EVERY_MS = 50
const REPOSITORIES = Array.from({ length: 20 }, (_, index) => `bench/app-${index}`)

/** How far a site had read when the relay was asked for it. */
interface Progress {
  readonly atMs: number
  readonly through: number
}

export async function measureRelayEvents(): Promise<Row[]> {
  await using all = await startRelayedSites({
    repositories: REPOSITORIES,
    sites: Object.keys(ROUND_TRIPS_MS),
    readers: [READER],
    line: (name) => ({ latencyMs: (ROUND_TRIPS_MS[name] ?? 0) / 2 }),
    config: { replication: { requests: '10/s' } },
  })
  const digests = await fillPrimary(all)
  const notifier = await startNotifier(all, digests)
  // Every site has every repository: what follows changes tags only.
  await notifier.postEach()
  await all.covered()
  await settled(all)
  const before = await standing(all)

  const watching = watchProgress(all)
  const caughtUp = killForAMinute(all)
  const beganAtMs = performance.now()
  const posted = await notifier.post({ perSecond: RATE, forMs: BEFORE_MS + DEAD_MS + AFTER_MS })
  const rate = posted.size / ((performance.now() - beganAtMs) / 1000)
  const caughtUpMs = await caughtUp
  const last = await readThrough(all)
  const progress = await watching.stop(last)
  await settled(all)

  const numbers = await numbersOf(all, before.last)
  const stored = (await standing(all)).stored.map((count, index) => count - (before.stored[index] ?? 0))
  const lost = [...posted.keys()].filter((id) => !numbers.has(id)).length
  const seconds = (BEFORE_MS + DEAD_MS + AFTER_MS) / 1000
  const work = `relay, ${perSecond(RATE)} events for ${seconds} s, sites at 20, 100 and 250 ms, the third dead for a minute`
  // What the dead one reads again of its last minute counts twice where it had been applied by then.
  const isWhole = stored.every((count) => count >= posted.size) && last === before.last + posted.size
  return [
    absolute(
      `${work}: events lost`,
      `${lost} of ${posted.size}, sent at ${perSecond(rate)}; the sites stored ${stored.join(', ')}`,
      'nothing',
      lost === 0 && isWhole && rate > RATE * 0.98,
    ),
    ...all.sites
      .filter(({ name }) => name !== DEAD)
      .map(({ name }) =>
        lagRow('the same: event sent by the registry → stored at the site', name, {
          posted,
          numbers,
          progress,
        }),
      ),
    information('the same: the third process started → it has read what it missed', milliseconds(caughtUpMs)),
  ]
}

/** Two manifests in each repository, between which its tag moves. */
async function fillPrimary({ there, root }: RelayedSites): Promise<[string, string]> {
  const [first = ''] = REPOSITORIES
  const digests: [string, string] = [
    await pushNew(there, first, 'one', 1),
    await pushNew(there, first, 'two', 2),
  ]
  const folder = registryFolder(root)
  for (const name of REPOSITORIES.slice(1)) await folder.copyRepository(first, name)
  return digests
}

async function startNotifier(
  { eventsUrl, root, relayStatus }: RelayedSites,
  digests: readonly [string, string],
): Promise<Notifier> {
  const folder = registryFolder(root)
  const { instances } = await until(
    async () => {
      const status = await relayStatus()
      return status.epoch !== null && status
    },
    { what: 'an epoch', deadlineMs: 60_000 },
  )
  return createNotifier(eventsUrl, {
    instanceIds: instances.flatMap(({ instance_id: id }) => id ?? []),
    repositories: REPOSITORIES,
    tag: 'one',
    digests,
    move: (name, digest) => folder.writeTags(name, ['one'], requireDigest(digest)),
  })
}

/** Resolves when every site has read and applied everything, and has the primary's tags. */
async function settled({ sites, copied }: RelayedSites): Promise<void> {
  await copied()
  for (const { name, status } of sites) {
    await until(async () => (await status()).in_step, {
      what: `${name} to be in step`,
      deadlineMs: 120_000,
      everyMs: 200,
    })
  }
}

/** The log's last number, and how many events each site has ever stored. */
async function standing({ sites, relayStatus }: RelayedSites) {
  const reports = await Promise.all(sites.map(({ status }) => status()))
  return {
    last: (await relayStatus()).log.last,
    stored: reports.map(({ last_event_id: stored }) => stored ?? Number.NaN),
  }
}

/** Asked of the relay, which hears of what a site has stored half a round trip later. */
function watchProgress({ relayStatus }: RelayedSites) {
  const progress = new Map<string, Progress[]>()
  let isWatched = true
  async function watch(): Promise<void> {
    while (isWatched) {
      const atMs = performance.now()
      for (const { name, through } of (await relayStatus()).sites) {
        if (through === null) continue // It reads, and stores nothing.
        const sofar = progress.get(name) ?? []
        progress.set(name, sofar)
        sofar.push({ atMs: performance.now(), through })
      }
      await delay(Math.max(0, atMs + POLL_EVERY_MS - performance.now()))
    }
  }
  const watching = watch()
  watching.catch(() => undefined) // Thrown by `stop`; what ended the relay is told before.
  return {
    /** Once the relay, too, has heard that every site has stored `last`. */
    async stop(last: number) {
      const hasHeard = () => [...progress.values()].every((seen) => (seen.at(-1)?.through ?? 0) >= last)
      await until(hasHeard, { what: 'the relay to hear of the last event', deadlineMs: 30_000 })
      isWatched = false
      await watching
      return progress
    },
  }
}

/** How long the site took, from the start of its process, to have read all that the log had when it came there. */
async function killForAMinute({ sites, relayStatus }: RelayedSites): Promise<number> {
  const site = sites.find(({ name }) => name === DEAD)
  if (!site) throw new Error(`no site is called ${DEAD}`)
  await delay(BEFORE_MS)
  await site.process.kill()
  await delay(DEAD_MS)
  const startedAtMs = performance.now()
  await site.process.start()
  const isThere = async () => {
    const { behind } = (await relayStatus()).sites.find(({ name }) => name === DEAD) ?? {}
    return behind != null && behind < RATE / 2
  }
  await until(isThere, { what: `${DEAD} to have read the log`, deadlineMs: 120_000 })
  return performance.now() - startedAtMs
}

/** Resolves with the log's last number when every site has read up to it. */
async function readThrough({ sites, relayStatus }: RelayedSites): Promise<number> {
  const { last } = (await relayStatus()).log
  const hasRead = async ({ status }: FollowingSite) => {
    const { cursor = null, last_gap: gap } = (await status()).relay ?? {}
    if (gap != null) throw new Error(`something was missed: ${gap}`)
    return cursor === last
  }
  for (const site of sites) {
    await until(() => hasRead(site), { what: `${site.name} to read up to ${last}`, deadlineMs: 120_000 })
  }
  return last
}

/** The numbers of what came to the log after a number, by the ids of the events. */
async function numbersOf({ relay }: RelayedSites, after: number): Promise<ReadonlyMap<string, number>> {
  const read = async (query: string) => {
    const headers = { authorization: `Bearer token-of-${READER}` }
    return (await (await fetch(`${relay.url}/log?${query}`, { headers })).json()) as LogPage
  }
  const { log, last } = await read('')
  const numbers = new Map<string, number>()
  for (let at = after; at < last; ) {
    const { records, through } = await read(`after=${at}&log=${log}`)
    for (const { number, notice } of records) numbers.set(notice.id, number)
    if (through <= at) throw new Error(`the relay has nothing after ${at}`)
    at = through
  }
  return numbers
}

interface Measured {
  /** When each event was sent, by its id. */
  readonly posted: ReadonlyMap<string, number>
  readonly numbers: ReadonlyMap<string, number>
  readonly progress: ReadonlyMap<string, readonly Progress[]>
}

function lagRow(work: string, name: string, { posted, numbers, progress }: Measured): Row {
  const seen = progress.get(name) ?? []
  const byNumber = [...posted]
    .map(([id, sentAtMs]) => ({ number: numbers.get(id) ?? Number.POSITIVE_INFINITY, sentAtMs }))
    .toSorted((a, b) => a.number - b.number)
  let at = 0
  const lagsMs = byNumber.map(({ number, sentAtMs }) => {
    while (at < seen.length && (seen[at]?.through ?? 0) < number) at++
    return (seen[at]?.atMs ?? Number.POSITIVE_INFINITY) - sentAtMs
  })
  const p99 = percentile(lagsMs, 0.99)
  return absolute(
    `${work} at ${ROUND_TRIPS_MS[name]} ms`,
    `p99 ${milliseconds(p99)}, median ${milliseconds(percentile(lagsMs, 0.5))}, longest ${milliseconds(Math.max(...lagsMs))}`,
    'p99 < 1 s',
    p99 < LAG_BOUND_MS,
  )
}
