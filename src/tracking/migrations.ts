/**
 * Numbered, forward only, all in one transaction under one lock, so that any number of processes may start at once. A
 * release runs on its own schema and on the next one's, unless that says it is breaking.
 */
import { sql } from 'kysely'
import type { Logger } from '../log.ts'
import { foldTotals } from './counts.ts'
import type { Database, DatabaseKind, Queries } from './database.ts'
import { schema1 } from './schema-1.ts'

export interface Migration {
  readonly version: number
  readonly name: string
  /** Releases that do not know this migration cannot run once it is applied. */
  readonly breaking: boolean
  readonly statements: (kind: DatabaseKind) => readonly string[]
}

/** Never changed once released; the next one is added at the end. */
export const MIGRATIONS: readonly Migration[] = [
  { version: 1, name: 'tracking', breaking: false, statements: schema1 },
]

/** The database was migrated by a newer release, past what this one can work with. */
export class TrackingSchemaError extends Error {
  override readonly name = 'TrackingSchemaError'
}

/** Any number, for all of this program's migrations. */
const ADVISORY_LOCK = 0x67656f72

/** Throws `TrackingSchemaError`, or the database's error; nothing is half migrated then. */
export async function migrate(
  database: Database,
  log: Logger,
  now: () => number,
  migrations: readonly Migration[] = MIGRATIONS,
): Promise<void> {
  await database.transaction(async (transaction) => {
    // SQLite's transaction holds the write lock already.
    if (database.kind === 'postgres') {
      await sql`select pg_advisory_xact_lock(${sql.lit(ADVISORY_LOCK)})`.execute(transaction)
    }
    await createMigrationsTable(transaction)
    const applied = await appliedMigrations(transaction)
    refuseNewer(applied, migrations, log)
    const known = new Set(applied.map(({ version }) => version))
    for (const migration of migrations.filter(({ version }) => !known.has(version))) {
      await apply(transaction, database.kind, migration, now())
      log.info({ version: migration.version, name: migration.name }, 'the tracking database was migrated')
    }
    if (database.kind === 'postgres') await foldTotals(transaction)
  })
}

async function createMigrationsTable(queries: Queries): Promise<void> {
  await sql`create table if not exists schema_migrations (
    version bigint primary key, name text not null, breaking bigint not null, applied_at bigint not null
  )`.execute(queries)
}

interface AppliedMigration {
  readonly version: number
  readonly name: string
  readonly breaking: number
}

function appliedMigrations(queries: Queries): Promise<AppliedMigration[]> {
  return queries
    .selectFrom('schema_migrations')
    .select(['version', 'name', 'breaking'])
    .orderBy('version')
    .execute()
}

function refuseNewer(
  applied: readonly AppliedMigration[],
  migrations: readonly Migration[],
  log: Logger,
): void {
  const newest = Math.max(...migrations.map(({ version }) => version))
  const newer = applied.filter(({ version }) => version > newest)
  const breaking = newer.find((migration) => migration.breaking === 1)
  if (breaking) {
    throw new TrackingSchemaError(
      `the tracking database has schema ${breaking.version} (${breaking.name}); this release knows ${newest} at most`,
    )
  }
  if (newer.length > 0) log.warn({ newest, found: newer.at(-1)?.version }, 'the tracking database is newer')
}

async function apply(
  queries: Queries,
  kind: DatabaseKind,
  migration: Migration,
  appliedAtMs: number,
): Promise<void> {
  await queries
    .insertInto('schema_migrations')
    .values({
      version: migration.version,
      name: migration.name,
      breaking: migration.breaking ? 1 : 0,
      applied_at: appliedAtMs,
    })
    .execute()
  for (const statement of migration.statements(kind)) await sql.raw(statement).execute(queries)
}
