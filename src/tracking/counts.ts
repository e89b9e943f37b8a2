/** The figures of a status, read without reading the rows: totals kept by triggers (schema-1.ts), and the ends of indexes. */
import { sql } from 'kysely'
import { counter } from './counters.ts'
import type { Queries } from './database.ts'
import { SYNC_STATES, type SyncState, VERIFICATION_STATES } from './replication-state.ts'
import type { Counts } from './tracking.ts'

/** In one snapshot (`Database.snapshot`), or the figures do not belong together. */
export async function countEverything(queries: Queries): Promise<Counts> {
  const totals = await selectTotals(queries)
  const events = await summarizeEvents(queries)
  const applied = (await counter(queries, 'applied_event')) ?? 0
  const appliedAtMs = await counter(queries, 'applied_event_at')
  const sumOf = (column: SummedColumn, where: (row: TotalsRow) => boolean = () => true) =>
    totals.filter(where).reduce((sum, row) => sum + row[column], 0)
  return {
    total: sumOf('repositories'),
    byState: keyed(SYNC_STATES, (state) => sumOf('repositories', (row) => row.state === state)),
    byVerificationState: keyed(VERIFICATION_STATES, (state) =>
      sumOf('repositories', (row) => row.verification_state === state),
    ),
    needsAttention: sumOf('repositories', (row) => row.needs_attention === 1),
    checksumMismatch: sumOf('repositories', (row) => row.checksum_mismatch === 1),
    failingTags: sumOf('failing_tags'),
    tags: sumOf('tags'),
    blobsOutstanding: sumOf('blobs_outstanding'),
    bytesOutstanding: sumOf('bytes_outstanding'),
    eventsPending: events.pending,
    oldestEventAtMs: events.oldest ?? undefined,
    // Stored events go when they are applied: the last one stored is still there, or it was the last one applied.
    lastEventSequence: Math.max(events.last ?? 0, applied),
    lastAppliedSequence: applied,
    lastEventAtMs: latest(events.latest ?? undefined, appliedAtMs),
    lastAppliedEventAtMs: appliedAtMs,
    oldestInventoryAtMs: await oldestInventory(queries),
  }
}

type TotalsRow = Awaited<ReturnType<typeof selectTotals>>[number]
type SummedColumn = 'repositories' | 'tags' | 'failing_tags' | 'blobs_outstanding' | 'bytes_outstanding'

function selectTotals(queries: Queries) {
  const groups = ['state', 'verification_state', 'needs_attention', 'checksum_mismatch'] as const
  return queries
    .selectFrom('repository_totals')
    .select(groups)
    .select(({ fn }) => [
      fn.sum<number>('repositories').as('repositories'),
      fn.sum<number>('tags').as('tags'),
      fn.sum<number>('failing_tags').as('failing_tags'),
      fn.sum<number>('blobs_outstanding').as('blobs_outstanding'),
      // As a fraction may be: SQLite's driver refuses whole numbers that JavaScript cannot hold exactly.
      sql<number>`cast(sum(bytes_outstanding) as double precision)`.as('bytes_outstanding'),
    ])
    .groupBy(groups)
    .execute()
}

async function summarizeEvents(queries: Queries) {
  return await queries
    .selectFrom('events')
    .select(({ fn }) => [
      fn.countAll<number>().as('pending'),
      fn.min('received_at').as('oldest'),
      fn.max('received_at').as('latest'),
      fn.max('sequence').as('last'),
    ])
    .executeTakeFirstOrThrow()
}

function latest(one: number | undefined, other: number | undefined): number | undefined {
  return one === undefined || other === undefined ? (one ?? other) : Math.max(one, other)
}

/** Undefined when one has none yet, or when there is no repository at all. */
async function oldestInventory(queries: Queries): Promise<number | undefined> {
  let oldest: number | undefined
  for (const state of SYNC_STATES) {
    const row = await oldestInventoryOf(queries, state)
    if (row?.inventory_at === null) return undefined
    if (row) oldest = Math.min(row.inventory_at, oldest ?? row.inventory_at)
  }
  return oldest
}

function oldestInventoryOf(queries: Queries, state: SyncState) {
  return queries
    .selectFrom('tracked_repositories')
    .select('inventory_at')
    .where('state', '=', state)
    .orderBy('inventory_at', (order) => order.asc().nullsFirst())
    .limit(1)
    .executeTakeFirst()
}

function keyed<Key extends string>(keys: readonly Key[], value: (key: Key) => number): Record<Key, number> {
  return Object.fromEntries(keys.map((key) => [key, value(key)])) as Record<Key, number>
}

/**
 * Connections to Postgres come and go: what their shards of the totals hold is added to one, but for those that a
 * transaction holds just now. One caller at a time.
 */
export async function foldTotals(queries: Queries): Promise<void> {
  await sql`
    with idle as (
      select ctid from repository_totals where shard <> 0 for update skip locked
    ), gone as (
      delete from repository_totals where ctid in (select ctid from idle) returning *
    )
    insert into repository_totals (shard, state, verification_state, needs_attention, checksum_mismatch,
      repositories, tags, failing_tags, blobs_outstanding, bytes_outstanding)
    select 0, state, verification_state, needs_attention, checksum_mismatch,
      sum(repositories), sum(tags), sum(failing_tags), sum(blobs_outstanding), sum(bytes_outstanding)
    from gone group by state, verification_state, needs_attention, checksum_mismatch
    on conflict (shard, state, verification_state, needs_attention, checksum_mismatch) do update set
      repositories = repository_totals.repositories + excluded.repositories,
      tags = repository_totals.tags + excluded.tags,
      failing_tags = repository_totals.failing_tags + excluded.failing_tags,
      blobs_outstanding = repository_totals.blobs_outstanding + excluded.blobs_outstanding,
      bytes_outstanding = repository_totals.bytes_outstanding + excluded.bytes_outstanding
  `.execute(queries)
}
