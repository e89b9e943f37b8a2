/**
 * One face for both databases: a query builder, transactions that hold what they promise, and the clock leases are
 * measured by. Everything above it is written once.
 */
import { type Kysely, type RawBuilder, sql, type Transaction } from 'kysely'
import type { Schema } from './schema.ts'

export type DatabaseKind = 'sqlite' | 'postgres'

/** A database or one transaction of it: statements take either. */
export type Queries = Kysely<Schema>

export interface Database extends AsyncDisposable {
  readonly kind: DatabaseKind
  readonly queries: Queries
  /** All or nothing, durable when it resolves. `work` may be run again when the database chose it to end a deadlock. */
  transaction<T>(work: (transaction: Queries) => Promise<T>): Promise<T>
  /** Several reads of one state. */
  snapshot<T>(read: (transaction: Queries) => Promise<T>): Promise<T>
  /** Milliseconds by a clock that all who share the database share: the clocks of its clients may be minutes apart. */
  readonly leaseClock: () => RawBuilder<number>
}

const ATTEMPTS = 5
/** https://www.postgresql.org/docs/current/errcodes-appendix.html: serialization_failure, deadlock_detected. */
const RUN_AGAIN = new Set(['40001', '40P01'])

export function createDatabase(kind: DatabaseKind, queries: Queries, now: () => number): Database {
  async function transaction<T>(work: (transaction: Transaction<Schema>) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await queries.transaction().execute(work)
      } catch (error) {
        if (attempt === ATTEMPTS || !RUN_AGAIN.has(codeOf(error))) throw error
      }
    }
  }
  return {
    kind,
    queries,
    transaction,
    snapshot: (read) =>
      queries.transaction().setIsolationLevel('repeatable read').setAccessMode('read only').execute(read),
    leaseClock: () =>
      kind === 'postgres'
        ? sql<number>`cast(extract(epoch from clock_timestamp()) * 1000 as bigint)`
        : sql<number>`${sql.val(now())}`,
    [Symbol.asyncDispose]: () => queries.destroy(),
  }
}

/** No column holds a fraction: Postgres refuses one with an error, and times are reckoned with factors. */
export function wholeNumbers(parameters: readonly unknown[]): unknown[] {
  return parameters.map((value) => (typeof value === 'number' ? Math.round(value) : value))
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : ''
}
