/**
 * What the processes of one site share: in Redis where there are several, in this process where it is the only one. A
 * `serve` owns its store whatever else is configured; its Redis is for jobs alone.
 */
import type { Bus } from './bus/bus.ts'
import { createMemoryBus } from './bus/memory-bus.ts'
import { createRedisBus } from './bus/redis-bus.ts'
import type { Config } from './config.ts'
import { createRedisCoordination } from './coordination/redis-coordination.ts'
import { createRedisFillLeases } from './coordination/redis-fill-leases.ts'
import type { FillLeases } from './fill/fill-leases.ts'
import type { Epochs, Freshness } from './freshness/freshness.ts'
import { createMemoryFreshness } from './freshness/memory-freshness.ts'
import { createRedisFreshness } from './freshness/redis-freshness.ts'
import type { Lifecycle } from './lifecycle.ts'
import type { Logger } from './log.ts'
import type { Metrics } from './metrics.ts'
import type { Role } from './site.ts'
import type { Coordination } from './store/coordination.ts'

export interface BetweenProcessesDeps {
  readonly log: Logger
  readonly metrics: Metrics
  readonly lifecycle: Lifecycle
}

export interface BetweenProcesses {
  /** Whether other processes work on the same store. */
  readonly isShared: boolean
  readonly bus: Bus
  readonly freshness: Freshness & Epochs
  /** Undefined: nobody else changes the store. */
  readonly coordination: Coordination | undefined
  /** Undefined: nobody else fetches into it. */
  readonly leases: FillLeases | undefined
}

/** What is opened is the lifecycle's. A Redis that is away keeps nothing from starting. */
export function openBetweenProcesses(
  config: Config,
  role: Role,
  { log, metrics, lifecycle }: BetweenProcessesDeps,
): BetweenProcesses {
  const { redis, site, tags } = config
  if (role === 'serve' || !redis) {
    if (role !== 'serve') {
      log.warn(
        { role },
        'redis.url is not set: this must be the only process on its store; with others, set redis.url for all of them',
      )
    }
    return {
      isShared: false,
      bus: createMemoryBus({ log }),
      freshness: createMemoryFreshness(tags),
      coordination: undefined,
      leases: undefined,
    }
  }
  const where = { url: () => redis.url.reveal(), site: site.name }
  const bus = createRedisBus({ log, metrics }, where)
  lifecycle.own('bus', bus)
  const coordination = createRedisCoordination({ log }, where)
  lifecycle.own('coordination', coordination)
  const leases = createRedisFillLeases({ log }, where)
  lifecycle.own('fill leases', leases.close)
  const freshness = createRedisFreshness({ log }, { ...where, ...tags })
  lifecycle.own('freshness', freshness)
  return { isShared: true, bus, freshness, coordination, leases }
}
