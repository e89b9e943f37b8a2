/**
 * A connection to Redis that answers within a second, or says that it cannot: a process that waits for an answer holds
 * up its clients. What was sent and not answered is never sent again, for it may have been done.
 */
import { Redis } from 'ioredis'
import type { Logger } from '../log.ts'
import { askingOptions, type RedisUrl } from '../redis-connection.ts'
import { CoordinationUnavailableError } from '../store/coordination.ts'

export interface RedisLine {
  /** Rejects with `CoordinationUnavailableError` within a second; whether it was done is then not known. */
  ask<T>(command: (redis: Redis) => Promise<T>): Promise<T>
  /** Called whenever a connection is there, the first one included. */
  onReady(listener: () => void): void
  close(): void
}

export interface RedisLineOptions {
  readonly url: RedisUrl
  /** How long one answer is waited for, in milliseconds; default 500. */
  readonly answerMs?: number | undefined
  /** How long a connection is waited for that has just been lost, or never was, in milliseconds; default 400. */
  readonly patienceMs?: number | undefined
}

export function createRedisLine({ log }: { readonly log: Logger }, options: RedisLineOptions): RedisLine {
  const { url, answerMs = 500, patienceMs = 400 } = options
  const listeners = new Set<() => void>()
  const waiting = new Set<() => void>()
  /** Whether the connection answers, as far as is known. */
  let isReady = false
  let awaySinceMs = performance.now()
  let saidAway = false
  let closed = false
  const redis = new Redis({
    ...askingOptions(url),
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    // A peer that does not answer does not say goodbye either.
    disconnectTimeout: 100,
  })

  redis.on('error', (error) => report(error))
  redis.on('close', () => lost())
  redis.on('ready', () => {
    isReady = true
    if (saidAway) log.info('Redis answers again: changes of the store go on')
    saidAway = false
    for (const wake of waiting) wake()
    for (const listener of listeners) listener()
  })

  function lost(): void {
    if (!isReady) return
    isReady = false
    awaySinceMs = performance.now()
  }

  /** Every attempt fails while Redis is away: said once. */
  function report(error: unknown): void {
    if (saidAway || closed) return
    saidAway = true
    log.error({ error }, 'Redis cannot be reached: nothing is linked, tagged or removed here until it can')
  }

  async function connected(): Promise<void> {
    const leftMs = awaySinceMs + patienceMs - performance.now()
    if (isReady) return
    if (closed || leftMs <= 0) throw new CoordinationUnavailableError('Redis cannot be reached')
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const timer = setTimeout(() => {
      reject(new CoordinationUnavailableError('Redis cannot be reached'))
    }, leftMs)
    waiting.add(resolve)
    try {
      await promise
    } finally {
      clearTimeout(timer)
      waiting.delete(resolve)
    }
  }

  /** Rejects when an answer is late, and has the connection begun anew: a frozen Redis must not hold up each question. */
  function lateness(): { readonly late: Promise<never>; clear(): void } {
    const { promise, reject } = Promise.withResolvers<never>()
    const giveUp = () => {
      reject(new CoordinationUnavailableError(`Redis did not answer within ${answerMs} ms`))
      if (!isReady) return
      lost()
      report(new Error(`no answer within ${answerMs} ms`))
      redis.disconnect(true)
    }
    // This process may have been busy or stopped itself: what has arrived meanwhile is read first.
    let soon: NodeJS.Immediate | undefined
    const timer = setTimeout(() => {
      soon = setImmediate(giveUp)
    }, answerMs)
    return {
      late: promise,
      clear: () => {
        clearTimeout(timer)
        clearImmediate(soon)
      },
    }
  }

  return {
    ask: async (command) => {
      await connected()
      const { late, clear } = lateness()
      try {
        return await Promise.race([command(redis), late])
      } catch (cause) {
        if (cause instanceof CoordinationUnavailableError) throw cause
        const message = cause instanceof Error ? cause.message : String(cause)
        throw new CoordinationUnavailableError(`Redis: ${message}`, { cause })
      } finally {
        clear()
      }
    },
    onReady: (listener) => void listeners.add(listener),
    close: () => {
      closed = true
      redis.disconnect()
    },
  }
}
