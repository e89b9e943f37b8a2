/** Releases come and go, and start all at once. */
import { join } from 'node:path'
import pino from 'pino'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Database } from '../../src/tracking/database.ts'
import { MIGRATIONS, type Migration, migrate } from '../../src/tracking/migrations.ts'
import { openTracking, type TrackingOptions } from '../../src/tracking/open-tracking.ts'
import { openPostgres } from '../../src/tracking/postgres-database.ts'
import { openSqlite } from '../../src/tracking/sqlite-database.ts'
import { nameOf } from '../store/store-fixture.ts'
import { type PostgresServer, startPostgres } from '../support/postgres.ts'
import { tempFolder } from '../support/temp.ts'
import { found, leased, synced } from './tracking-fixture.ts'

const log = pino({ level: 'silent' })

describe.each(['sqlite', 'postgres'] as const)('migrations of %s', (kind) => {
  let server: PostgresServer | undefined
  beforeAll(async () => {
    if (kind === 'postgres') server = await startPostgres()
  })
  afterAll(() => server?.[Symbol.asyncDispose]())

  interface Place extends AsyncDisposable {
    readonly options: TrackingOptions
    database(): Promise<Database>
  }

  /** A new, empty database. */
  async function makePlace(): Promise<Place> {
    if (server) {
      const url = await server.createDatabase()
      return {
        options: { kind: 'postgres', url },
        database: async () => openPostgres({ url }, log, Date.now),
        [Symbol.asyncDispose]: async () => {}, // It goes with its server.
      }
    }
    const folder = await tempFolder('migrations')
    const file = join(folder.path, 'tracking.db')
    return {
      options: { kind: 'sqlite', file },
      database: () => openSqlite(file, Date.now),
      [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
    }
  }

  const next = (breaking: boolean, ...statements: string[]): Migration[] => [
    ...MIGRATIONS,
    { version: 99, name: 'next', breaking, statements: () => statements },
  ]

  it('run once, however many processes start at once', async () => {
    await using place = await makePlace()

    const opened = await Promise.all(Array.from({ length: 10 }, () => openTracking(place.options, { log })))

    await Promise.all(opened.map((tracking, index) => tracking.discover([nameOf(`team/app-${index}`)])))
    expect(await opened[0]?.counts()).toMatchObject({ total: 10 })
    await Promise.all(opened.map((tracking) => tracking[Symbol.asyncDispose]()))
    await using database = await place.database()
    const applied = await database.queries.selectFrom('schema_migrations').selectAll().execute()
    expect(applied.map(({ version }) => version)).toEqual(MIGRATIONS.map(({ version }) => version))
  })

  it('leave a running older release its work, and let it start again on the next schema', async () => {
    await using place = await makePlace()
    await using older = await openTracking(place.options, { log })
    await older.discover([nameOf('team/app')])
    const lease = await leased(older, 'team/app')
    await using database = await place.database()
    const added = 'alter table tracked_repositories add column colour text'

    await migrate(database, log, Date.now, next(false, added))

    expect(await older.settle(lease, synced())).toBe('done')
    const lines: string[] = []
    const warned = pino({ level: 'warn' }, { write: (line) => lines.push(line) })
    await using again = await openTracking(place.options, { log: warned })
    expect(await found(again, 'team/app')).toMatchObject({ state: 'synced' })
    expect(lines).toEqual([expect.stringContaining('"found":99')])
  })

  it('that break older releases make them refuse to start, and say which schema it was', async () => {
    await using place = await makePlace()
    await using database = await place.database()
    await migrate(database, log, Date.now, next(true, 'drop table cursors'))

    await expect(openTracking(place.options, { log })).rejects.toMatchObject({
      name: 'TrackingSchemaError',
      message: expect.stringMatching(/schema 99 \(next\).*knows 1 at most/),
    })
  })

  it('that fail leave everything as it was', async () => {
    await using place = await makePlace()
    await using database = await place.database()
    const broken = next(false, 'create table half_way (id bigint)', 'create nonsense')

    await expect(migrate(database, log, Date.now, broken)).rejects.toThrow(/nonsense/)

    await expect(database.queries.selectFrom('schema_migrations').selectAll().execute()).rejects.toThrow(
      /schema_migrations/,
    )
    await migrate(database, log, Date.now, next(false, 'create table half_way (id bigint)'))
    expect(await database.queries.selectFrom('schema_migrations').selectAll().execute()).toHaveLength(2)
  })
})
