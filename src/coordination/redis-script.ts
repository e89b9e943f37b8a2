/** A Lua script of Redis: sent by its digest, and whole when Redis does not know it (any longer). */
import { createHash } from 'node:crypto'
import type { Redis } from 'ioredis'

/** Rejects with what Redis or the connection says. */
export type RedisScript = (
  redis: Redis,
  keys: readonly string[],
  args: readonly (string | number)[],
) => Promise<unknown>

export function redisScript(text: string): RedisScript {
  const digest = createHash('sha1').update(text).digest('hex')
  return async (redis, keys, args) => {
    try {
      return await redis.evalsha(digest, keys.length, ...keys, ...args)
    } catch (error) {
      if (!(error instanceof Error) || !error.message.startsWith('NOSCRIPT ')) throw error
      return redis.eval(text, keys.length, ...keys, ...args)
    }
  }
}
