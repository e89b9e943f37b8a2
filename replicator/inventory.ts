/** The port of what the primary has: its repositories and their tags, by GitLab's `/gitlab/v1/` API or the OCI lists. */
import type { Digest } from '../src/oci/digest.ts'
import type { RepositoryName, Tag } from '../src/oci/reference.ts'

export interface ListedTag {
  readonly tag: Tag
  /** Known where the list says it (GitLab's API); elsewhere each tag is asked for. */
  readonly digest: Digest | undefined
}

export interface Inventory {
  /** `gitlab`: name and digest, 1000 a request, conditional on nothing. `oci`: names only. Asked once, then remembered for 10 min. */
  kind(signal?: AbortSignal): Promise<'gitlab' | 'oci'>
  /**
   * Every repository of the primary, page by page. Throws `UpstreamError`: what was yielded before is no complete list,
   * and nothing may be taken for gone by its absence.
   */
  repositories(signal?: AbortSignal): AsyncIterable<readonly RepositoryName[]>
  /**
   * All tags of one repository. Throws `UpstreamError`, of kind `absent` only where the primary itself says
   * NAME_UNKNOWN; a list that contradicts itself (a page that repeats, a next page that is not there) is `faulty`.
   */
  tags(name: RepositoryName, signal?: AbortSignal): Promise<readonly ListedTag[]>
}
