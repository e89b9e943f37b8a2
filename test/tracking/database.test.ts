/** What the databases promise each other's statements, looked at from inside. */
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { createLogger } from '../../src/log.ts'
import type { Database } from '../../src/tracking/database.ts'
import { migrate } from '../../src/tracking/migrations.ts'
import { selectOverdue, selectOverdueByActivity } from '../../src/tracking/next-work.ts'
import { openPostgres } from '../../src/tracking/postgres-database.ts'
import { openSqlite } from '../../src/tracking/sqlite-database.ts'
import { nameOf } from '../store/store-fixture.ts'
import { startPostgres } from '../support/postgres.ts'
import { tempFolder } from '../support/temp.ts'

const log = createLogger({ level: 'silent' })

async function migrated(kind: Database['kind'], stack: AsyncDisposableStack): Promise<Database> {
  const database = stack.use(await opened(kind, stack))
  await migrate(database, log, Date.now)
  return database
}

async function opened(kind: Database['kind'], stack: AsyncDisposableStack): Promise<Database> {
  if (kind === 'sqlite') {
    const folder = stack.use(await tempFolder('database'))
    return await openSqlite(join(folder.path, 'tracking.db'), Date.now)
  }
  const server = stack.use(await startPostgres({ settings: { deadlock_timeout: '50ms' } }))
  return openPostgres({ url: await server.createDatabase() }, log, Date.now)
}

describe.each(['sqlite', 'postgres'] as const)('the database %s', (kind) => {
  it('puts overdue repositories in the same order, whether there are few of them or many', async () => {
    await using stack = new AsyncDisposableStack()
    const { queries } = await migrated(kind, stack)
    const rows = Array.from({ length: 400 }, (_, index) => ({
      path: nameOf(`team/app-${index}`),
      state: index % 10 === 0 ? ('failed' as const) : ('synced' as const),
      inventory_at: (index * 7919) % 1000,
      active_at: index % 3 === 0 ? 10_000 + index : null,
      created_at: 0,
      priority: 3,
    }))
    await queries.insertInto('tracked_repositories').values(rows).execute()

    const sorted = await selectOverdue(queries, 700, 1000, 1000)

    expect(sorted.length).toBeGreaterThan(200)
    expect(await selectOverdueByActivity(queries, 700, 1000)).toEqual(sorted)
    expect(await selectOverdueByActivity(queries, 700, 50)).toEqual(sorted.slice(0, 50))
  })

  it('runs a transaction again when two stood in each other’s way, and no other failure', async () => {
    await using stack = new AsyncDisposableStack()
    const { queries, transaction } = await migrated(kind, stack)
    const names = ['a', 'b'] as const
    await queries
      .insertInto('cursors')
      .values(names.map((name) => ({ name, value: '0' })))
      .execute()
    let runs = 0
    const countUp = (order: readonly string[]) =>
      transaction(async (tx) => {
        runs++
        for (const name of order) {
          const { value } = await tx
            .updateTable('cursors')
            .set((row) => ({ value: row.fn<string>('concat', ['value', row.val('+')]) }))
            .where('name', '=', name)
            .returning('value')
            .executeTakeFirstOrThrow()
          expect(value).toContain('+')
        }
      })

    await Promise.all(
      Array.from({ length: 6 }, (_, index) => countUp(index % 2 ? names : names.toReversed())),
    )

    const cursors = await queries.selectFrom('cursors').select('value').execute()
    expect(cursors.map(({ value }) => value)).toEqual(['0++++++', '0++++++'])
    expect(runs).toBeGreaterThanOrEqual(6)
    runs = 0
    await expect(
      transaction(async () => {
        runs++
        throw new Error('something else')
      }),
    ).rejects.toThrow('something else')
    expect(runs).toBe(1)
  })
})
