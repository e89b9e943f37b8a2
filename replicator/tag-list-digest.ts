/** One checksum over the tags of a repository, as GitLab computes it, so that both sides' can be compared. */
import { createHash } from 'node:crypto'
import type { Digest } from '../src/oci/digest.ts'
import type { Tag } from '../src/oci/reference.ts'

/**
 * Hex of the SHA-256 of every name and digest, one after the other without a separator, in the order of the names'
 * bytes (facts/gitlab.md 1.6: `tag_list_digest`).
 */
export function tagListDigest(tags: ReadonlyMap<Tag, Digest>): string {
  const hash = createHash('sha256')
  // Tags are ASCII: JavaScript's order of strings is that of their bytes.
  for (const tag of [...tags.keys()].sort()) hash.update(`${tag}${tags.get(tag) ?? ''}`)
  return hash.digest('hex')
}
