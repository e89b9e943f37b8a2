/** What the databases promise each other's statements, looked at from inside. */
import { join } from 'node:path'
import { sql } from 'kysely'
import { describe, expect, it } from 'vitest'
import { createLogger } from '../../src/log.ts'
import type { Database, Queries } from '../../src/tracking/database.ts'
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
    await queries
      .insertInto('cursors')
      .values(['a', 'b'].map((name) => ({ name, value: '0' })))
      .execute()
    let runs = 0
    let haveOne = 0
    const bothHaveOne = Promise.withResolvers<void>()
    const appendPlus = (tx: Queries, name: string) =>
      tx.updateTable('cursors').set({ value: sql`value || '+'` }).where('name', '=', name).execute()
    const append = ([first, second]: readonly [string, string]) =>
      transaction(async (tx) => {
        runs++
        await appendPlus(tx, first)
        haveOne++
        if (haveOne === 2) bothHaveOne.resolve()
        // SQLite lets nobody else begin.
        if (kind === 'postgres') await bothHaveOne.promise
        await appendPlus(tx, second)
      })

    await Promise.all([append(['a', 'b']), append(['b', 'a'])])

    const cursors = await queries.selectFrom('cursors').select('value').execute()
    expect(cursors.map(({ value }) => value)).toEqual(['0++', '0++'])
    // The one that was ended may be back before the other is awake, and stand in its way again.
    if (kind === 'postgres') expect(runs).toBeGreaterThan(2)
    else expect(runs).toBe(2)
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
