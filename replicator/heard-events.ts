/**
 * What the pending events of one repository are good for. They say what to ask the primary, which removals are no
 * surprise, and what an answer should be; none of them sets a tag or removes anything (law 8).
 */
import type { Digest } from '../src/oci/digest.ts'
import type { Tag } from '../src/oci/reference.ts'
import type { StoredEvent } from '../src/tracking/tracking.ts'

/** What the last event of a tag says of it. */
export interface Expected {
  readonly digest: Digest | 'gone'
  /** When it was heard, wall-clock milliseconds at this site. */
  readonly heardAtMs: number
}

export interface Heard {
  /** In order of arrival. */
  readonly events: readonly StoredEvent[]
  readonly expected: ReadonlyMap<Tag, Expected>
  /**
   * Manifests that only events know of, in the order they were first named: when they last were. Pushed without a tag,
   * referrers among them, or under one that was pushed again since.
   */
  readonly pushed: ReadonlyMap<Digest, number>
  readonly deleted: ReadonlySet<Digest>
  /** Tags that any event deleted, if only to push them again later. */
  readonly deletedTags: ReadonlySet<Tag>
  /** The repository as a whole was deleted, or renamed away. */
  readonly removed: boolean
}

export function readEvents(events: readonly StoredEvent[]): Heard {
  const expected = new Map<Tag, Expected>()
  const pushed = new Map<Digest, number>()
  const deleted = new Set<Digest>()
  const deletedTags = new Set<Tag>()
  let removed = false
  for (const { action, tag, digest, receivedAtMs: heardAtMs } of events) {
    if (action === 'rename') removed = true
    if (action === 'push' && digest) {
      const before = tag && expected.get(tag)
      // Overwritten before a job saw it: no list names it any more, and its digest can still be pulled.
      if (before && before.digest !== 'gone' && before.digest !== digest) {
        pushed.set(before.digest, before.heardAtMs)
      }
      if (tag) expected.set(tag, { digest, heardAtMs })
      else pushed.set(digest, heardAtMs)
    }
    if (action !== 'delete') continue
    if (tag) {
      expected.set(tag, { digest: 'gone', heardAtMs })
      deletedTags.add(tag)
    } else if (digest) deleted.add(digest)
    else removed = true // Distribution and GitLab tell of a deleted repository by its name alone.
  }
  return { events, expected, pushed, deleted, deletedTags, removed }
}

/** Whether an event says that a tag with this digest was removed (law 12). */
export function explains(heard: Heard, tag: Tag, heldDigest: Digest | undefined): boolean {
  const byDigest = heldDigest !== undefined && heard.deleted.has(heldDigest)
  return heard.removed || byDigest || heard.deletedTags.has(tag)
}

/** Events that must stay in the inbox: what they alone know of could not be settled. */
export interface Unsettled {
  readonly digests: ReadonlySet<Digest>
  /** Tags whose removal could not be asked for. */
  readonly tags: ReadonlySet<Tag>
  /** Tags of which the primary may be about to say what their events announced. */
  readonly awaited: ReadonlySet<Tag>
}

/**
 * Up to which event the inbox is done with; undefined when nothing is. A tag that was pushed and could not be copied is
 * not among what stays: the list of tags names it again, unless it was overwritten.
 */
export function appliedThrough(events: readonly StoredEvent[], unsettled: Unsettled): number | undefined {
  const first = events.findIndex(({ action, tag, digest }) => {
    if (tag !== undefined && unsettled.awaited.has(tag)) return true
    if (tag !== undefined && action === 'delete') return unsettled.tags.has(tag)
    return digest !== undefined && action !== 'mount' && unsettled.digests.has(digest)
  })
  return (first === -1 ? events : events.slice(0, first)).at(-1)?.sequence
}
