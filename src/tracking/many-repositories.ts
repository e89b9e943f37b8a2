/** What a hand does to all rows that match: a part at a time. */
import type { RepositoryName } from '../oci/reference.ts'
import type { Queries } from './database.ts'
import { matching } from './path-filter.ts'
import type { ListOptions } from './tracking.ts'
import { dirtied, nextChange, stateAfter } from './transitions.ts'

export async function countMatching(queries: Queries, filter: ListOptions): Promise<number> {
  const { count } = await queries
    .selectFrom('tracked_repositories')
    .select((rows) => rows.fn.countAll<number>().as('count'))
    .where(matching(filter))
    .executeTakeFirstOrThrow()
  return count
}

/** Of the rows after a path, at most `limit` in the order of their paths: a million at once would stop the process. */
export interface Turn {
  readonly after: RepositoryName | undefined
  readonly limit: number
}

/** The paths that were changed. */
export async function resyncSome(
  queries: Queries,
  filter: ListOptions,
  turn: Turn,
): Promise<RepositoryName[]> {
  const rows = await queries
    .updateTable('tracked_repositories')
    .set({
      state: stateAfter('resync'),
      needs_attention: 0,
      retry_count: 0,
      retry_at: null,
      // Else the job would take what was confirmed a while ago for compared.
      verification_state: 'pending',
      change: nextChange(),
    })
    .where('id', 'in', someIds(queries, filter, turn))
    .returning('path')
    .execute()
  return rows.map((row) => row.path)
}

/** The paths that were changed. */
export async function reverifySome(
  queries: Queries,
  filter: ListOptions,
  turn: Turn,
): Promise<RepositoryName[]> {
  const rows = await queries
    .updateTable('tracked_repositories')
    .set({ ...dirtied(), verification_state: 'pending' })
    .where('id', 'in', someIds(queries, filter, turn))
    .returning('path')
    .execute()
  return rows.map((row) => row.path)
}

/** The paths that are gone. */
export async function deleteSome(queries: Queries, turn: Turn): Promise<RepositoryName[]> {
  const rows = await queries
    .deleteFrom('tracked_repositories')
    .where('id', 'in', someIds(queries, {}, turn))
    .returning('path')
    .execute()
  return rows.map((row) => row.path)
}

function someIds(queries: Queries, filter: ListOptions, { after, limit }: Turn) {
  return queries
    .selectFrom('tracked_repositories')
    .select('id')
    .where(matching(filter))
    .$if(after !== undefined, (query) => query.where('path', '>', after as RepositoryName))
    .orderBy('path')
    .limit(limit)
}
