/** Several processes' coordinations on one Redis, each test under a name of its own. */
import { randomUUID } from 'node:crypto'
import pino from 'pino'
import {
  createRedisCoordination,
  type RedisCoordinationOptions,
} from '../../src/coordination/redis-coordination.ts'
import type { Coordination } from '../../src/store/coordination.ts'
import type { RedisServer } from '../support/redis.ts'
import { until } from '../support/wait.ts'

export type RedisCoordination = Coordination & AsyncDisposable

export const log = pino({ level: 'silent' })

export function siteName(): string {
  return `test-${randomUUID()}`
}

/** In contact with Redis. */
export async function coordinationOn(
  redis: RedisServer,
  site: string,
  options: Partial<RedisCoordinationOptions> = {},
): Promise<RedisCoordination> {
  const coordination = createRedisCoordination({ log }, { url: redis.url, site, ...options })
  await reached(coordination)
  return coordination
}

export async function reached(coordination: Coordination): Promise<void> {
  const reach = () =>
    coordination.reach().then(
      () => true,
      () => false,
    )
  await until(reach, { what: 'Redis to answer' })
}
