/**
 * Copies a manifest and everything under it: contents first, then the links from the leaves up, so that what is linked
 * here is whole. Content that is here, whichever repository brought it, is only linked, by the primary's word for this
 * repository (law 3).
 */
import { type Confirm, createConfirm } from '../src/fill/confirm.ts'
import type { Fill } from '../src/fill/fill.ts'
import type { Logger } from '../src/log.ts'
import type { Digest } from '../src/oci/digest.ts'
import type { Manifest } from '../src/oci/manifest.ts'
import type { RepositoryName } from '../src/oci/reference.ts'
import { type BlobStore, StoreError } from '../src/store/blob-store.ts'
import { forEachBounded } from '../src/store/bounded.ts'
import type { Link, LinkKind, Mark, RepositoryIndex } from '../src/store/repository-index.ts'
import { UpstreamError } from '../src/upstream/errors.ts'
import type { Credential, Upstream } from '../src/upstream/upstream.ts'
import { CopyError, type Copying, type CopyOptions, type CopyReport } from './copying.ts'
import { heldManifest, missingOf } from './held-graph.ts'
import { fromTheLeaves, type ImageGraph, readGraph } from './image-graph.ts'
import { type Descriptor, ManifestError } from './manifest-children.ts'
import { retryInside } from './retry-policy.ts'

export interface CopyingDeps {
  readonly upstream: Upstream
  readonly fill: Pick<Fill, 'fetch'>
  readonly blobs: BlobStore
  readonly index: RepositoryIndex
  /** Default one of its own; a shared one asks once for clients and copies. */
  readonly confirm?: Confirm | undefined
  readonly log: Logger
}

export interface CopyingOptions {
  /** `digests.recheck` in milliseconds. */
  readonly recheckMs: number
  /** Default the site's own. */
  readonly credential?: Credential | undefined
  /** Larger blobs are read over `connections` at a time; default 64 MiB. */
  readonly parallelAboveBytes?: number | undefined
  /** Default 6. */
  readonly connections?: number | undefined
  /** Requests of one copy at a time, large blobs' parts not counted; default 4. */
  readonly blobsAtOnce?: number | undefined
  /**
   * As `Budget.request`, waited for before each blob: what the fill asks the primary for passes no budget of its own.
   * Default none.
   */
  readonly request?: ((signal: AbortSignal) => Promise<void>) | undefined
  /** As `FetchOptions.pace`. */
  readonly pace?: ((bytes: number, signal: AbortSignal) => Promise<void>) | undefined
  /** Before the first retry of one request, as `RetryOptions.firstDelayMs`. */
  readonly retryDelayMs?: number | undefined
  /** Wall clock in milliseconds; default `Date.now`. */
  readonly now?: (() => number) | undefined
}

/** A thing of the graph that cannot be copied. */
interface Failure {
  readonly digest: Digest
  readonly error: unknown
}

/** One copy under way. */
interface Copy {
  readonly name: RepositoryName
  readonly signal: AbortSignal
  readonly onBytes: (bytes: number) => void
  readonly failures: Map<Digest, Failure>
  /** Of the manifests the primary has just answered with. */
  readonly marks: Map<Digest, Mark>
  /** What garbage collection must leave alone until it is linked. */
  readonly pins: (() => void)[]
  readonly counts: { blobs: number; bytes: number; bytesHere: number }
  /** What failed since something was last copied; what the primary called absent is no trouble of its own. */
  readonly troubles: unknown[]
}

/** After so many in a row the rest would only meet the same: it is for the next attempt. */
const MAX_TROUBLES = 5

export function createCopying(deps: CopyingDeps, options: CopyingOptions): Copying {
  const { upstream, fill, blobs, index, log } = deps
  const { recheckMs, request, pace, now = Date.now, credential = { kind: 'site' } } = options
  const { parallelAboveBytes = 64 * 1024 * 1024, connections = 6, blobsAtOnce: atOnce = 4 } = options
  const confirm = deps.confirm ?? createConfirm({ upstream, index, blobs })

  function isFresh(link: Link | undefined): boolean {
    if (link?.confirmedAtMs === undefined) return false
    const ageMs = now() - link.confirmedAtMs
    return ageMs >= 0 && ageMs < recheckMs // A clock set back makes the record worthless, not eternal.
  }

  async function settle(copy: Copy, kind: LinkKind, digest: Digest): Promise<void> {
    const { name, signal } = copy
    if (isFresh(await index.link(name, kind, digest))) return
    await confirm(kind, name, digest, { credential, signal })
  }

  async function keep({ digest, bytes }: Manifest): Promise<void> {
    if ((await blobs.stat(digest)) !== undefined) return
    if (!(await blobs.hasRoom())) throw new StoreError('full', `no room to keep manifest ${digest}`)
    await blobs.write(digest, bytes)
  }

  async function loadManifest(copy: Copy, digest: Digest): Promise<Manifest> {
    const { name, signal } = copy
    copy.pins.push(blobs.pin(digest)) // Also by the attempt that fails: it is let go of in the end.
    const held = await heldManifest(deps, name, digest)
    if (held) {
      copy.counts.bytesHere += held.bytes.length
      return held
    }
    const mark = index.mark()
    const manifest = await upstream.getManifest(name, { kind: 'digest', digest }, { credential, signal })
    if (typeof manifest === 'string') throw new ManifestError(`${digest} is of a kind that is not kept here`)
    await keep(manifest)
    copy.marks.set(digest, mark)
    copy.counts.bytes += manifest.bytes.length
    copy.onBytes(manifest.bytes.length)
    return manifest
  }

  async function copyBlob(copy: Copy, descriptor: Descriptor): Promise<void> {
    const { name, counts } = copy
    const { digest } = descriptor
    const unpin = blobs.pin(digest)
    try {
      const target = (await index.link(name, 'layer', digest))?.target ?? digest
      const bytesHere = await blobs.stat(target)
      const bytes = bytesHere === undefined ? await fetchBlob(copy, descriptor) : 0
      // What a fill brought it has linked too, unless it was removed meanwhile.
      await settle(copy, 'layer', digest)
      counts.blobs += 1
      counts.bytes += bytes
      counts.bytesHere += bytesHere ?? 0
    } finally {
      unpin()
    }
  }

  async function fetchBlob(
    { name, signal, onBytes }: Copy,
    { digest, sizeBytes }: Descriptor,
  ): Promise<number> {
    let toldBytes = 0
    await request?.(signal)
    await fill.fetch(name, digest, {
      credential,
      signal,
      connections: sizeBytes > parallelAboveBytes ? connections : 1,
      pace: async (bytes, waits) => {
        toldBytes += bytes
        onBytes(bytes)
        await pace?.(bytes, waits)
      },
    })
    const fetchedBytes = (await blobs.stat(digest)) ?? sizeBytes
    // Not told: what came while a client followed, or before a restart.
    if (fetchedBytes > toldBytes) onBytes(fetchedBytes - toldBytes)
    return fetchedBytes
  }

  /** What keeps a manifest from being linked: itself, or something under it. */
  function failureUnder({ failures }: Copy, { manifests }: ImageGraph, digest: Digest): Failure | undefined {
    const children = manifests.get(digest)
    if (!children || failures.has(digest)) return failures.get(digest)
    for (const child of [...children.manifests, ...children.blobs]) {
      const failure = failures.get(child.digest)
      if (failure && !(child.optional && isAbsent(failure.error))) return failure
    }
    const failure = children.subject && failures.get(children.subject)
    // Nobody promises that a subject exists; one that does is copied before what refers to it.
    return failure && !isAbsent(failure.error) ? failure : undefined
  }

  async function linkManifest(copy: Copy, graph: ImageGraph, digest: Digest): Promise<void> {
    const { name, failures, marks } = copy
    const failure = failureUnder(copy, graph, digest)
    if (failure) {
      failures.set(digest, failure)
      return
    }
    const mark = marks.get(digest)
    if (mark && (await index.putLink(name, 'manifest', digest, mark))) return
    await settle(copy, 'manifest', digest)
  }

  /** Tries inside the job too; once too much has failed, throws what the last one failed with. */
  async function tried<T>(copy: Copy, digest: Digest, work: () => Promise<T>): Promise<T> {
    const { name, signal, troubles } = copy
    signal.throwIfAborted()
    if (troubles.length >= MAX_TROUBLES) throw troubles.at(-1)
    try {
      const result = await retryInside(work, { signal, firstDelayMs: options.retryDelayMs })
      troubles.length = 0
      return result
    } catch (error) {
      if (isFatal(error, signal)) throw error
      log.warn({ error, repository: name, digest }, 'could not be copied')
      if (!isAbsent(error)) troubles.push(error)
      throw error
    }
  }

  /** One failing thing stops none of the others. */
  async function attempt(copy: Copy, digest: Digest, work: () => Promise<void>): Promise<void> {
    try {
      await tried(copy, digest, work)
    } catch (error) {
      if (isFatal(error, copy.signal)) throw error
      copy.failures.set(digest, { digest, error })
    }
  }

  async function copyAll(copy: Copy, root: Digest, given: Manifest | undefined): Promise<CopyReport> {
    const { signal, failures, counts } = copy
    const graph = await readGraph(root, {
      load: async ({ digest }) =>
        given && digest === root ? given : tried(copy, digest, () => loadManifest(copy, digest)),
      isFatal: (error) => isFatal(error, signal),
      atOnce,
    })
    for (const [digest, error] of graph.failures) failures.set(digest, { digest, error })
    await forEachBounded(graph.blobs.values(), atOnce, (blob) =>
      attempt(copy, blob.digest, () => copyBlob(copy, blob)),
    )
    for (const level of fromTheLeaves(graph)) {
      await forEachBounded(level, atOnce, (digest) =>
        attempt(copy, digest, () => linkManifest(copy, graph, digest)),
      )
    }
    const failure = failures.get(root)
    if (failure) throw await copyError(copy, root, failure)
    return { manifests: graph.manifests.size, ...counts }
  }

  async function copyError({ name }: Copy, root: Digest, { digest, error }: Failure): Promise<CopyError> {
    const why = error instanceof Error ? error.message : String(error)
    return new CopyError(`${root} is not whole in ${name}: ${digest}: ${why}`, {
      digest,
      missing: await missingOf(deps, name, root),
      cause: error,
    })
  }

  async function copyGraph(
    name: RepositoryName,
    root: Digest,
    { signal, mark, onBytes = () => undefined }: CopyOptions,
    given?: Manifest,
  ): Promise<CopyReport> {
    signal.throwIfAborted()
    const copy: Copy = {
      name,
      signal,
      onBytes,
      failures: new Map(),
      marks: new Map(given && mark ? [[root, mark]] : []),
      pins: [blobs.pin(root)],
      counts: { blobs: 0, bytes: 0, bytesHere: 0 },
      troubles: [],
    }
    try {
      if (given) await keep(given)
      return await copyAll(copy, root, given)
    } catch (error) {
      signal.throwIfAborted() // Whatever it made of that.
      throw error
    } finally {
      for (const unpin of copy.pins) unpin()
    }
  }

  return {
    missing: (name, digest) => missingOf(deps, name, digest),
    copy: (name, manifest, copyOptions) => copyGraph(name, manifest.digest, copyOptions, manifest),
    copyByDigest: (name, digest, copyOptions) => copyGraph(name, digest, copyOptions),
  }
}

/** The primary does not have it, or not in a form that could be kept. */
function isAbsent(error: unknown): boolean {
  return error instanceof ManifestError || (error instanceof UpstreamError && error.kind === 'absent')
}

/** A disk that fails, fails for the rest too. */
function isFatal(error: unknown, signal: AbortSignal): boolean {
  return signal.aborted || error instanceof StoreError
}
