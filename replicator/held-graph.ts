/** What of an image is here, by the store's word alone: the primary is not asked. */
import type { Digest } from '../src/oci/digest.ts'
import { MANIFEST_MAX_BYTES, type Manifest, manifestMediaType } from '../src/oci/manifest.ts'
import type { RepositoryName } from '../src/oci/reference.ts'
import type { BlobStore } from '../src/store/blob-store.ts'
import { forEachBounded } from '../src/store/bounded.ts'
import type { LinkKind, RepositoryIndex } from '../src/store/repository-index.ts'
import type { Missing } from './copying.ts'
import { readGraph } from './image-graph.ts'
import { ManifestError } from './manifest-children.ts'

export interface HeldGraphDeps {
  readonly blobs: Pick<BlobStore, 'stat' | 'read'>
  readonly index: Pick<RepositoryIndex, 'link'>
}

/** Looks at the disk at a time. */
const AT_ONCE = 8

/** Undefined when it is not in the store. Throws `ManifestError` when it is something else, and `StoreError`. */
export async function heldManifest(
  { blobs, index }: HeldGraphDeps,
  name: RepositoryName,
  digest: Digest,
): Promise<Manifest | undefined> {
  const target = (await index.link(name, 'manifest', digest))?.target ?? digest
  const bytes = await blobs.read(target, MANIFEST_MAX_BYTES)
  if (!bytes) return undefined
  const mediaType = manifestMediaType(bytes)
  if (mediaType === undefined) throw new ManifestError(`${digest} is no manifest that can be kept here`)
  return { bytes, digest, mediaType }
}

/** As `Copying.missing`. A subject does not count: nobody here knows whether it exists. */
export async function missingOf(deps: HeldGraphDeps, name: RepositoryName, root: Digest): Promise<Missing> {
  const { blobs, index } = deps
  const missing = { blobs: 0, bytes: 0 }

  async function count(kind: LinkKind, digest: Digest, sizeBytes: number, isStored: boolean): Promise<void> {
    const link = await index.link(name, kind, digest)
    if (!isStored || link?.confirmedAtMs === undefined) missing.blobs += 1
    if (!isStored) missing.bytes += sizeBytes
  }

  const graph = await readGraph(root, {
    load: async ({ digest, sizeBytes, optional }) => {
      const manifest = await heldManifest(deps, name, digest)
      if (manifest || !optional) await count('manifest', digest, sizeBytes, manifest !== undefined)
      return manifest
    },
    isFatal: (error) => !(error instanceof ManifestError),
    withSubjects: false,
    atOnce: AT_ONCE,
  })
  missing.blobs += graph.failures.size
  await forEachBounded(graph.blobs.values(), AT_ONCE, async ({ digest, sizeBytes, optional }) => {
    if (optional) return
    const target = (await index.link(name, 'layer', digest))?.target ?? digest
    await count('layer', digest, sizeBytes, (await blobs.stat(target)) !== undefined)
  })
  return missing
}
