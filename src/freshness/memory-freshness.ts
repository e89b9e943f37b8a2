/**
 * Freshness for one process, in bounded memory. What is forgotten for want of room comes back under another
 * generation: every observation made before then falls, so forgetting costs a question and never a wrong answer.
 */
import { randomBytes } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import type { Digest } from '../oci/digest.ts'
import type { RepositoryName, Tag } from '../oci/reference.ts'
import { createAnnouncements, together } from './announcements.ts'
import {
  type Announced,
  type Epochs,
  type Freshness,
  type HeardChange,
  type Observation,
  type PendingWrite,
  SETTLED_MS,
} from './freshness.ts'

export interface MemoryFreshnessOptions {
  /** `tags.trust`: how long a confirmation holds, in milliseconds; default 0, which confirms nothing. */
  readonly trustMs?: number | undefined
  /** `tags.maxstaleness` where `tags.freshness` is `watermark`; default undefined: no watermark confirms anything. */
  readonly maxStalenessMs?: number | undefined
  /** Tags remembered, and as many repositories; default 50 000. */
  readonly maxEntries?: number | undefined
  /** Milliseconds that only go forward; default `performance.now`. */
  readonly now?: (() => number) | undefined
}

interface RepositoryState {
  readonly generation: string
  readonly heardGeneration: string
}

interface TagState {
  readonly generation: string
  /** The latest answer of the primary under this generation and one of its repository. */
  confirmation?: Confirmation
}

interface Confirmation {
  readonly repositoryGeneration: string
  readonly heardGeneration: string
  /** The epoch whose watermark covers it; undefined: none does. */
  readonly epoch: string | undefined
  readonly digest: Digest
  /** When the question was asked: what the primary said holds from then on, not from when we heard it. */
  readonly startedAtMs: number
  readonly order: number
  /** A write of the tag was on its way: what its end makes of the answer is not known yet. */
  readonly isBesideWrite: boolean
}

/** A write under way, with the tags that another write touched meanwhile. */
interface ActiveWrite extends PendingWrite {
  readonly startedAtMs: number
  readonly order: number
  readonly epoch: string | undefined
  /** As of its beginning; by its end they may have been settled, when its answer was not asked for late enough. */
  readonly announced: ReadonlyMap<Tag, Announced | undefined>
  readonly overlapped: Set<Tag>
}

export function createMemoryFreshness(options: MemoryFreshnessOptions = {}): Freshness & Epochs {
  const { trustMs = 0, maxStalenessMs, maxEntries = 50_000, now = () => performance.now() } = options
  const confirmsNothing = trustMs === 0 && maxStalenessMs === undefined
  const repositories = new LRUCache<RepositoryName, RepositoryState>({ max: maxEntries })
  const tags = new LRUCache<string, TagState>({ max: maxEntries })
  const active = new Map<RepositoryName, Set<ActiveWrite>>()
  const announcements = createAnnouncements({ now })
  let observed = 0
  let epoch: string | undefined
  let asOfMs: number | undefined

  const newGeneration = (): string => randomBytes(16).toString('hex')
  /** A colon is in no name and in no tag. */
  const keyOf = (name: RepositoryName, tag: Tag): string => `${name}:${tag}`

  function repositoryState(name: RepositoryName): RepositoryState {
    const known = repositories.get(name)
    if (known) return known
    const made = { generation: newGeneration(), heardGeneration: newGeneration() }
    repositories.set(name, made)
    return made
  }

  function tagState(name: RepositoryName, tag: Tag): TagState {
    const key = keyOf(name, tag)
    const known = tags.get(key)
    if (known) return known
    const made = { generation: newGeneration() }
    tags.set(key, made)
    return made
  }

  function renewRepository(name: RepositoryName): void {
    repositories.set(name, { ...repositoryState(name), generation: newGeneration() })
  }

  function renew({ name, tags: written }: PendingWrite): void {
    if (written.length === 0) renewRepository(name)
    for (const tag of written) tags.set(keyOf(name, tag), { generation: newGeneration() })
  }

  function confirmation(name: RepositoryName, tag: Tag): Confirmation | undefined {
    const found = tags.get(keyOf(name, tag))?.confirmation
    return found?.repositoryGeneration === repositories.get(name)?.generation ? found : undefined
  }

  function isCovered(name: RepositoryName, found: Confirmation): boolean {
    if (maxStalenessMs === undefined || asOfMs === undefined || found.epoch === undefined) return false
    if (found.epoch !== epoch || now() - asOfMs > maxStalenessMs) return false
    return found.heardGeneration === repositories.get(name)?.heardGeneration
  }

  type Asked = Pick<Observation, 'order' | 'startedAtMs' | 'epoch'>
  const asked = (): Asked => ({ order: ++observed, startedAtMs: now(), epoch })

  function observe(name: RepositoryName, tag: Tag, when: Asked): Observation {
    const { generation, heardGeneration } = repositoryState(name)
    return {
      name,
      tag,
      repositoryGeneration: generation,
      tagGeneration: tagState(name, tag).generation,
      heardGeneration,
      announced: announcements.of(name, tag),
      ...when,
    }
  }

  function generationsStand({ name, tag, ...seen }: Observation): boolean {
    return (
      repositoryState(name).generation === seen.repositoryGeneration &&
      tagState(name, tag).generation === seen.tagGeneration
    )
  }

  function confirm(observation: Observation, digest: Digest): boolean {
    const { name, tag, order, announced } = observation
    if (!generationsStand(observation)) return false
    const latest = confirmation(name, tag)
    if (latest && latest.order > order) return latest.digest === digest
    const agrees = announced === undefined || announced === digest
    const { repositoryGeneration, heardGeneration, startedAtMs } = observation
    tagState(name, tag).confirmation = {
      repositoryGeneration,
      heardGeneration,
      epoch: agrees ? observation.epoch : undefined,
      digest,
      startedAtMs,
      order,
      isBesideWrite: [...(active.get(name) ?? [])].some((write) => concerns(write, tag)),
    }
    return true
  }

  function hear(name: RepositoryName, changes: readonly HeardChange[]): void {
    announcements.settle()
    announcements.hear(name, changes)
    for (const { tag } of changes) {
      if (tag) tags.set(keyOf(name, tag), { generation: newGeneration() })
      else renewRepository(name)
    }
    repositories.set(name, { ...repositoryState(name), heardGeneration: newGeneration() })
  }

  function beginWrite(name: RepositoryName, written: readonly Tag[]): ActiveWrite {
    const announced = new Map(written.map((tag) => [tag, announcements.of(name, tag)]))
    const write = { name, tags: [...written], ...asked(), announced, overlapped: new Set<Tag>() }
    const others = active.get(name) ?? new Set()
    for (const other of others) overlap(write, other)
    active.set(name, others.add(write))
    renew(write)
    return write
  }

  function ownOutcome(write: ActiveWrite, tag: Tag): Observation {
    const { order, startedAtMs } = write
    // Of a write that took so long, events may have been heard and settled meanwhile.
    const epochThen = now() - startedAtMs < SETTLED_MS ? write.epoch : undefined
    const observation = observe(write.name, tag, { order, startedAtMs, epoch: epochThen })
    return { ...observation, announced: together(write.announced.get(tag), observation.announced) }
  }

  function endWrite(pending: PendingWrite): ReadonlyMap<Tag, Observation> {
    renew(pending)
    const others = active.get(pending.name)
    const write = [...(others ?? [])].find((candidate) => candidate === pending)
    if (!others || !write) return new Map() // Ended before: its outcome has been told once.
    others.delete(write)
    if (others.size === 0) active.delete(write.name)
    const alone = write.tags.filter((tag) => !write.overlapped.has(tag))
    return new Map(alone.map((tag) => [tag, ownOutcome(write, tag)]))
  }

  return {
    async confirmed(name, tag) {
      if (confirmsNothing) return undefined
      const found = confirmation(name, tag)
      if (!found || found.isBesideWrite) return undefined
      return now() - found.startedAtMs < trustMs || isCovered(name, found) ? found.digest : undefined
    },
    observe: async (name, tag) => observe(name, tag, asked()),
    observeAll: async (name, all) => {
      const when = asked()
      return new Map(all.map((tag) => [tag, observe(name, tag, when)]))
    },
    async stands(observation) {
      if (!generationsStand(observation)) return false
      // Of two answers the one asked for later is believed: an overtaken one must not put an older digest back.
      const latest = confirmation(observation.name, observation.tag)
      return latest === undefined || latest.order <= observation.order
    },
    confirm: async (observation, digest) => confirm(observation, digest),
    // Overlaps no write under way: it may be the event of that very write, which can arrive before its answer.
    hear: async (name, changes) => hear(name, changes),
    beginWrite: async (name, written) => beginWrite(name, written),
    endWrite: async (write) => endWrite(write),
    async watermark() {
      return epoch === undefined || asOfMs === undefined ? undefined : { epoch, ageMs: now() - asOfMs }
    },
    async beginEpoch() {
      epoch = newGeneration()
      asOfMs = undefined
      return epoch
    },
    async advance(of, toMs) {
      if (of === epoch) asOfMs = Math.max(asOfMs ?? toMs, Math.min(toMs, now()))
    },
  }
}

/** Two writes of one repository under way at once: which of them the primary applied last, nobody here can say. */
function overlap(one: ActiveWrite, other: ActiveWrite): void {
  for (const [write, against] of [
    [one, other],
    [other, one],
  ] as const) {
    for (const tag of write.tags) {
      if (concerns(against, tag)) write.overlapped.add(tag)
    }
  }
}

function concerns({ tags }: PendingWrite, tag: Tag): boolean {
  return tags.length === 0 || tags.includes(tag)
}
