/** One folder opened by two stores with one Redis, as two processes do. */
import { randomUUID } from 'node:crypto'
import pino from 'pino'
import {
  createRedisCoordination,
  type RedisCoordinationOptions,
} from '../../src/coordination/redis-coordination.ts'
import { createMetrics, type Metrics } from '../../src/metrics.ts'
import type { Coordination } from '../../src/store/coordination.ts'
import { openStore, type Store, type StoreOptions } from '../../src/store/store.ts'
import type { RedisServer } from '../support/redis.ts'
import { tempFolder } from '../support/temp.ts'
import { until } from '../support/wait.ts'

export interface SharedStore {
  readonly store: Store
  readonly coordination: Coordination
  readonly metrics: Metrics
}

export interface SharedStores extends AsyncDisposable {
  readonly root: string
  readonly site: string
  readonly a: SharedStore
  readonly b: SharedStore
}

export interface SharedStoreOptions extends Omit<StoreOptions, 'coordination'> {
  readonly redis?: Partial<RedisCoordinationOptions>
  /** What the store sees in place of its coordination. */
  readonly through?: (coordination: Coordination) => Coordination
}

const log = pino({ level: 'silent' })

export async function sharedStores(
  redis: RedisServer,
  optionsOfA: SharedStoreOptions = {},
  optionsOfB: SharedStoreOptions = {},
): Promise<SharedStores> {
  await using owned = new AsyncDisposableStack()
  const folder = owned.use(await tempFolder('shared'))
  const site = `test-${randomUUID()}`
  const opened = async ({
    redis: ofRedis,
    through,
    ...options
  }: SharedStoreOptions): Promise<SharedStore> => {
    const coordination = owned.use(
      createRedisCoordination(
        { log },
        { url: redis.url, site, now: options.now, turnTtlMs: 1000, ...ofRedis },
      ),
    )
    await reached(coordination)
    const metrics = createMetrics()
    const seen = through ? through(coordination) : coordination
    const store = await openStore(
      folder.path,
      { minFreeFraction: 0, ...options, coordination: seen },
      { log, metrics },
    )
    owned.defer(() => store.close())
    return { store, coordination, metrics }
  }
  const a = await opened(optionsOfA)
  const b = await opened(optionsOfB)
  const all = owned.move()
  return { root: folder.path, site, a, b, [Symbol.asyncDispose]: () => all.disposeAsync() }
}

export async function reached(coordination: Coordination): Promise<void> {
  const reach = () =>
    coordination.reach().then(
      () => true,
      () => false,
    )
  await until(reach, { what: 'Redis to answer' })
}
