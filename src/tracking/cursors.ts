/** Where something that goes through everything had got to: named texts that outlive `rebuild`. */
import type { Queries } from './database.ts'

export async function selectCursor(queries: Queries, name: string): Promise<string | undefined> {
  const row = await queries.selectFrom('cursors').select('value').where('name', '=', name).executeTakeFirst()
  return row?.value
}

export async function upsertCursor(queries: Queries, name: string, value: string): Promise<void> {
  await queries
    .insertInto('cursors')
    .values({ name, value })
    .onConflict((conflict) => conflict.column('name').doUpdateSet({ value }))
    .execute()
}

export async function deleteCursor(queries: Queries, name: string): Promise<void> {
  await queries.deleteFrom('cursors').where('name', '=', name).execute()
}
