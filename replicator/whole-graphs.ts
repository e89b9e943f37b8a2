/**
 * Which images were seen whole in which repository, so that a job which one push caused does not look through ten
 * thousand others on the disk again. Only a memory: what a scrub finds damaged makes it forget everything.
 */
import { LRUCache } from 'lru-cache'
import type { Digest } from '../src/oci/digest.ts'
import type { RepositoryName } from '../src/oci/reference.ts'
import type { Copying } from './copying.ts'

export interface WholeGraphs {
  /** Whether nothing under the manifest is missing in this repository; `again`: whatever is remembered of it. */
  has(name: RepositoryName, digest: Digest, again?: boolean): Promise<boolean>
  /** Content was taken out of the store. */
  forget(): void
}

/** Graphs remembered; each costs about 200 bytes. */
const REMEMBERED = 50_000

export function createWholeGraphs(copying: Pick<Copying, 'missing'>): WholeGraphs {
  const seen = new LRUCache<string, true>({ max: REMEMBERED })
  let forgotten = 0
  return {
    async has(name, digest, again = false) {
      const key = `${name} ${digest}` // A space stands in no name and no digest.
      if (!again && seen.has(key)) return true
      const before = forgotten
      const { blobs } = await copying.missing(name, digest)
      if (blobs > 0) seen.delete(key)
      else if (before === forgotten) seen.set(key, true)
      return blobs === 0
    },
    forget: () => {
      forgotten++
      seen.clear()
    },
  }
}
