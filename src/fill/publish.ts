/** What makes a verified spool the site's: the blob under its digest, then a link wherever the primary confirmed it. */
import type { Logger } from '../log.ts'
import type { Digest } from '../oci/digest.ts'
import type { RepositoryName } from '../oci/reference.ts'
import type { BlobStore, StoreError } from '../store/blob-store.ts'
import type { Mark, RepositoryIndex } from '../store/repository-index.ts'
import { spoolError } from './spool.ts'

export interface PublishDependencies {
  readonly blobs: BlobStore
  readonly index: RepositoryIndex
  readonly log: Logger
}

/**
 * `confirmed` may grow while links are written. Resolves with why the blob could not be kept, or undefined; a store that
 * fails is logged (and counted, by the store), since the clients have what they asked for.
 */
export async function publishBlob(
  { blobs, index, log }: PublishDependencies,
  path: string,
  digest: Digest,
  confirmed: ReadonlyMap<RepositoryName, Mark>,
): Promise<StoreError | undefined> {
  const unpin = blobs.pin(digest)
  try {
    await blobs.publish(path, digest)
    await linkBlob({ index, log }, digest, confirmed)
    return undefined
  } catch (cause) {
    const error = spoolError(`publishing ${digest}`, cause)
    log.error({ error, digest }, 'blob could not be kept: the next read fetches it again')
    return error
  } finally {
    unpin()
  }
}

/** Links a blob that is here, and pinned, wherever it was confirmed. Never rejects: what fails is logged. */
export async function linkBlob(
  { index, log }: Pick<PublishDependencies, 'index' | 'log'>,
  digest: Digest,
  confirmed: ReadonlyMap<RepositoryName, Mark>,
): Promise<void> {
  for (const [name, mark] of confirmed) {
    try {
      const isLinked = await index.putLink(name, 'layer', digest, mark)
      if (!isLinked)
        log.info({ name, digest }, 'blob removed from the repository during its fill: not linked')
    } catch (error) {
      log.error(
        { error, name, digest },
        'blob could not be linked: the primary is asked again for the next read',
      )
    }
  }
}
