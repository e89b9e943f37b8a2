/**
 * Whether content that is here may be served to this caller (law 3): it must be linked in that very repository by the
 * primary's word, as of the last `digests.recheck`. HEAD and GET, manifests and blobs take this one decision.
 */

import type { Confirm } from '../src/fill/confirm.ts'
import type { Digest } from '../src/oci/digest.ts'
import type { RepositoryName } from '../src/oci/reference.ts'
import { StoreError } from '../src/store/blob-store.ts'
import type { Link, LinkKind, RepositoryIndex } from '../src/store/repository-index.ts'
import { isOutage } from '../src/upstream/errors.ts'
import type { Access } from './exchange.ts'

/** `staleSinceMs`: served without the primary's word because it is away; when that word was last given. */
export interface Standing {
  readonly staleSinceMs: number | undefined
}

export interface StandingDeps {
  readonly index: RepositoryIndex
  readonly confirm: Confirm
  /** While the primary is known to be away, asking again would only cost the caller the time-out. */
  readonly primaryIsAway: () => boolean
  /** How long held content waits for the primary's word before its last one stands in. */
  readonly checkMs: number
  /** `digests.recheck` in milliseconds. */
  readonly recheckMs: number
  readonly now?: () => number
}

export interface Standings {
  /** Synchronous half for the warm path: true when a link read by the caller needs no question. */
  isFresh(link: Link | undefined, access: Access): boolean
  /** For content that is here. Throws `UpstreamError` when the caller may not have it, or nobody can say. */
  settle(
    name: RepositoryName,
    kind: LinkKind,
    digest: Digest,
    link: Link | undefined,
    access: Access,
  ): Promise<Standing>
}

export function createStandings(deps: StandingDeps): Standings {
  const now = deps.now ?? Date.now

  function isFresh(link: Link | undefined, access: Access): boolean {
    if (link?.confirmedAtMs === undefined || access.onlyPrimary) return false
    const ageMs = now() - link.confirmedAtMs
    return ageMs >= 0 && ageMs < deps.recheckMs // A clock set back makes the record worthless, not eternal.
  }

  return {
    isFresh,
    async settle(name, kind, digest, link, access) {
      if (isFresh(link, access)) return { staleSinceMs: undefined }
      // An outage removes nothing; but a link without the primary's word (an adopted folder's) was never the caller's.
      const outlivesOutage = link?.confirmedAtMs !== undefined && !access.onlyPrimary
      if (outlivesOutage && deps.primaryIsAway()) return { staleSinceMs: link.confirmedAtMs }
      const signal = outlivesOutage ? AbortSignal.timeout(deps.checkMs) : undefined
      try {
        await deps.confirm(kind, name, digest, { credential: access.credential, signal })
        return { staleSinceMs: undefined }
      } catch (error) {
        if (outlivesOutage && (isOutage(error) || signal?.aborted))
          return { staleSinceMs: link.confirmedAtMs }
        // The primary said yes, and only its word could not be written down: it is asked again next time.
        if (error instanceof StoreError) return { staleSinceMs: undefined }
        throw error
      }
    },
  }
}
