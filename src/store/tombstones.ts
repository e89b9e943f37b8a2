/**
 * What was removed, and in which order against the requests under way: an answer to a request that was sent before a
 * removal was seen must not bring the removed thing back (DESIGN "Generations"). In memory: no request outlives us.
 */
import type { Mark } from './repository-index.ts'

export interface Tombstones {
  mark(): Mark
  /** Records a removal as seen now, or as part of one that was recorded before. */
  bury(key: string, removal?: Mark): Mark
  /** Whether any of the keys was removed since the mark, or so long ago that it is no longer known. */
  overrules(mark: Mark, ...keys: readonly string[]): boolean
}

/** Longer than any request lives. */
const KEEP_MS = 24 * 60 * 60 * 1000

/** Every pull of a tag that the primary does not have adds one. What is forgotten only costs a question (`overrules`). */
const MAX_KEPT = 100_000

export interface TombstoneOptions {
  /** Wall clock in milliseconds; default `Date.now`. */
  readonly now?: (() => number) | undefined
}

/** Marks do not outlive the process, so all are of one era. */
const ERA = 'here'

export function createTombstones(options: TombstoneOptions = {}): Tombstones {
  const now = options.now ?? Date.now
  // Oldest first: a key that is removed again moves to the end.
  const removals = new Map<string, Mark>()
  let sequence = 0
  let forgottenSequence = 0

  function forgetOld(): void {
    const before = now() - KEEP_MS
    for (const [key, removal] of removals) {
      if (removal.atMs > before) return
      removals.delete(key)
      forgottenSequence = Math.max(forgottenSequence, removal.sequence)
    }
  }

  function forgetOldest(): void {
    const oldest = removals.entries().next().value
    if (!oldest) return
    removals.delete(oldest[0])
    forgottenSequence = Math.max(forgottenSequence, oldest[1].sequence)
  }

  return {
    mark: () => ({ era: ERA, sequence, atMs: now() }),
    bury: (key, removal) => {
      forgetOld()
      if (!removal) sequence += 1
      const recorded = removal ?? { era: ERA, sequence, atMs: now() }
      if ((removals.get(key)?.sequence ?? 0) < recorded.sequence) {
        removals.delete(key)
        removals.set(key, recorded)
      }
      if (removals.size > MAX_KEPT) forgetOldest()
      return recorded
    },
    overrules: (mark, ...keys) =>
      forgottenSequence > mark.sequence ||
      keys.some((key) => (removals.get(key)?.sequence ?? 0) > mark.sequence),
  }
}
