/**
 * Writes on their way to the primary, through any process of the site. What overlapped what is decided in Redis; a write
 * that Redis does not know at its end has no outcome that may be recorded.
 */
import { randomBytes } from 'node:crypto'
import type { RepositoryName, Tag } from '../oci/reference.ts'
import { together } from './announcements.ts'
import type { Beats } from './beats.ts'
import {
  type Announced,
  type Freshness,
  FreshnessUnavailableError,
  type Observation,
  type PendingWrite,
  SETTLED_MS,
} from './freshness.ts'
import { announcedOf, textsOf } from './redis-reply.ts'
import { BEGIN_WRITE, END_WRITE } from './redis-scripts.ts'
import type { RedisSession } from './redis-session.ts'

export interface RedisWritesDeps {
  readonly session: RedisSession
  readonly beats: Beats
}

export interface RedisWrites extends Pick<Freshness, 'beginWrite' | 'endWrite'> {
  /** No write of this process is on its way. */
  isIdle(): boolean
}

export interface RedisWritesOptions {
  /** A write goes on without Redis: nothing is served unasked that it could make wrong. */
  readonly goOnWithout: boolean
  readonly now: () => number
}

/** What was known when the write began. */
interface Begun {
  readonly id: string
  readonly startedAtMs: number
  readonly order: number
  readonly epoch: string | undefined
  readonly announced: ReadonlyMap<Tag, Announced | undefined>
}

export function createRedisWrites(
  { session, beats }: RedisWritesDeps,
  { goOnWithout, now }: RedisWritesOptions,
): RedisWrites {
  const underWay = new Map<PendingWrite, Begun>()
  const random = () => randomBytes(16).toString('hex')

  async function begin(name: RepositoryName, tags: readonly Tag[], id: string): Promise<Begun> {
    const startedAtMs = now()
    const process = await session.begun()
    const args = [random(), name, id, process, beats.nonce(), JSON.stringify(tags)]
    const [order, epoch, ...said] = textsOf(await session.run(BEGIN_WRITE, args))
    return {
      id,
      startedAtMs,
      order: Number(order),
      epoch: epoch || undefined,
      announced: new Map(tags.map((tag, index) => [tag, announcedOf(said[index])])),
    }
  }

  async function beginWrite(name: RepositoryName, written: readonly Tag[]): Promise<PendingWrite> {
    const write: PendingWrite = { name, tags: [...written] }
    const id = random()
    try {
      underWay.set(write, await begin(name, write.tags, id))
    } catch (error) {
      if (!(error instanceof FreshnessUnavailableError) || !goOnWithout) throw error
      // Whether Redis took note of it is not known; its end takes it back all the same, and has no outcome.
      underWay.set(write, { id, startedAtMs: 0, order: 0, epoch: undefined, announced: new Map() })
    }
    return write
  }

  async function endWrite(write: PendingWrite): Promise<ReadonlyMap<Tag, Observation>> {
    const begun = underWay.get(write)
    underWay.delete(write)
    const args = [random(), write.name, begun?.id ?? '', JSON.stringify(write.tags)]
    try {
      const reply = textsOf(await session.run(END_WRITE, args))
      return begun && begun.order > 0 ? outcomesOf(write, begun, reply) : new Map()
    } catch (error) {
      if (!(error instanceof FreshnessUnavailableError)) throw error
      // What was asked while it was on its way may be recorded after it, by a process that reaches Redis.
      session.giveUpState()
      return new Map()
    }
  }

  function outcomesOf(write: PendingWrite, begun: Begun, reply: readonly string[]): Map<Tag, Observation> {
    const [repositoryGeneration = '', heardGeneration = '', ...rest] = reply
    const { order, startedAtMs } = begun
    // Of a write that took so long, events may have been heard and settled meanwhile.
    const epoch = now() - startedAtMs < SETTLED_MS ? begun.epoch : undefined
    const common = { name: write.name, repositoryGeneration, heardGeneration, epoch, order, startedAtMs }
    const outcomes = new Map<Tag, Observation>()
    // By threes: a tag, its generation, what is announced of it.
    for (let index = 0; index < rest.length; index += 3) {
      const [text, tagGeneration = '', said] = rest.slice(index, index + 3)
      const tag = write.tags.find((each) => each === text)
      if (!tag) continue
      const announced = together(begun.announced.get(tag), announcedOf(said))
      outcomes.set(tag, { ...common, tag, tagGeneration, announced })
    }
    return outcomes
  }

  return { beginWrite, endWrite, isIdle: () => underWay.size === 0 }
}
