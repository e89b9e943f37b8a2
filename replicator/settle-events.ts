/** Events that name a digest and no tag: what was pushed is copied, what was deleted is asked about. */
import type { Logger } from '../src/log.ts'
import type { Digest } from '../src/oci/digest.ts'
import type { RepositoryName } from '../src/oci/reference.ts'
import { forEachBounded } from '../src/store/bounded.ts'
import { askAgain, type Patience } from './ask-again.ts'
import type { Copying } from './copying.ts'
import type { Heard } from './heard-events.ts'
import type { HeldLease } from './held-lease.ts'
import { type DigestFailures, isLacking, type RemoveExtras } from './remove-extras.ts'
import type { WholeGraphs } from './whole-graphs.ts'

export interface SettleEventsDeps {
  readonly copying: Pick<Copying, 'copyByDigest'>
  readonly whole: WholeGraphs
  readonly extras: Pick<RemoveExtras, 'digest'>
  readonly log: Pick<Logger, 'info'>
}

export interface SettleEventsOptions {
  readonly atOnce: number
  readonly patience: Patience
  /** Wall clock in milliseconds. */
  readonly now: () => number
}

/** Events that name a digest and no tag. Both reject with the reason of the lease's signal only. */
export interface SettleEvents {
  /** Copies what was pushed, as far as the primary still has it. `awaited`: what it may be about to show. */
  pushed(
    name: RepositoryName,
    heard: Heard,
    lease: HeldLease,
  ): Promise<{ readonly failures: DigestFailures; readonly awaited: ReadonlySet<Digest> }>
  /** Asks about what was deleted; the primary's no hides it. */
  deleted(name: RepositoryName, heard: Heard, lease: HeldLease): Promise<DigestFailures>
}

export function createSettleEvents(deps: SettleEventsDeps, options: SettleEventsOptions): SettleEvents {
  const { copying, whole, extras, log } = deps
  const { atOnce, patience, now } = options
  const { stepsMs, laterMs, settledMs } = patience

  return {
    async pushed(name, heard, lease) {
      const { signal } = lease
      const failures = new Map<Digest, unknown>()
      const awaited = new Set<Digest>()
      await askAgain(heard.pushed.keys(), { stepsMs, atOnce, signal }, async (digest, last) => {
        try {
          if (!(await whole.has(name, digest))) await copying.copyByDigest(name, digest, { signal })
        } catch (error) {
          signal.throwIfAborted()
          if (!isLacking(error)) {
            failures.set(digest, error)
            return true
          }
          const ageMs = Math.abs(now() - (heard.pushed.get(digest) ?? 0))
          if (ageMs < settledMs && !heard.deleted.has(digest)) {
            if (!last) return false
            if (laterMs !== undefined) {
              awaited.add(digest)
              return true
            }
          }
          log.info({ repository: name, digest, error }, 'a pushed manifest is not to be had from the primary')
        }
        return true
      })
      return { failures, awaited }
    },

    async deleted(name, heard, lease) {
      const failures = new Map<Digest, unknown>()
      await forEachBounded(heard.deleted, atOnce, async (digest) => {
        try {
          await extras.digest(name, digest, lease)
        } catch (error) {
          lease.signal.throwIfAborted()
          failures.set(digest, error)
        }
      })
      return failures
    },
  }
}
