/**
 * A manifest the primary answered with is kept: content, then link, then tag, each only if no removal or write came
 * between the question and the answer. Failing to keep it never fails the pull that brought it.
 */

import type { Freshness, Observation } from '../src/freshness/freshness.ts'
import type { Logger } from '../src/log.ts'
import type { Manifest } from '../src/oci/manifest.ts'
import type { RepositoryName } from '../src/oci/reference.ts'
import type { BlobStore } from '../src/store/blob-store.ts'
import type { Mark, RepositoryIndex } from '../src/store/repository-index.ts'

export interface KeepDeps {
  readonly blobs: BlobStore
  readonly index: RepositoryIndex
  readonly freshness: Freshness
  readonly log: Logger
}

/** `observation` where the manifest came by its tag. Never rejects. */
export async function keepManifest(
  deps: KeepDeps,
  name: RepositoryName,
  manifest: Manifest,
  mark: Mark,
  observation?: Observation,
): Promise<void> {
  try {
    if (await keep(deps, name, manifest, mark, observation)) return
    // The tag is something else now than what is held of it, which not even an outage may bring back.
    if (observation && (await deps.freshness.stands(observation))) {
      await deps.index.doubtTag(name, observation.tag)
    }
  } catch (error) {
    deps.log.error({ error, repository: name }, 'a tag that has changed could not be put in doubt')
  }
}

/** False when what is held here is now less than what the primary said. */
async function keep(
  { blobs, index, freshness, log }: KeepDeps,
  name: RepositoryName,
  manifest: Manifest,
  mark: Mark,
  observation: Observation | undefined,
): Promise<boolean> {
  const { digest, bytes } = manifest
  const unpin = blobs.pin(digest)
  try {
    if ((await blobs.stat(digest)) === undefined) {
      if (!(await blobs.hasRoom())) return false
      await blobs.write(digest, bytes)
    }
    if (!(await index.putLink(name, 'manifest', digest, mark))) return false
    if (!observation || !(await freshness.stands(observation))) return true
    if (!(await index.putTag(name, observation.tag, digest, mark))) return false
    // Written while another process of the site wrote the tag: which of the two lies there now, only the primary can say.
    if (!(await freshness.confirm(observation, digest))) await index.doubtTag(name, observation.tag)
    return true
  } catch (error) {
    log.error({ error, repository: name, digest }, 'manifest served but not kept')
    return false
  } finally {
    unpin()
  }
}
