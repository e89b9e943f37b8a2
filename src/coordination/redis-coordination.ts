/**
 * What several processes on one store agree on, in Redis: turns to change a repository, and what was removed. Redis away
 * means that nothing is changed; a flushed or restarted Redis costs each answer under way one more question.
 */
import { Redis } from 'ioredis'
import type { Logger } from '../log.ts'
import { type RedisUrl, workingOptions } from '../redis-connection.ts'
import type { Coordination } from '../store/coordination.ts'
import { createRedisLine } from './redis-line.ts'
import { createRedisRemovals } from './redis-removals.ts'
import { createRedisTurns } from './redis-turns.ts'

export interface RedisCoordinationOptions {
  readonly url: RedisUrl
  /** Names the store among all of this Redis: the same for all processes on it, and for no others. */
  readonly site: string
  /** How long a holder that died keeps others from changing a repository, in milliseconds; default 5000. */
  readonly turnTtlMs?: number | undefined
  /** Removals kept; default 100 000. What is forgotten overrules every older mark. */
  readonly maxRemovals?: number | undefined
  /** How long one answer of Redis is waited for, in milliseconds; default 500. */
  readonly answerMs?: number | undefined
  /** Wall clock in milliseconds; default `Date.now`. */
  readonly now?: (() => number) | undefined
}

/** Needs Redis 6.2. To be disposed of after the store is closed; it connects by itself, and again. */
export function createRedisCoordination(
  { log }: { readonly log: Logger },
  options: RedisCoordinationOptions,
): Coordination & AsyncDisposable {
  const { url, answerMs, turnTtlMs: ttlMs, maxRemovals: maxKept, now } = options
  const prefix = `geo-registry:${options.site}:store:`
  const channel = `${prefix}said`
  const line = createRedisLine({ log }, { url, answerMs })
  const removals = createRedisRemovals(line, { key: `${prefix}removals`, channel, maxKept, now })
  const turns = createRedisTurns(line, { prefix, channel, ttlMs })
  // What is said here only saves questions and waiting: nothing depends on hearing it.
  const ear = new Redis(workingOptions(url))

  ear.on('error', () => undefined) // The other connection says it.
  ear.on('message', (_channel, said) => {
    const [, kind, rest = ''] = /^(removal|freed) (.*)$/s.exec(said) ?? []
    if (kind === 'removal') removals.heard(rest)
    else if (kind === 'freed') turns.heard(rest)
  })
  ear.subscribe(channel).catch(() => undefined) // Subscribed again with each connection; ended by `disconnect`.
  // Until then every mark is overruled.
  line.onReady(() => void removals.refresh().catch(() => undefined))

  return {
    shared: true,
    run: turns.run,
    mark: removals.mark,
    bury: removals.bury,
    overrules: (mark, ...keys) => removals.overrules(mark, keys),
    surelyOverrules: () => false,
    overruleAll: removals.overruleAll,
    reach: removals.refresh,
    idle: turns.idle,
    async [Symbol.asyncDispose]() {
      await turns.idle()
      ear.disconnect()
      line.close()
    },
  }
}
