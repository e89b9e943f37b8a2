/**
 * Whether content that is here may be served to this caller (law 3): it must be linked in that very repository by the
 * primary's word, as of the last `digests.recheck`. HEAD and GET, manifests and blobs take this one decision.
 */
import type { Digest } from '../src/oci/digest.ts'
import type { RepositoryName } from '../src/oci/reference.ts'
import type { Link, LinkKind, RepositoryIndex } from '../src/store/repository-index.ts'
import { isOutage } from '../src/upstream/errors.ts'
import type { Credential } from '../src/upstream/upstream.ts'
import type { Access } from './exchange.ts'

/** `staleSinceMs`: served without the primary's word because it is away; when that word was last given. */
export interface Standing {
  readonly staleSinceMs: number | undefined
}

export interface StandingDeps {
  readonly index: RepositoryIndex
  /** Asks the primary and renews or hides the link. Throws `UpstreamError`. */
  readonly confirm: (
    kind: LinkKind,
    name: RepositoryName,
    digest: Digest,
    ask: { readonly credential: Credential; readonly check: boolean },
  ) => Promise<void>
  /** While the primary is known to be away, asking again would only cost the caller the time-out. */
  readonly primaryIsAway: () => boolean
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
      try {
        await deps.confirm(kind, name, digest, { credential: access.credential, check: outlivesOutage })
        return { staleSinceMs: undefined }
      } catch (error) {
        if (outlivesOutage && isOutage(error)) return { staleSinceMs: link.confirmedAtMs }
        throw error
      }
    },
  }
}
