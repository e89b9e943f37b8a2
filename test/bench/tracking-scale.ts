/** A million tracked repositories, one in a hundred failed: what a status and the next work cost in each database. */
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { Client } from 'pg'
import { createLogger } from '../../src/log.ts'
import { parseRepositoryName, type RepositoryName } from '../../src/oci/reference.ts'
import { openTracking, type TrackingOptions } from '../../src/tracking/open-tracking.ts'
import type { Lease, SyncOutcome, Tracking } from '../../src/tracking/tracking.ts'
import { startPostgres } from '../support/postgres.ts'
import { tempFolder } from '../support/temp.ts'
import { median } from './measure.ts'
import { absolute, information, milliseconds, perSecond, type Row } from './report.ts'

export const REPOSITORIES = 1_000_000
const ROUNDS = 15
const JOBS = 200
const EVENTS = 10_000
const HOUR_MS = 3_600_000

const log = createLogger({ level: 'error' })

export async function measureTrackingScale(): Promise<Row[]> {
  await using folder = await tempFolder('tracking-scale')
  const file = join(folder.path, 'tracking.db')
  const sqlite = await measureDatabase('SQLite', 300, { kind: 'sqlite', file }, async (statement) => {
    using database = new DatabaseSync(file)
    database.exec(statement)
  })
  await using server = await startPostgres({ durable: true })
  const url = await server.createDatabase()
  const postgres = await measureDatabase('Postgres', 100, { kind: 'postgres', url }, async (statement) => {
    const client = new Client({ connectionString: url })
    await client.connect()
    await client.query(statement)
    // What its autovacuum does within a minute of so many rows.
    await client.query('vacuum analyze')
    await client.end()
  })
  return [...sqlite, ...postgres]
}

async function measureDatabase(
  name: string,
  boundMs: number,
  options: TrackingOptions,
  run: (statement: string) => Promise<void>,
): Promise<Row[]> {
  await using tracking = await openTracking(options, { log })
  const nowMs = Date.now()
  await run(million(nowMs))
  const total = (await tracking.counts()).total
  if (total !== REPOSITORIES) throw new Error(`${name} counts ${total} repositories`)
  const rows: Row[] = []
  for (const [work, read] of Object.entries(reads(tracking, nowMs))) {
    const timesMs = await timed(ROUNDS, read)
    const shown = `median ${milliseconds(median(timesMs))}, longest ${milliseconds(Math.max(...timesMs))}`
    rows.push(
      absolute(
        `1 000 000 repositories in ${name}: ${work}`,
        shown,
        `< ${boundMs} ms`,
        median(timesMs) < boundMs,
      ),
    )
  }
  return [...rows, ...(await writes(name, tracking, nowMs))]
}

function reads(tracking: Tracking, nowMs: number): Record<string, () => Promise<unknown>> {
  return {
    'all counts of the status': () => tracking.counts(),
    'next 100 due': () => tracking.due(nowMs, 100),
    'next 100 to reconcile, none of them old': () => tracking.reconcilable(nowMs - 100 * HOUR_MS, 100),
    'next 100 to reconcile, all of them old': () => tracking.reconcilable(nowMs + HOUR_MS, 100),
    'a page of the failed ones': () => tracking.list({ state: 'failed' }),
    'a page of those that need a hand': () => tracking.list({ needsAttention: true }),
    'a page below a path': () => tracking.list({ path: 'group-777/*' }),
  }
}

async function writes(name: string, tracking: Tracking, nowMs: number): Promise<Row[]> {
  const paths = (await tracking.list({ state: 'synced', limit: JOBS })).map(({ path }) => path)
  const searchMs = await timed(ROUNDS, () => tracking.list({ path: 'no-such-word' }))
  const stormMs = await timed(1, () => tracking.accept(storm(paths, nowMs)))
  const jobs = await timed(JOBS, (round) => job(tracking, paths[round % paths.length], nowMs))
  return [
    information(`1 000 000 paths searched for a word none has, in ${name}`, milliseconds(median(searchMs))),
    information(`${EVENTS} events at once in ${name}`, milliseconds(median(stormMs))),
    information(`jobs begun and settled, one after another, in ${name}`, perSecond(1000 / median(jobs))),
  ]
}

function storm(paths: readonly RepositoryName[], receivedAtMs: number) {
  return Array.from({ length: EVENTS }, (_, index) => ({
    id: `event-${index}`,
    action: 'push' as const,
    repository: paths[index % paths.length] ?? nameOf(index),
    tag: undefined,
    digest: undefined,
    renamedTo: undefined,
    receivedAtMs,
  }))
}

async function job(tracking: Tracking, path: RepositoryName | undefined, nowMs: number): Promise<void> {
  const lease = path && (await tracking.lease(path, HOUR_MS))
  if (!lease) throw new Error(`${path} has no work`)
  await settleSynced(tracking, lease, nowMs)
}

async function settleSynced(tracking: Tracking, lease: Lease, inventoryAtMs: number): Promise<void> {
  const checksum = '0'.repeat(64)
  const outcome = {
    tagsCount: 1,
    inventoryAtMs,
    checksum,
    primaryChecksum: checksum,
    missingOnPrimary: false,
  }
  await tracking.settle(lease, { kind: 'synced', ...outcome } satisfies SyncOutcome)
}

export function nameOf(index: number): RepositoryName {
  const parsed = parseRepositoryName(`group-${index % 1000}/project-${index}`)
  if (!parsed) throw new Error(`${index} makes no name`)
  return parsed
}

async function timed(rounds: number, work: (round: number) => Promise<unknown>): Promise<number[]> {
  const timesMs: number[] = []
  for (let round = 0; round < rounds; round++) {
    const startedAt = performance.now()
    await work(round)
    timesMs.push(performance.now() - startedAt)
  }
  return timesMs
}

/** As the years leave a site: synced within the last day, 1 % failed to be retried within the hour, 1 ‰ given up. */
export function million(nowMs: number): string {
  return `
    with recursive numbers (n) as (select 0 union all select n + 1 from numbers where n < ${REPOSITORIES - 1})
    insert into tracked_repositories (path, state, retry_count, retry_at, last_sync_failure, last_synced_at,
      created_at, needs_attention, verification_state, verified_at, verification_checksum, tags_count,
      failing_tags_count, inventory_at, active_at, priority)
    select 'group-' || (n % 1000) || '/project-' || n,
      case when n % 100 = 0 then 'failed' else 'synced' end,
      case when n % 100 = 0 then 3 else 0 end,
      case when n % 100 = 0 then ${nowMs} + (n % 7200 - 3600) * 1000 end,
      case when n % 100 = 0 then 'the primary answered 500 where a manifest was expected' end,
      ${nowMs} - (n % 86400) * 1000,
      ${nowMs},
      case when n % 1000 = 0 then 1 else 0 end,
      case when n % 100 = 0 then 'pending' else 'succeeded' end,
      ${nowMs} - (n % 86400) * 1000,
      '2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae',
      n % 30,
      case when n % 100 = 0 then 2 else 0 end,
      ${nowMs} - (n % 86400) * 1000,
      case when n % 3 = 0 then ${nowMs} - (n % 604800) * 1000 end,
      3
    from numbers`
}
