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

/** `observation` where the manifest came by its tag. */
export async function keepManifest(
  deps: KeepDeps,
  name: RepositoryName,
  manifest: Manifest,
  mark: Mark,
  observation?: Observation,
): Promise<void> {
  const { blobs, index, freshness } = deps
  const unpin = blobs.pin(manifest.digest)
  try {
    if ((await blobs.stat(manifest.digest)) === undefined) {
      if (!(await blobs.hasRoom())) {
        if (observation) await index.doubtTag(name, observation.tag)
        return
      }
      await blobs.write(manifest.digest, manifest.bytes)
    }
    if (!(await index.putLink(name, 'manifest', manifest.digest, mark))) return
    if (!observation || !freshness.stands(observation)) return
    if (await index.putTag(name, observation.tag, manifest.digest, mark)) {
      freshness.confirm(observation, manifest.digest)
    }
  } catch (error) {
    deps.log.error({ error, repository: name, digest: manifest.digest }, 'manifest served but not kept')
  } finally {
    unpin()
  }
}
