/**
 * `redis://[user:password@]host[:port][/database]`, `rediss://` for TLS, `unix:/path/of/the.socket`. A function is asked
 * again before each attempt to connect, so that a rotated password or a moved server needs no restart.
 */
export type RedisUrl = string | (() => string)

/** Between two attempts to connect; it grows to this. */
const LONGEST_BACKOFF_MS = 1000
const CONNECT_TIMEOUT_MS = 2000
const DEFAULT_PORT = 6379

interface Address {
  readonly host: string
  readonly port: number
  /** Of a socket; empty: none. */
  readonly path: string
  readonly username: string | undefined
  readonly password: string | undefined
  readonly db: number
  /** Node's defaults, which check the certificate against `host`. */
  readonly tls: Record<string, never> | undefined
}

export interface ConnectingOptions extends Address {
  readonly connectTimeout: number
  /** A command is given up at every so many attempts to connect; null: never. */
  readonly maxRetriesPerRequest: number | null
  readonly commandTimeout?: number
  readonly socketTimeout?: number
  /** Milliseconds until the next attempt. */
  retryStrategy(attempt: number): number
}

/** For what must be told no: a command fails after 3 s at the latest, with Redis away sooner. */
export function askingOptions(url: RedisUrl): ConnectingOptions {
  return {
    ...connectingOptions(url),
    maxRetriesPerRequest: 1,
    commandTimeout: 3000,
    // A peer that is frozen, or gone without a word, is left; the commands it never answered would pile up.
    socketTimeout: 5000,
  }
}

/** For workers, whose commands wait until Redis is there: BullMQ wants it so, and blocks for seconds on an idle queue. */
export function workingOptions(url: RedisUrl): ConnectingOptions {
  return { ...connectingOptions(url), maxRetriesPerRequest: null }
}

function connectingOptions(url: RedisUrl): Omit<ConnectingOptions, 'maxRetriesPerRequest'> {
  return {
    ...addressOf(typeof url === 'function' ? url() : url),
    connectTimeout: CONNECT_TIMEOUT_MS,
    // ioredis calls it as a method of the options that the next attempt reads, those of a duplicate too.
    retryStrategy(this: Address, attempt: number) {
      try {
        if (typeof url === 'function') Object.assign(this, addressOf(url()))
      } catch {
        // A file that is being replaced cannot be read for a moment: what was read before is tried until it can.
      }
      return Math.min(attempt * 100, LONGEST_BACKOFF_MS)
    },
  }
}

/** Every field is there, so that what a new URL does not have does not stay from the old one. */
function addressOf(text: string): Address {
  const url = URL.parse(text)
  if (!url || !['redis:', 'rediss:', 'unix:'].includes(url.protocol)) {
    throw new Error(
      'expected a URL of Redis: redis://…, rediss://… or unix:/… (it is not shown: it may hold a password)',
    )
  }
  const database = url.protocol === 'unix:' ? url.searchParams.get('db') : url.pathname.slice(1)
  return {
    path: url.protocol === 'unix:' ? decodeURIComponent(url.pathname) : '',
    host: url.hostname.replace(/^\[|\]$/g, '') || 'localhost',
    port: url.port ? Number(url.port) : DEFAULT_PORT,
    username: decodeURIComponent(url.username) || undefined,
    password: decodeURIComponent(url.password) || undefined,
    db: Number(database || 0),
    tls: url.protocol === 'rediss:' ? {} : undefined,
  }
}
