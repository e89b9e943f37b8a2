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

/** Jobs end in any order; the last event applied is the one with the highest sequence. */
export async function raiseLastApplied(queries: Queries, sequence: number): Promise<void> {
  await queries
    .insertInto('counters')
    .values({ name: 'applied_event', value: sequence })
    .onConflict((conflict) =>
      conflict.column('name').doUpdateSet({ value: sequence }).where('counters.value', '<', sequence),
    )
    .execute()
}

export async function lastApplied(queries: Queries): Promise<number> {
  const row = await queries
    .selectFrom('counters')
    .select('value')
    .where('name', '=', 'applied_event')
    .executeTakeFirst()
  return row?.value ?? 0
}
