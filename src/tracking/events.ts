/**
 * The durable inbox: what was accepted and not applied yet. Who stores an event holds its repository's row, so that of
 * one repository the lower sequence is always the one committed first: `deleteThrough` takes none that nobody has seen.
 */
import type { RepositoryName } from '../oci/reference.ts'
import type { Queries } from './database.ts'
import type { InboxEvent, StoredEvent } from './tracking.ts'

export async function knownEventIds(queries: Queries, ids: readonly string[]): Promise<string[]> {
  const rows = await queries.selectFrom('events').select('id').where('id', 'in', ids).execute()
  return rows.map((row) => row.id)
}

/** An id that was stored meanwhile is passed over. */
export async function insertEvents(queries: Queries, events: readonly InboxEvent[]): Promise<void> {
  await queries
    .insertInto('events')
    .values(
      events.map((event) => ({
        id: event.id,
        action: event.action,
        repository: event.repository,
        tag: event.tag ?? null,
        digest: event.digest ?? null,
        renamed_to: event.renamedTo ?? null,
        received_at: event.receivedAtMs,
      })),
    )
    .onConflict((conflict) => conflict.column('id').doNothing())
    .execute()
}

export async function selectEvents(queries: Queries, path: RepositoryName): Promise<StoredEvent[]> {
  const rows = await queries
    .selectFrom('events')
    .select(['sequence', 'id', 'action', 'repository', 'tag', 'digest', 'renamed_to', 'received_at'])
    .where('repository', '=', path)
    .orderBy('sequence')
    .execute()
  return rows.map((row) => ({
    sequence: row.sequence,
    id: row.id,
    action: row.action,
    repository: row.repository,
    tag: row.tag ?? undefined,
    digest: row.digest ?? undefined,
    renamedTo: row.renamed_to ?? undefined,
    receivedAtMs: row.received_at,
  }))
}

/** The last sequence of a repository, or of all. */
export async function lastSequence(queries: Queries, path?: RepositoryName): Promise<number | undefined> {
  const row = await queries
    .selectFrom('events')
    .select((rows) => rows.fn.max('sequence').as('last'))
    .$if(path !== undefined, (query) => query.where('repository', '=', path as RepositoryName))
    .executeTakeFirst()
  return row?.last ?? undefined
}

/** When the latest of them arrived; undefined when there is none. */
export async function lastArrival(
  queries: Queries,
  path: RepositoryName,
  sequence: number,
): Promise<number | undefined> {
  const row = await queries
    .selectFrom('events')
    .select((rows) => rows.fn.max('received_at').as('last'))
    .where('repository', '=', path)
    .where('sequence', '<=', sequence)
    .executeTakeFirst()
  return row?.last ?? undefined
}

export async function deleteThrough(queries: Queries, path: RepositoryName, sequence: number): Promise<void> {
  await queries
    .deleteFrom('events')
    .where('repository', '=', path)
    .where('sequence', '<=', sequence)
    .execute()
}

export async function deleteAllEvents(queries: Queries): Promise<void> {
  await queries.deleteFrom('events').execute()
}
