/**
 * Freshness for one process, in bounded memory. What is forgotten for want of room comes back under another
 * generation: every observation made before then falls, so forgetting costs a question and never a wrong answer.
 */
import { randomBytes } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import type { Digest } from '../oci/digest.ts'
import type { RepositoryName, Tag } from '../oci/reference.ts'
import type { Freshness, Observation, PendingWrite } from './freshness.ts'

export interface MemoryFreshnessOptions {
  /** `tags.trust`: how long a confirmation holds, in milliseconds; default 0, which confirms nothing. */
  readonly trustMs?: number | undefined
  /** Tags remembered, and as many repositories; default 50 000. */
  readonly maxEntries?: number | undefined
  /** Milliseconds that only go forward; default `performance.now`. */
  readonly now?: (() => number) | undefined
}

interface TagState {
  readonly generation: string
  /** The latest answer of the primary under this generation and one of its repository. */
  confirmation?: Confirmation
}

interface Confirmation {
  readonly repositoryGeneration: string
  readonly digest: Digest
  /** When the question was asked: what the primary said holds from then on, not from when we heard it. */
  readonly startedAtMs: number
}

/** A write under way, with the tags that another write touched meanwhile. */
interface ActiveWrite extends PendingWrite {
  readonly startedAtMs: number
  readonly overlapped: Set<Tag>
}

export function createMemoryFreshness(options: MemoryFreshnessOptions = {}): Freshness {
  const { trustMs = 0, maxEntries = 50_000, now = () => performance.now() } = options
  const repositories = new LRUCache<RepositoryName, string>({ max: maxEntries })
  const tags = new LRUCache<string, TagState>({ max: maxEntries })
  const active = new Map<RepositoryName, Set<ActiveWrite>>()

  const newGeneration = (): string => randomBytes(16).toString('hex')
  /** A colon is in no name and in no tag. */
  const keyOf = (name: RepositoryName, tag: Tag): string => `${name}:${tag}`

  function repositoryGeneration(name: RepositoryName): string {
    const known = repositories.get(name)
    if (known !== undefined) return known
    const made = newGeneration()
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

  function renew({ name, tags: written }: PendingWrite): void {
    if (written.length === 0) repositories.set(name, newGeneration())
    for (const tag of written) tags.set(keyOf(name, tag), { generation: newGeneration() })
  }

  function confirmation(name: RepositoryName, tag: Tag): Confirmation | undefined {
    const found = tags.get(keyOf(name, tag))?.confirmation
    return found?.repositoryGeneration === repositories.get(name) ? found : undefined
  }

  function observe(name: RepositoryName, tag: Tag, startedAtMs: number): Observation {
    return {
      name,
      tag,
      repositoryGeneration: repositoryGeneration(name),
      tagGeneration: tagState(name, tag).generation,
      startedAtMs,
    }
  }

  function generationsStand({ name, tag, ...seen }: Observation): boolean {
    return (
      repositoryGeneration(name) === seen.repositoryGeneration &&
      tagState(name, tag).generation === seen.tagGeneration
    )
  }

  return {
    confirmed(name, tag) {
      if (trustMs === 0) return undefined
      const found = confirmation(name, tag)
      return found && now() - found.startedAtMs < trustMs ? found.digest : undefined
    },

    observe: (name, tag) => observe(name, tag, now()),

    stands(observation) {
      if (!generationsStand(observation)) return false
      // Of two answers the one asked for later is believed: an overtaken one must not put an older digest back.
      const latest = confirmation(observation.name, observation.tag)
      return latest === undefined || latest.startedAtMs <= observation.startedAtMs
    },

    confirm(observation, digest) {
      const { name, tag, startedAtMs } = observation
      if (!generationsStand(observation)) return false
      const latest = confirmation(name, tag)
      if (latest && latest.startedAtMs > startedAtMs) return latest.digest === digest
      tagState(name, tag).confirmation = {
        repositoryGeneration: observation.repositoryGeneration,
        digest,
        startedAtMs,
      }
      return true
    },

    // Overlaps no write under way: it may be the event of that very write, which can arrive before its answer.
    renew: (name, written) => renew({ name, tags: written }),

    beginWrite(name, written) {
      const write: ActiveWrite = { name, tags: [...written], startedAtMs: now(), overlapped: new Set() }
      const others = active.get(name) ?? new Set()
      for (const other of others) overlap(write, other)
      active.set(name, others.add(write))
      renew(write)
      return write
    },

    endWrite(pending) {
      renew(pending)
      const others = active.get(pending.name)
      const write = [...(others ?? [])].find((candidate) => candidate === pending)
      if (!others || !write) return new Map() // Ended before: its outcome has been told once.
      others.delete(write)
      if (others.size === 0) active.delete(write.name)
      const alone = write.tags.filter((tag) => !write.overlapped.has(tag))
      return new Map(alone.map((tag) => [tag, observe(write.name, tag, write.startedAtMs)]))
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
      if (against.tags.length === 0 || against.tags.includes(tag)) write.overlapped.add(tag)
    }
  }
}
