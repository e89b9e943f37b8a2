/**
 * SQLite through `node:sqlite`, which Kysely has no dialect for: its SQLite dialect over a thin adapter, and a driver whose
 * transactions take the write lock at once and wait for it without blocking this process.
 */
import { mkdir } from 'node:fs/promises'
import { dirname } from 'node:path'
import { DatabaseSync, type SQLInputValue } from 'node:sqlite'
import { setTimeout as delay, setImmediate } from 'node:timers/promises'
import {
  CompiledQuery,
  type DatabaseConnection,
  Kysely,
  SqliteAdapter,
  type SqliteDatabase,
  SqliteDriver,
  SqliteIntrospector,
  SqliteQueryCompiler,
  type TransactionSettings,
} from 'kysely'
import { createDatabase, type Database, wholeNumbers } from './database.ts'
import type { Schema } from './schema.ts'

/** SQLite waits inside the call, with the event loop; so it may only briefly, and `begin` waits here instead. */
const BUSY_TIMEOUT_MS = 20
const LOCK_WAIT_MS = 30_000
const LOCK_POLL_MS = 5
/** The upper pages of a million rows' indexes; SQLite's own 2 MiB would read them again for every job. */
const PAGE_CACHE_KIB = 32 * 1024
/** https://sqlite.org/rescode.html#busy: its extended codes have it in the low byte. */
const SQLITE_BUSY = 5

/** Throws node's error when the file cannot be made or opened. */
export async function openSqlite(file: string, now: () => number): Promise<Database> {
  await mkdir(dirname(file), { recursive: true })
  const database = new DatabaseSync(file, { timeout: BUSY_TIMEOUT_MS, enableForeignKeyConstraints: true })
  try {
    await whenFree(() => database.exec('pragma journal_mode = wal'))
    // What was accepted survives a power cut; with WAL's own default it would only survive kill -9.
    database.exec(`pragma synchronous = full; pragma cache_size = -${PAGE_CACHE_KIB}`)
  } catch (error) {
    database.close()
    throw error
  }
  const queries = new Kysely<Schema>({
    dialect: {
      createDriver: () => new ImmediateDriver({ database: adapt(database) }),
      createAdapter: () => new SqliteAdapter(),
      createQueryCompiler: () => new SqliteQueryCompiler(),
      createIntrospector: (db) => new SqliteIntrospector(db),
    },
  })
  const created = createDatabase('sqlite', queries, now)
  return {
    ...created,
    async [Symbol.asyncDispose]() {
      await created[Symbol.asyncDispose]()
      if (database.isOpen) database.close() // Kysely closes only what it has used.
    },
  }
}

class ImmediateDriver extends SqliteDriver {
  /** SQLite answers before it returns: who asks it again and again would let nothing else of this process have a turn. */
  override async acquireConnection(): Promise<DatabaseConnection> {
    await setImmediate()
    return await super.acquireConnection()
  }

  /** A deferred transaction that first reads and then writes fails when another process wrote in between. */
  override async beginTransaction(
    connection: DatabaseConnection,
    settings: TransactionSettings = {},
  ): Promise<void> {
    const begin = settings.accessMode === 'read only' ? 'begin' : 'begin immediate'
    await whenFree(() => connection.executeQuery(CompiledQuery.raw(begin)))
  }
}

/** While another process has the lock; other work of this one goes on meanwhile. */
async function whenFree<T>(action: () => T | Promise<T>): Promise<T> {
  const endsAt = performance.now() + LOCK_WAIT_MS
  for (;;) {
    try {
      return await action()
    } catch (error) {
      if (!isBusy(error) || performance.now() > endsAt) throw error
      await delay(LOCK_POLL_MS)
    }
  }
}

function isBusy(error: unknown): boolean {
  return (
    error instanceof Error &&
    'errcode' in error &&
    typeof error.errcode === 'number' &&
    (error.errcode & 0xff) === SQLITE_BUSY
  )
}

/** What Kysely expects is better-sqlite3's shape. */
function adapt(database: DatabaseSync): SqliteDatabase {
  return {
    close: () => database.close(),
    prepare(text) {
      const statement = database.prepare(text)
      return {
        reader: statement.columns().length > 0,
        all: (parameters) => statement.all(...values(parameters)),
        run: (parameters) => statement.run(...values(parameters)),
        iterate: (parameters) => statement.iterate(...values(parameters)),
      }
    },
  }
}

/** The tables' types (schema.ts) let nothing else through. */
function values(parameters: readonly unknown[]): SQLInputValue[] {
  return wholeNumbers(parameters) as SQLInputValue[]
}
