/**
 * What the events of the last minute said of each tag; bounded, and never silently incomplete. It belongs to whoever
 * hears the events, and is counted on that process's clock.
 */
import type { RepositoryName, Tag } from '../oci/reference.ts'
import { type Announced, type HeardChange, SETTLED_MS } from './freshness.ts'

/** `key` is a tag's, a repository's or everything's; of two announcements of a key the later has the greater number. */
export interface Announcement {
  readonly key: string
  readonly said: Announced
  readonly number: number
  readonly atMs: number
}

export interface Announcements {
  /** What is said now under each key that these changes touch. */
  hear(name: RepositoryName, changes: readonly HeardChange[]): Announcement[]
  /** Undefined: nothing was announced within `SETTLED_MS`. */
  of(name: RepositoryName, tag: Tag): Announced | undefined
  /** All that are not settled. */
  all(): Announcement[]
  /** Undefined once it is settled. */
  at(key: string): Announcement | undefined
  /** Forgets what has been settled since it was called last. */
  settle(): Announcement[]
}

export interface AnnouncementsOptions {
  /** Milliseconds that only go forward. */
  readonly now: () => number
  /** Default 100 000. With more within a minute, no tag is settled until a minute later. */
  readonly maxEntries?: number | undefined
}

/** A colon is in no name and in no tag. Without a tag: every tag of the repository. */
export function announcementKey(name: RepositoryName, tag?: Tag): string {
  return `${name}:${tag ?? ''}`
}

/** Every tag of every repository. */
export const EVERYTHING = ''

/** What several sources say together; undefined are those that say nothing. */
export function together(...all: readonly (Announced | undefined)[]): Announced | undefined {
  const [said, ...others] = all.filter((each) => each !== undefined)
  return others.every((other) => other === said) ? said : 'disputed'
}

export function createAnnouncements({ now, maxEntries = 100_000 }: AnnouncementsOptions): Announcements {
  // Oldest first: a key that is announced again moves to the end.
  const entries = new Map<string, Announcement>()
  let everything: Announcement | undefined
  let numbered = 0

  const unlessSettled = (entry: Announcement | undefined): Announcement | undefined =>
    entry && now() - entry.atMs < SETTLED_MS ? entry : undefined

  function add(key: string, said: Announced): Announcement {
    // Whatever contradicts a dispute prolongs it; only time settles one.
    const entry = {
      key,
      said: together(unlessSettled(entries.get(key))?.said, said) ?? said,
      number: ++numbered,
      atMs: now(),
    }
    entries.delete(key)
    entries.set(key, entry)
    return entry
  }

  /** Forgetting what is not settled would pass a late answer for a sound one: then everything is in doubt. */
  function makeRoom(): Announcement[] {
    if (entries.size <= maxEntries) return []
    for (const key of entries.keys()) {
      if (entries.size <= maxEntries) break
      entries.delete(key)
    }
    everything = { key: EVERYTHING, said: 'disputed', number: ++numbered, atMs: now() }
    return [everything]
  }

  function settle(): Announcement[] {
    const settled: Announcement[] = []
    for (const entry of entries.values()) {
      if (unlessSettled(entry)) break
      entries.delete(entry.key)
      settled.push(entry)
    }
    if (everything && !unlessSettled(everything)) {
      settled.push(everything)
      everything = undefined
    }
    return settled
  }

  const at = (key: string): Announcement | undefined =>
    unlessSettled(key === EVERYTHING ? everything : entries.get(key))

  return {
    hear(name, changes) {
      const said = changes.flatMap(({ tag, digest }) => {
        if (tag) return [add(announcementKey(name, tag), digest ?? 'disputed')]
        return pushesNoTag({ digest }) ? [] : [add(announcementKey(name), 'disputed')]
      })
      return [...said, ...makeRoom()]
    },
    of(name, tag) {
      const keys = [announcementKey(name, tag), announcementKey(name), EVERYTHING]
      return together(...keys.map((key) => at(key)?.said))
    },
    all: () => [...entries.values(), ...(everything ? [everything] : [])].filter(unlessSettled),
    at,
    settle,
  }
}

/** A manifest that was pushed by its digest, as those of each platform are: no tag becomes another by it. */
function pushesNoTag({ digest }: Pick<HeardChange, 'digest'>): boolean {
  return digest !== undefined && digest !== 'gone'
}
