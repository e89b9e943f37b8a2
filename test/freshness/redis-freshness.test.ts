/** Freshness in Redis keeps the contract, also in an instance that shares its Redis with others. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe } from 'vitest'
import { createRedisFreshness } from '../../src/freshness/redis-freshness.ts'
import { createLogger } from '../../src/log.ts'
import { freshnessContract } from '../contracts/freshness.contract.ts'
import { type RedisServer, startRedis } from '../support/redis.ts'

const log = createLogger({ level: 'silent' })
let redis: RedisServer
beforeAll(async () => {
  redis = await startRedis()
})
afterAll(() => redis[Symbol.asyncDispose]())

describe('freshness in Redis', () => {
  freshnessContract(
    async (settings) => {
      const freshness = createRedisFreshness(
        { log },
        { ...settings, askMs: 2000, url: redis.url, site: randomUUID() },
      )
      return { freshness, [Symbol.asyncDispose]: () => freshness[Symbol.asyncDispose]() }
    },
    { histories: 100 },
  )
})
