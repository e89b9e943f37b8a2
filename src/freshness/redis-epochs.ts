/**
 * The side of the process that hears the primary's events. What is announced stays in its memory, and stands in Redis
 * for the other processes with the epoch it belongs to, from before that begins until it is settled on this process's
 * clock. So an epoch that begins after Redis forgot everything knows what was heard in the minute before.
 */
import { randomBytes } from 'node:crypto'
import type { RepositoryName } from '../oci/reference.ts'
import { type Announcement, type Announcements, createAnnouncements } from './announcements.ts'
import type { Beats } from './beats.ts'
import { forEachChunk } from './chunks.ts'
import { type Epochs, FreshnessUnavailableError, type HeardChange } from './freshness.ts'
import { pairsOf } from './redis-reply.ts'
import { ADVANCE, ANNOUNCE, BEGIN_EPOCH, HEAR, PREPARE_EPOCH, SETTLE } from './redis-scripts.ts'
import type { RedisSession } from './redis-session.ts'

export interface RedisEpochsDeps {
  readonly session: RedisSession
  readonly beats: Beats
}

export interface RedisEpochs extends Epochs {
  hear(name: RepositoryName, changes: readonly HeardChange[]): Promise<void>
  /** Takes from Redis what has been settled since. Throws `FreshnessUnavailableError`; what is left goes next time. */
  settle(): Promise<void>
  /** Whether this process began the epoch that it knows last. */
  isHolder(): boolean
}

/** The epoch that this process began last. */
interface Held {
  readonly id: string
  readonly session: string
  isBegun: boolean
}

export function createRedisEpochs(
  { session, beats }: RedisEpochsDeps,
  { now }: { readonly now: () => number },
): RedisEpochs {
  const announcements: Announcements = createAnnouncements({ now })
  /** Settled, and perhaps not yet taken from Redis. */
  let settled: Announcement[] = []
  let held: Held | undefined
  /** Sessions in which this process has begun epochs: what one of them does late is not done by another process. */
  const own = new Set<string>()

  async function hear(name: RepositoryName, changes: readonly HeardChange[]): Promise<void> {
    const said = announcements.hear(name, changes)
    const epoch = held?.id ?? ''
    const fresh = randomBytes(16).toString('hex')
    const tags = changes.flatMap(({ tag }) => tag ?? [])
    await forEachChunk(Math.max(changes.length, said.length, 1), async (from, to) => {
      const part = {
        all: tags.length < changes.length,
        tags: tags.slice(from, to),
        said: said.slice(from, to).map(({ key, number, said: what }) => [key, String(number), what]),
      }
      await session.run(HEAR, [fresh, name, epoch, JSON.stringify(part)])
    })
  }

  async function beginEpoch(): Promise<string> {
    const id = randomBytes(16).toString('hex')
    const beginning: Held = { id, session: await session.begun(), isBegun: false }
    // From now on what is heard is told under this epoch; what was heard before is told with it.
    held = beginning
    own.add(beginning.session)
    settled = []
    await session.run(PREPARE_EPOCH, [id, beginning.session])
    const keys = announcements.all().map(({ key }) => key)
    await forEachChunk(keys.length, async (from, to) => {
      // What has been settled meanwhile is left out, and what has been said anew is said anew.
      const said = keys.slice(from, to).flatMap((key) => announcements.at(key) ?? [])
      await session.run(ANNOUNCE, [id, ...said.flatMap(({ key, number, said: what }) => [key, number, what])])
    })
    await session.run(BEGIN_EPOCH, [id])
    if (session.id() !== beginning.session) throw lost()
    beginning.isBegun = true
    return id
  }

  async function advance(epoch: string, asOfMs: number): Promise<void> {
    if (held && !held.isBegun) throw lost()
    if (epoch !== held?.id) return
    if (session.id() !== held.session) throw lost()
    await settle()
    const moment = Math.min(asOfMs, now())
    const [state, all, holder] = partsOf(
      await session.run(ADVANCE, [epoch, moment, ...beats.tell(moment).flat()]),
    )
    beats.read(pairsOf(all))
    if (state === 'gone' || (typeof holder === 'string' && own.has(holder))) {
      held.isBegun = false
      throw lost()
    }
  }

  async function settle(): Promise<void> {
    settled.push(...announcements.settle())
    const epoch = held?.session === session.id() ? held?.id : undefined
    const part = settled
    settled = []
    if (epoch === undefined) return // None is told of them: there is no epoch, or it is over.
    try {
      await forEachChunk(part.length, async (from, to) => {
        const args = part.slice(from, to).flatMap(({ key, number }) => [key, number])
        await session.run(SETTLE, [epoch, ...args])
      })
    } catch (error) {
      // To settle twice does no harm. An epoch that has begun since does not know of it at all.
      if (epoch === held?.id) settled.push(...part)
      throw error
    }
  }

  return { hear, beginEpoch, advance, settle, isHolder: () => held?.isBegun === true }
}

function partsOf(reply: unknown): unknown[] {
  return Array.isArray(reply) ? reply : []
}

function lost(): FreshnessUnavailableError {
  return new FreshnessUnavailableError(
    'what was heard may have been lost with Redis: a new epoch has to begin',
  )
}
