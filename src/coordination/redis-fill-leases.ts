/** Fill leases in Redis: several processes on one store fetch each blob once. Nothing of it needs to outlive Redis. */
import { randomUUID } from 'node:crypto'
import { z } from 'zod'
import type { FillLeases } from '../fill/fill-leases.ts'
import { parseNews } from '../fill/fill-state.ts'
import type { Logger } from '../log.ts'
import type { Digest } from '../oci/digest.ts'
import type { RedisUrl } from '../redis-connection.ts'
import { LOOK, TAKE } from './fill-lease-scripts.ts'
import { createFollowing } from './redis-fill-follower.ts'
import { createHolder } from './redis-fill-holder.ts'
import { createFillLink } from './redis-fill-link.ts'

export interface RedisFillLeasesOptions {
  readonly url: RedisUrl
  /** `site.name`: processes of one site share a store, other sites on the same Redis do not. */
  readonly site: string
  /** How long a process may be silent before another goes on with its fetch; default 4000. */
  readonly ttlMs?: number | undefined
  /** Monotonic clock in milliseconds; default `performance.now`. */
  readonly now?: (() => number) | undefined
}

export interface RedisFillLeases extends FillLeases {
  /** Ends the connections; leases that are held run out. */
  close(): Promise<void>
}

/** After a question that was not answered the next ones are not asked for so long, but answered no. */
const PAUSE_MS = 1000
const ANSWER = z.tuple([z.number(), z.string()])

/** Throws when the URL is none; while Redis is away no lease can be had. */
export function createRedisFillLeases(
  { log }: { readonly log: Logger },
  options: RedisFillLeasesOptions,
): RedisFillLeases {
  const { url, site, ttlMs = 4000, now = () => performance.now() } = options
  const link = createFillLink(log, url, `geo-registry:${site}:fill:`)
  let silentUntilMs = Number.NEGATIVE_INFINITY

  /** Undefined: nobody answers. */
  async function ask(
    script: string,
    digest: Digest,
    ...args: readonly (string | number)[]
  ): Promise<[yes: boolean, said: string] | undefined> {
    if (now() < silentUntilMs) return undefined
    try {
      const [yes, said] = ANSWER.parse(await link.run(script, digest, ...args))
      return [yes === 1, said]
    } catch {
      // Redis is away, which the link has said.
      silentUntilMs = now() + PAUSE_MS
      return undefined
    }
  }

  return {
    async take(digest) {
      const token = randomUUID()
      const askedAtMs = now()
      const answer = await ask(TAKE, digest, token, ttlMs)
      if (!answer) return { kind: 'unreachable' }
      const [isMine, said] = answer
      if (!isMine) {
        return {
          kind: 'theirs',
          follow: (listener) => createFollowing(link, digest, listener, { patienceMs: ttlMs, now }),
        }
      }
      const news = parseNews(said)
      const left = news && 'state' in news ? news.state : undefined
      return { kind: 'mine', lease: createHolder(link, digest, { token, left, askedAtMs, ttlMs, now, log }) }
    },
    async isTaken(digest) {
      const answer = await ask(LOOK, digest)
      return answer?.[0]
    },
    async close() {
      link.close()
    },
  }
}
