/**
 * When each key has to run and how urgently, in two sorted sets in Redis beside BullMQ's own keys: what of several
 * wake-ups is sooner and what is more urgent is decided there, so that no two processes disagree. A run takes the record
 * of its key away as it begins; a record that is there when it ends came meanwhile.
 */
import type { Redis } from 'ioredis'

export interface Wanted {
  /** Wall-clock milliseconds, as BullMQ counts: where processes' clocks differ, delays are off by as much. */
  readonly atMs: number
  readonly priority: number
}

export interface WantedRuns {
  /** Keeps the sooner time and the more urgent priority; resolves with what is wanted now. Needs Redis 6.2 (`LT`). */
  add(key: string, wanted: Wanted): Promise<Wanted>
  read(key: string): Promise<Wanted | undefined>
  take(key: string): Promise<void>
}

export function createWantedRuns(redis: Redis, prefix: string): WantedRuns {
  const times = `${prefix}wanted-at`
  const priorities = `${prefix}wanted-priority`

  async function read(key: string): Promise<Wanted | undefined> {
    const [atMs, priority] = await answers(redis.multi().zscore(times, key).zscore(priorities, key).exec())
    return wantedOf(atMs, priority)
  }
  return {
    async add(key, wanted) {
      const [, , atMs, priority] = await answers(
        redis
          .multi()
          .zadd(times, 'LT', wanted.atMs, key)
          .zadd(priorities, 'LT', wanted.priority, key)
          .zscore(times, key)
          .zscore(priorities, key)
          .exec(),
      )
      return wantedOf(atMs, priority) ?? wanted
    },
    read,
    async take(key) {
      await answers(redis.multi().zrem(times, key).zrem(priorities, key).exec())
    },
  }
}

function wantedOf(atMs: unknown, priority: unknown): Wanted | undefined {
  if (atMs == null || priority == null) return undefined
  return { atMs: Number(atMs), priority: Number(priority) }
}

/** A transaction's answers; the first error that is among them is thrown. */
async function answers(transaction: Promise<[Error | null, unknown][] | null>): Promise<unknown[]> {
  const results = (await transaction) ?? []
  for (const [error] of results) if (error) throw error
  return results.map(([, answer]) => answer)
}
