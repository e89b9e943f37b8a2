/**
 * Postgres through a pool that mends itself: a connection that broke or fell silent is never used again, and losing an
 * idle one is a line in the log.
 */
import { Kysely, PostgresDialect, type PostgresPool, type PostgresPoolClient } from 'kysely'
import { Client, type ClientConfig, DatabaseError, Pool, types } from 'pg'
import type { Logger } from '../log.ts'
import { createDatabase, type Database, wholeNumbers } from './database.ts'
import type { Schema } from './schema.ts'

const POOL_SIZE = 10
const CONNECT_TIMEOUT_MS = 5000
/** The slowest statement there is takes a second on a million rows. */
const ANSWER_TIMEOUT_MS = 20_000

/** https://www.postgresql.org/docs/current/catalog-pg-type.html: int8, and numeric, which sums of int8 are. */
const WHOLE_NUMBERS = new Set([20, 1700])

export interface PostgresOptions {
  /** A function is asked for each new connection, so that a password may change. */
  readonly url: string | (() => string)
  /** Default 10. */
  readonly poolSize?: number | undefined
  /** For one statement; default 20 s. Connecting may take 5 s. */
  readonly answerTimeoutMs?: number | undefined
}

/** Connects to nothing yet. */
export function openPostgres(options: PostgresOptions, log: Logger, now: () => number): Database {
  const { answerTimeoutMs = ANSWER_TIMEOUT_MS } = options
  const pool = new Pool({
    Client: clientFor(options.url),
    max: options.poolSize ?? POOL_SIZE,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    // For a server that says nothing at all, and for one that could still end the statement by itself.
    query_timeout: answerTimeoutMs,
    statement_timeout: answerTimeoutMs,
    // Totals are kept by connection (schema-1.ts): new ones all day would be new rows all day.
    idleTimeoutMillis: 0,
    keepAlive: true,
    application_name: 'geo-registry',
    types: { getTypeParser },
  })
  pool.on('error', (error) => log.warn({ error }, 'an idle connection to the tracking database was lost'))
  // Between two statements of a transaction nobody else listens, and an unheard 'error' ends the process.
  pool.on('connect', (client) => client.on('error', () => {}))
  const queries = new Kysely<Schema>({ dialect: new PostgresDialect({ pool: withoutBroken(pool) }) })
  return createDatabase('postgres', queries, now)
}

function clientFor(url: string | (() => string)) {
  return class extends Client {
    constructor(config?: ClientConfig) {
      super({ ...config, connectionString: typeof url === 'string' ? url : url() })
    }
  }
}

/** After a failure that is not the server's answer to the statement, what the connection would say next is unknown. */
function withoutBroken(pool: Pool): PostgresPool {
  return {
    options: pool.options,
    end: () => pool.end(),
    async connect() {
      const client = await pool.connect()
      let broken = false
      const query = async (statement: string, parameters: readonly unknown[]) => {
        try {
          return await client.query(statement, wholeNumbers(parameters))
        } catch (error) {
          broken ||= !(error instanceof DatabaseError)
          throw error
        }
      }
      return {
        // Kysely's other overload is for cursors, which nothing here uses.
        query: query as unknown as PostgresPoolClient['query'],
        release: (destroy = false) => client.release(destroy || broken),
      }
    },
  }
}

function getTypeParser(oid: number, format?: 'text' | 'binary') {
  return WHOLE_NUMBERS.has(oid) ? Number : types.getTypeParser(oid, format)
}
