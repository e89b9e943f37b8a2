/** The table of states in SQL, and what every change of a row has in common. */
import { type RawBuilder, sql } from 'kysely'
import { SYNC_STATES, SYNC_TRANSITIONS, type SyncEvent, type SyncState } from './replication-state.ts'
import type { TouchOptions } from './tracking.ts'

/** The queue's `PRIORITIES`, which this area may not import: what nobody waits for, and what an event named. */
export const BACKLOG_PRIORITY = 3
export const EVENT_PRIORITY = 2

/** What the event makes of a row's state. */
export function stateAfter(event: SyncEvent): RawBuilder<SyncState> {
  const arms = SYNC_STATES.map(
    (state) => sql`when ${sql.lit(state)} then ${sql.lit(SYNC_TRANSITIONS[state][event])}`,
  )
  return sql<SyncState>`case tracked_repositories.state ${sql.join(arms, sql` `)} end`
}

/** Due now. One that needs a hand still says so: what is new in it must not wait for what is broken in it (law 9). */
export function dirtied() {
  return { state: stateAfter('dirty'), retry_at: null, change: nextChange() }
}

/** As `dirtied`, by something that also says how urgent it is. */
export function touched({ priority, active = false }: TouchOptions, nowMs: number) {
  return {
    ...dirtied(),
    priority: sql<number>`case when tracked_repositories.priority > ${sql.lit(priority)}
      then ${sql.lit(priority)} else tracked_repositories.priority end`,
    ...(active ? { active_at: nowMs } : {}),
  }
}

export function nextChange(): RawBuilder<number> {
  return sql<number>`tracked_repositories.change + 1`
}
