/**
 * Freshness of the processes of a site, as one state in Redis: what one of them writes or hears stands for all when it is
 * done. No answer from Redis in time is never an answer: the tag is asked of the primary. No wall clock and no time to
 * live decides anything; each process counts on its own monotonic clock (beats.ts).
 */
import { randomBytes } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import type { Logger } from '../log.ts'
import type { Digest } from '../oci/digest.ts'
import type { RepositoryName, Tag } from '../oci/reference.ts'
import type { RedisUrl } from '../redis-connection.ts'
import { createBeats } from './beats.ts'
import { forEachChunk } from './chunks.ts'
import { type Epochs, type Freshness, FreshnessUnavailableError, type Observation } from './freshness.ts'
import { createRedisEpochs } from './redis-epochs.ts'
import { announcedOf, digestOf, pairsOf, textsOf } from './redis-reply.ts'
import { BEAT, BURY, CONFIRM, CONFIRMED, OBSERVE, STANDS, WATERMARK } from './redis-scripts.ts'
import { createRedisSession } from './redis-session.ts'
import { createRedisWrites } from './redis-writes.ts'

export interface RedisFreshnessOptions {
  readonly url: RedisUrl
  /** `site.name`: the processes of one site share one state, and sites that share a Redis do not. */
  readonly site: string
  /** `tags.trust`: how long a confirmation holds in the process that asked, in milliseconds; default 0. */
  readonly trustMs?: number | undefined
  /** `tags.maxstaleness` where `tags.freshness` is `watermark`; default undefined: no watermark confirms anything. */
  readonly maxStalenessMs?: number | undefined
  /** Tags whose questions are remembered for `trustMs`; default 50 000. */
  readonly maxEntries?: number | undefined
  /** What a pull waits for Redis at the most; default 200, at the most 2000. */
  readonly askMs?: number | undefined
  /** How often a process shows that it is there; the age of a watermark is over by that much at the most. Default 500. */
  readonly beatEveryMs?: number | undefined
  /** Milliseconds that only go forward; default `performance.now`. */
  readonly now?: (() => number) | undefined
}

/** The question of this process that the latest answer in Redis may be to. */
interface Asked {
  readonly repositoryGeneration: string
  readonly tagGeneration: string
  readonly order: number
  readonly startedAtMs: number
}

/** What Redis says of a tag when a question is asked. */
type Seen = Omit<Observation, 'name' | 'tag' | 'startedAtMs'>

/** No generation is empty, so that what is observed without Redis never stands. */
const UNSEEN: Seen = {
  repositoryGeneration: '',
  tagGeneration: '',
  heardGeneration: '',
  epoch: undefined,
  announced: undefined,
  order: 0,
}

/** A watermark that lies so far in the future was told by a clock that does not run at the same rate as this one. */
const AHEAD_MS = 100
/** Every so many beats the processes that have fallen silent are looked for. */
const BEATS_BETWEEN_BURIALS = 120

/** Throws when the URL is none; a Redis that is away only means that the primary is asked. */
export function createRedisFreshness(
  { log }: { readonly log: Logger },
  options: RedisFreshnessOptions,
): Freshness & Epochs & AsyncDisposable {
  const { url, site, trustMs = 0, maxStalenessMs, maxEntries = 50_000 } = options
  const { askMs = 200, beatEveryMs = 500, now = () => performance.now() } = options
  const confirmsNothing = trustMs === 0 && maxStalenessMs === undefined
  const beats = createBeats({ now })
  const session = createRedisSession(
    { log, opened: () => void beat() },
    { url, root: `geo-registry:{${site}}:freshness:`, askMs },
  )
  const epochs = createRedisEpochs({ session, beats }, { now })
  const writes = createRedisWrites({ session, beats }, { goOnWithout: confirmsNothing, now })
  const asked = new LRUCache<string, Asked>({ max: maxEntries })
  let beaten = 0
  const beating = setInterval(() => void beat(), beatEveryMs).unref()

  async function beat(): Promise<void> {
    const id = session.id()
    if (id === undefined) return
    const buries = ++beaten % BEATS_BETWEEN_BURIALS === 0
    const wantsAll = epochs.isHolder() || buries
    try {
      const all = await session.run(BEAT, [id, beats.next(), wantsAll ? 'all' : ''])
      if (wantsAll) beats.read(pairsOf(all))
      if (buries) await session.run(BURY, beats.silent().flat())
      await epochs.settle()
    } catch (error) {
      unlessUnavailable(error)
    }
  }

  const generation = (): string => randomBytes(16).toString('hex')

  async function observe(name: RepositoryName, tag: Tag): Promise<Observation> {
    const startedAtMs = now()
    try {
      const reply = textsOf(await session.ask(OBSERVE, [generation(), name, tag]))
      return { name, tag, startedAtMs, ...seenOf(reply, 0) }
    } catch (error) {
      unlessUnavailable(error)
      return { name, tag, startedAtMs, ...UNSEEN }
    }
  }

  async function observeAll(
    name: RepositoryName,
    tags: readonly Tag[],
  ): Promise<ReadonlyMap<Tag, Observation>> {
    const startedAtMs = now()
    const all = new Map<Tag, Observation>(tags.map((tag) => [tag, { name, tag, startedAtMs, ...UNSEEN }]))
    try {
      await forEachChunk(tags.length, async (from, to) => {
        const part = tags.slice(from, to)
        const reply = textsOf(await session.run(OBSERVE, [generation(), name, ...part]))
        for (const [index, tag] of part.entries()) {
          all.set(tag, { name, tag, startedAtMs, ...seenOf(reply, index) })
        }
      })
    } catch (error) {
      unlessUnavailable(error)
    }
    return all
  }

  async function stands(seen: Observation): Promise<boolean> {
    if (seen.tagGeneration === '') return false
    try {
      return (await session.ask(STANDS, under(seen))) === 1
    } catch (error) {
      unlessUnavailable(error)
      return false
    }
  }

  async function confirm(seen: Observation, digest: Digest): Promise<boolean> {
    if (seen.tagGeneration === '') return false
    const agrees = seen.announced === undefined || seen.announced === digest
    const epoch = (agrees && seen.epoch) || '-'
    try {
      const done = await session.ask(CONFIRM, [...under(seen), seen.heardGeneration, epoch, digest])
      if (done === 2 && trustMs > 0) asked.set(`${seen.name}:${seen.tag}`, seen)
      return done === 2 || done === 1
    } catch (error) {
      unlessUnavailable(error)
      return false
    }
  }

  /** Whether the latest answer is to a question of this process, which is not too long ago. */
  function isTrusted(name: RepositoryName, tag: Tag, answer: Omit<Asked, 'startedAtMs'>): boolean {
    const own = asked.get(`${name}:${tag}`)
    if (!own || now() - own.startedAtMs >= trustMs) return false
    return (
      own.order === answer.order &&
      own.repositoryGeneration === answer.repositoryGeneration &&
      own.tagGeneration === answer.tagGeneration
    )
  }

  /** Undefined: no watermark was told, or none that this process can place on its clock. */
  function ageMs([holder, asOf, told]: readonly (string | undefined)[]): number | undefined {
    if (!holder || !asOf) return undefined
    const momentMs = holder === session.id() ? Number(asOf) : beats.moment(told ?? '')
    if (momentMs === undefined || momentMs > now() + AHEAD_MS) return undefined
    return Math.max(0, now() - momentMs)
  }

  async function confirmed(name: RepositoryName, tag: Tag): Promise<Digest | undefined> {
    const id = session.id()
    if (confirmsNothing) return undefined
    try {
      const reply = textsOf(await session.ask(CONFIRMED, [name, tag, id ?? '']))
      const [digest, repositoryGeneration = '', tagGeneration = '', order, epoch, ...told] = reply
      if (isTrusted(name, tag, { repositoryGeneration, tagGeneration, order: Number(order) })) {
        return digestOf(digest)
      }
      if (maxStalenessMs === undefined || !epoch) return undefined
      const age = ageMs(told)
      return age !== undefined && age <= maxStalenessMs ? digestOf(digest) : undefined
    } catch (error) {
      unlessUnavailable(error)
      return undefined
    }
  }

  return {
    confirmed,
    observe,
    observeAll,
    stands,
    confirm,
    beginWrite: writes.beginWrite,
    endWrite: writes.endWrite,
    hear: epochs.hear,
    beginEpoch: epochs.beginEpoch,
    advance: epochs.advance,
    async watermark() {
      try {
        const [epoch, ...told] = textsOf(await session.ask(WATERMARK, [session.id() ?? '']))
        const age = ageMs(told)
        return epoch && age !== undefined ? { epoch, ageMs: age } : undefined
      } catch (error) {
        unlessUnavailable(error)
        return undefined
      }
    },
    async [Symbol.asyncDispose]() {
      clearInterval(beating)
      const id = session.id()
      try {
        // It is gone at once for the others, unless a write of its may still reach the primary.
        if (id !== undefined && writes.isIdle()) await session.ask(BURY, [id, beats.nonce()])
      } catch (error) {
        unlessUnavailable(error)
      }
      session.close()
    },
  }
}

function seenOf(reply: readonly string[], index: number): Seen {
  const [repositoryGeneration = '', heardGeneration = '', order, epoch] = reply
  const [tagGeneration = '', said] = reply.slice(4 + 2 * index)
  return {
    repositoryGeneration,
    tagGeneration,
    heardGeneration,
    epoch: epoch || undefined,
    announced: announcedOf(said),
    order: Number(order),
  }
}

function under({ name, tag, ...seen }: Observation): (string | number)[] {
  return [name, tag, seen.repositoryGeneration, seen.tagGeneration, seen.order]
}

/** That Redis is away has been logged where it was noticed; whoever asks hears no. */
function unlessUnavailable(error: unknown): void {
  if (!(error instanceof FreshnessUnavailableError)) throw error
}
