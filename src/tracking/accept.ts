/** What an accepted event does to the tracked repositories. One transaction of `Database` around each call. */
import { parseRepositoryName, type RepositoryName } from '../oci/reference.ts'
import { chunksOf } from './chunks.ts'
import type { Queries } from './database.ts'
import { insertEvents, knownEventIds } from './events.ts'
import { dueAmong } from './next-work.ts'
import { insertOrDirty, pathsUnder } from './tracked-repositories.ts'
import type { InboxEvent } from './tracking.ts'
import { EVENT_PRIORITY } from './transitions.ts'

/** The paths among those the events name that are due now, whether they were before or not. */
export async function acceptEvents(
  queries: Queries,
  events: readonly InboxEvent[],
  nowMs: number,
): Promise<RepositoryName[]> {
  const fresh = await newOnes(queries, events)
  const all = [...fresh, ...(await derivedFrom(queries, fresh))]
  // The rows first: who holds a repository's row may number its events (events.ts).
  for (const paths of chunksOf(await touchedBy(queries, fresh))) {
    await insertOrDirty(queries, paths, { priority: EVENT_PRIORITY, active: true }, nowMs)
  }
  for (const chunk of chunksOf(all)) await insertEvents(queries, chunk)
  const due: RepositoryName[] = []
  // Of an event that came again, too: the first answer's wake-up may have been lost.
  for (const paths of chunksOf(await touchedBy(queries, events))) {
    due.push(...(await dueAmong(queries, paths, nowMs)))
  }
  return due
}

async function newOnes(queries: Queries, events: readonly InboxEvent[]): Promise<InboxEvent[]> {
  const firstOf = new Map(events.toReversed().map((event) => [event.id, event]))
  const fresh = events.filter((event) => firstOf.get(event.id) === event)
  const known = new Set<string>()
  for (const chunk of chunksOf(fresh)) {
    const ids = chunk.map((event) => event.id)
    for (const id of await knownEventIds(queries, ids)) known.add(id)
  }
  return fresh.filter((event) => !known.has(event.id))
}

/**
 * A registry sends one event for a path and all that lies under it. Each repository has its own here, or what the rename
 * took away from it would look like a loss that nothing explains.
 */
async function derivedFrom(queries: Queries, events: readonly InboxEvent[]): Promise<InboxEvent[]> {
  const derived: InboxEvent[] = []
  for (const event of events) {
    const { repository, renamedTo } = event
    if (renamedTo === undefined) continue
    for (const path of await pathsUnder(queries, repository)) {
      const moved = parseRepositoryName(renamedTo + path.slice(repository.length))
      derived.push({ ...event, id: `${event.id} ${path}`, repository: path, renamedTo: moved })
    }
  }
  return derived
}

/** Each once, sorted: two who touch the same rows take them in the same order. */
async function touchedBy(queries: Queries, events: readonly InboxEvent[]): Promise<RepositoryName[]> {
  const paths = new Set(events.map((event) => event.repository))
  const renames = new Map(events.map((event) => [`${event.repository} ${event.renamedTo}`, event]))
  for (const { repository, renamedTo } of renames.values()) {
    if (renamedTo === undefined) continue
    paths.add(renamedTo)
    for (const path of await pathsUnder(queries, repository)) {
      paths.add(path)
      const moved = parseRepositoryName(renamedTo + path.slice(repository.length))
      if (moved) paths.add(moved)
    }
  }
  return [...paths].sort()
}
