/** The processes of a site on one Redis, each with a clock of its own that the test moves. */
import { randomUUID } from 'node:crypto'
import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest'
import { createRedisFreshness, type RedisFreshnessOptions } from '../../src/freshness/redis-freshness.ts'
import { createLogger } from '../../src/log.ts'
import { type RedisServer, startRedis } from '../support/redis.ts'
import { until } from '../support/wait.ts'

export type SiteProcess = ReturnType<typeof createRedisFreshness>

export interface RedisSite extends AsyncDisposable {
  /** `clockMs`: what its clock shows more than that of the site. */
  open(
    options?: Omit<RedisFreshnessOptions, 'url' | 'site' | 'now'> & { readonly url?: string },
    clockMs?: number,
  ): SiteProcess
  /** Moves every clock. */
  pass(ms: number): void
  /** The site's clock, which a process opened without `clockMs` has. */
  now(): number
  /** What was logged at `warn` and above. */
  readonly logged: string[]
}

export function createRedisSite(redis: Pick<RedisServer, 'url'>): RedisSite {
  const site = randomUUID()
  const owned = new AsyncDisposableStack()
  const logged: string[] = []
  const log = createLogger({ level: 'warn', destination: { write: (line) => void logged.push(line) } })
  let nowMs = 1000
  return {
    open(options = {}, clockMs = 0) {
      const now = () => nowMs + clockMs
      return owned.use(
        createRedisFreshness(
          { log },
          { beatEveryMs: 10, askMs: 2000, url: redis.url, ...options, site, now },
        ),
      )
    },
    pass(ms) {
      nowMs += ms
    },
    now: () => nowMs,
    logged,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/** One Redis for the tests of a file, and on it a site for each of them: `begin` is told of both before the test. */
export function siteOnRedis(begin: (site: RedisSite, redis: RedisServer) => void): void {
  let redis: RedisServer | undefined
  let site: RedisSite | undefined
  beforeAll(async () => {
    redis = await startRedis()
  })
  afterAll(() => redis?.[Symbol.asyncDispose]())
  beforeEach(() => {
    if (!redis) throw new Error('no Redis was started')
    site = createRedisSite(redis)
    begin(site, redis)
  })
  afterEach(() => site?.[Symbol.asyncDispose]())
}

/** Begins an epoch, and tells of a watermark of this moment until every process can place it on its clock. */
export async function watermarkFor(
  holder: SiteProcess,
  nowMs: number,
  readers: readonly SiteProcess[],
): Promise<string> {
  const epoch = await until(() => holder.beginEpoch(), { what: 'an epoch to begin' })
  await until(
    async () => {
      await holder.advance(epoch, nowMs)
      const told = await Promise.all(readers.map((reader) => reader.watermark()))
      return told.every((watermark) => watermark?.epoch === epoch)
    },
    { what: 'every process to know the watermark' },
  )
  return epoch
}
