/** Which repositories are to be worked on next: by indexes alone, however many there are. */
import type { RepositoryName } from '../oci/reference.ts'
import type { Queries } from './database.ts'

/** `started` rows are due when their lease has ended: whoever held it is gone. */
export async function selectDue(
  queries: Queries,
  nowMs: number,
  limit: number,
): Promise<{ path: RepositoryName; priority: number }[]> {
  const rows = await queries
    .selectFrom('tracked_repositories')
    .select(['path', 'priority'])
    .where('due_at', '<=', nowMs)
    .orderBy('priority')
    .orderBy('last_synced_at', (order) => order.asc().nullsFirst())
    .orderBy('due_at')
    .limit(limit)
    .execute()
  return rows.map(({ path, priority }) => ({ path, priority }))
}

export async function dueAmong(
  queries: Queries,
  paths: readonly RepositoryName[],
  nowMs: number,
): Promise<RepositoryName[]> {
  const rows = await queries
    .selectFrom('tracked_repositories')
    .select('path')
    .where('path', 'in', paths)
    .where('due_at', '<=', nowMs)
    .execute()
  return rows.map((row) => row.path)
}

/** At most `limit`; whether there are few or many decides how they are best put in order. */
export async function countOverdue(
  queries: Queries,
  inventoryBeforeMs: number,
  limit: number,
): Promise<number> {
  const { count } = await queries
    .selectFrom(
      queries
        .selectFrom('tracked_repositories')
        .select('path')
        .where('state', '=', 'synced')
        .where('inventory_at', '<', inventoryBeforeMs)
        .limit(limit)
        .as('overdue'),
    )
    .select((rows) => rows.fn.countAll<number>().as('count'))
    .executeTakeFirstOrThrow()
  return count
}

/** Sorts the `among` that are overdue for longest: for when there are no more. */
export async function selectOverdue(
  queries: Queries,
  inventoryBeforeMs: number,
  among: number,
  limit: number,
): Promise<RepositoryName[]> {
  const rows = await queries
    .selectFrom(
      queries
        .selectFrom('tracked_repositories')
        .select(['path', 'active_at', 'inventory_at'])
        .where('state', '=', 'synced')
        .where('inventory_at', '<', inventoryBeforeMs)
        .orderBy('inventory_at')
        .limit(among)
        .as('overdue'),
    )
    .select('path')
    .orderBy('active_at', (order) => order.desc().nullsLast())
    .orderBy('inventory_at')
    .limit(limit)
    .execute()
  return rows.map((row) => row.path)
}

/** Walks the rows by activity until enough are overdue: for when many are. */
export async function selectOverdueByActivity(
  queries: Queries,
  inventoryBeforeMs: number,
  limit: number,
): Promise<RepositoryName[]> {
  const rows = await queries
    .selectFrom('tracked_repositories')
    .select('path')
    .where('state', '=', 'synced')
    .where('inventory_at', '<', inventoryBeforeMs)
    .orderBy('active_at', (order) => order.desc().nullsLast())
    .orderBy('inventory_at')
    .limit(limit)
    .execute()
  return rows.map((row) => row.path)
}
