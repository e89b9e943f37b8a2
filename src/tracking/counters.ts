/** Numbers that only grow, and outlive the rows they were given to. */
import { sql } from 'kysely'
import type { Queries } from './database.ts'

/** Never given before, not even to a row that is gone. */
export async function nextLeaseNumber(queries: Queries): Promise<number> {
  const { value } = await queries
    .insertInto('counters')
    .values({ name: 'lease', value: 1 })
    .onConflict((conflict) => conflict.column('name').doUpdateSet({ value: sql`counters.value + 1` }))
    .returning('value')
    .executeTakeFirstOrThrow()
  return value
}

/** The last event applied: the highest sequence, for jobs end in any order, and the latest arrival, in milliseconds. */
export type AppliedCounter = 'applied_event' | 'applied_event_at'

export async function raise(queries: Queries, name: AppliedCounter, value: number): Promise<void> {
  await queries
    .insertInto('counters')
    .values({ name, value })
    .onConflict((conflict) =>
      conflict.column('name').doUpdateSet({ value }).where('counters.value', '<', value),
    )
    .execute()
}

/** Undefined until the first event was applied. */
export async function counter(queries: Queries, name: AppliedCounter): Promise<number | undefined> {
  const row = await queries.selectFrom('counters').select('value').where('name', '=', name).executeTakeFirst()
  return row?.value
}
