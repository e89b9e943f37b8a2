/** A manifest and everything under it, each digest once, within limits that no real image comes near. */
import type { Digest } from '../src/oci/digest.ts'
import type { Manifest } from '../src/oci/manifest.ts'
import { forEachBounded } from '../src/store/bounded.ts'
import {
  type Descriptor,
  type ManifestChildren,
  ManifestError,
  manifestChildren,
} from './manifest-children.ts'

/** An index of indexes of images is three; attestations of attestations may be a few more. */
const MAX_DEPTH = 8
/** Over all manifests of one graph. */
const MAX_DESCRIPTORS = 10_000

export interface ImageGraph {
  /** Manifests that were read. Their bytes are not kept. */
  readonly manifests: ReadonlyMap<Digest, ManifestChildren>
  readonly blobs: ReadonlyMap<Digest, Descriptor>
  /** Manifests that could not be read, or whose children are not looked at. */
  readonly failures: ReadonlyMap<Digest, unknown>
}

export interface GraphReading {
  /** The content of a manifest; undefined leaves it out. What it throws is the manifest's failure. */
  readonly load: (descriptor: Descriptor) => Promise<Manifest | undefined>
  /** Whether what is thrown ends the reading instead. */
  readonly isFatal: (error: unknown) => boolean
  /** Default true. */
  readonly withSubjects?: boolean
  /** Loads under way at a time. */
  readonly atOnce: number
}

/** Level by level. Throws what is fatal. */
export async function readGraph(root: Digest, reading: GraphReading): Promise<ImageGraph> {
  const { load, isFatal, withSubjects = true, atOnce } = reading
  const manifests = new Map<Digest, ManifestChildren>()
  const blobs = new Map<Digest, Descriptor>()
  const failures = new Map<Digest, unknown>()
  let descriptors = 0

  async function read(descriptor: Descriptor, depth: number): Promise<void> {
    const { digest } = descriptor
    try {
      if (depth > MAX_DEPTH) throw new ManifestError(`nested more than ${MAX_DEPTH} deep`)
      const manifest = await load(descriptor)
      if (!manifest) return
      const children = manifestChildren(manifest)
      descriptors += children.manifests.length + children.blobs.length
      if (descriptors > MAX_DESCRIPTORS) throw new ManifestError(`more than ${MAX_DESCRIPTORS} descriptors`)
      manifests.set(digest, children)
    } catch (error) {
      if (isFatal(error)) throw error
      failures.set(digest, error)
    }
  }

  const seen = new Set([root])
  let level: Descriptor[] = [{ digest: root, sizeBytes: 0, optional: false }]
  for (let depth = 1; level.length > 0; depth++) {
    await forEachBounded(level, atOnce, (descriptor) => read(descriptor, depth))
    const next: Descriptor[] = []
    for (const children of level.flatMap(({ digest }) => manifests.get(digest) ?? [])) {
      for (const blob of children.blobs) {
        if (blobs.get(blob.digest)?.optional ?? true) blobs.set(blob.digest, blob)
      }
      for (const child of below(children, withSubjects)) {
        if (!seen.has(child.digest)) next.push(child)
        seen.add(child.digest)
      }
    }
    level = next
  }
  return { manifests, blobs, failures }
}

/** The manifests that were read, children and subjects before what names them; those of one level name each other not. */
export function fromTheLeaves({ manifests }: ImageGraph): Digest[][] {
  const levels: Digest[][] = []
  const waiting = new Map(manifests)
  while (waiting.size > 0) {
    const isReady = (children: ManifestChildren) =>
      below(children, true).every(({ digest }) => !waiting.has(digest))
    const level = [...waiting].filter(([, children]) => isReady(children)).map(([digest]) => digest)
    // No digest can be made to name itself, so there always is one.
    if (level.length === 0) throw new ManifestError('it lists itself')
    for (const digest of level) waiting.delete(digest)
    levels.push(level)
  }
  return levels
}

function below({ manifests, subject }: ManifestChildren, withSubjects: boolean): Descriptor[] {
  const named = withSubjects && subject ? [{ digest: subject, sizeBytes: 0, optional: true }] : []
  return [...named, ...manifests]
}
