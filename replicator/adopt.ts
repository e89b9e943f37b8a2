/**
 * Takes over the blobs of an existing registry's folder by their digests, whatever its links say and without
 * downloading; the primary's word for each comes later. Never writes in that folder. A hard-linked blob is the same file
 * there and here: Distribution never rewrites one, but whoever changes it, or its owner, in one place does so in both.
 */
import { randomUUID } from 'node:crypto'
import { constants } from 'node:fs'
import { access, copyFile, link, open, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { algorithmOf, createDigester, type Digest } from '../src/oci/digest.ts'
import { openAdoptionRecord } from '../src/store/adopted.ts'
import { type BlobStore, StoreError } from '../src/store/blob-store.ts'
import { forEachBounded } from '../src/store/bounded.ts'
import { ignoring, isErrorCode } from '../src/store/durable-files.ts'
import type { StorePaths } from '../src/store/paths.ts'
import {
  blobsOf,
  registryAt,
  type SkipReason,
  type Source,
  type SourceBlob,
  UNREADABLE,
} from './adopt-source.ts'

export interface AdoptDeps {
  readonly blobs: BlobStore
  readonly paths: StorePaths
}

export interface AdoptOptions {
  /** Counts only: no blob is read, nothing is written. Default false. */
  readonly dryRun?: boolean | undefined
  readonly signal?: AbortSignal | undefined
  /** Told often, while blobs are read too; throttle what it costs. */
  readonly onProgress?: ((progress: AdoptProgress) => void) | undefined
}

export interface Amount {
  readonly blobs: number
  readonly bytes: number
}

export interface AdoptProgress {
  /** Of `total`, what has been looked at: bytes as they are verified. */
  readonly done: Amount
  /** To be taken over. */
  readonly total: Amount
}

export interface SkippedBlob {
  readonly digest: Digest
  readonly reason: SkipReason
}

export interface AdoptReport {
  readonly dryRun: boolean
  /** In the folder, the skipped ones that are no file or lie outside of it not counted. */
  readonly found: Amount
  /** Of them, in the store already. */
  readonly here: Amount
  /** Taken over, or what would be (damaged ones among them) with `dryRun`. */
  readonly adopted: Amount
  readonly hardLinked: number
  readonly reflinked: number
  readonly copied: number
  readonly skipped: number
  /** The first 1000 of them. */
  readonly skippedBlobs: readonly SkippedBlob[]
  readonly durationMs: number
}

type Method = 'hardLinked' | 'reflinked' | 'copied'

const SKIPPED_LISTED = 1000
/** Small blobs wait most of the time for the disk to sync. */
const BLOBS_AT_ONCE = 4
const READ_BYTES = 1024 * 1024

/**
 * `folder` is a registry's root directory, or ends in `docker/registry/v2`. Can be begun again after any end: what is
 * here is not read again. Throws `AdoptError` when the folder is none or the store's own, `StoreError` when the store
 * cannot take more, or the signal's reason.
 */
export async function adopt(
  folder: string,
  deps: AdoptDeps,
  options: AdoptOptions = {},
): Promise<AdoptReport> {
  const startedAtMs = performance.now()
  const source = await registryAt(folder, deps.paths)
  const counted = await survey(source, deps, options)
  const outcome = options.dryRun ? counted : await takeAll(source, counted.adopted, deps, options)
  return {
    dryRun: options.dryRun ?? false,
    found: counted.found,
    here: counted.here,
    ...outcome,
    durationMs: Math.round(performance.now() - startedAtMs),
  }
}

type Outcome = Pick<
  AdoptReport,
  'adopted' | 'hardLinked' | 'reflinked' | 'copied' | 'skipped' | 'skippedBlobs'
>

/** What there is to do, and with what outcome as far as that can be told without reading. */
async function survey(
  source: Source,
  { blobs }: AdoptDeps,
  { signal }: AdoptOptions,
): Promise<Outcome & Pick<AdoptReport, 'found' | 'here'>> {
  const skips = createSkips()
  let found: Amount = NOTHING
  let here: Amount = NOTHING
  for await (const blob of blobsOf(source, skips.add)) {
    signal?.throwIfAborted()
    found = plus(found, blob.sizeBytes)
    if ((await blobs.stat(blob.digest)) !== undefined) here = plus(here, blob.sizeBytes)
  }
  const adopted = { blobs: found.blobs - here.blobs, bytes: found.bytes - here.bytes }
  return { found, here, adopted, hardLinked: 0, reflinked: 0, copied: 0, ...skips.report() }
}

async function takeAll(
  source: Source,
  total: Amount,
  deps: AdoptDeps,
  { signal, onProgress }: AdoptOptions,
): Promise<Outcome> {
  const { blobs, paths } = deps
  const skips = createSkips()
  const methods: Record<Method, number> = { hardLinked: 0, reflinked: 0, copied: 0 }
  let adopted: Amount = NOTHING
  let done: Amount = NOTHING
  const advance = (by: Amount) => {
    done = { blobs: done.blobs + by.blobs, bytes: done.bytes + by.bytes }
    onProgress?.({ done, total })
  }
  // Where nothing can be written, every blob would look unreadable.
  await access(paths.incoming, constants.W_OK)
  await using record = await openAdoptionRecord(paths)
  await forEachBounded(blobsOf(source, skips.add), BLOBS_AT_ONCE, async (blob) => {
    signal?.throwIfAborted()
    // Also what is here, and before it is: no garbage collection may find it neither linked nor recorded.
    await record.add(blob.digest)
    if ((await blobs.stat(blob.digest)) !== undefined) return
    const outcome = await takeOver(blob, deps, {
      signal,
      onBytes: (bytes) => advance({ blobs: 0, bytes }),
    })
    if (outcome === 'damaged' || outcome === 'unreadable') skips.add(blob.digest, outcome)
    else {
      methods[outcome] += 1
      adopted = plus(adopted, blob.sizeBytes)
    }
    advance({ blobs: 1, bytes: 0 })
  })
  return { adopted, ...methods, ...skips.report() }
}

interface TakeOverOptions {
  readonly signal: AbortSignal | undefined
  readonly onBytes: (bytes: number) => void
}

/** What is verified is the store's own name of the file, so that it is what is published, too. */
async function takeOver(
  { digest, path }: SourceBlob,
  { blobs, paths }: AdoptDeps,
  options: TakeOverOptions,
): Promise<Method | 'damaged' | 'unreadable'> {
  const incoming = join(paths.incoming, randomUUID())
  try {
    const method = await bring(path, incoming, blobs)
    if ((await digestOfFile(incoming, digest, options)) !== digest) return 'damaged'
    await blobs.publish(incoming, digest)
    return method
  } catch (error) {
    if (isErrorCode(error, ...UNREADABLE, 'ENOENT')) return 'unreadable'
    throw error
  } finally {
    // Published, it is gone; but a rename over another name of the same file leaves both.
    await unlink(incoming).catch(ignoring('ENOENT'))
  }
}

/** Whatever keeps one way from working, the next may work; the last one says why not. */
async function bring(from: string, to: string, blobs: BlobStore): Promise<Method> {
  if (await succeeds(link(from, to))) return 'hardLinked'
  if (await succeeds(copyFile(from, to, constants.COPYFILE_FICLONE_FORCE))) return 'reflinked'
  if (!(await blobs.hasRoom())) {
    throw new StoreError('full', 'adopting: a blob has to be copied, and there is no room')
  }
  await copyFile(from, to, constants.COPYFILE_EXCL)
  return 'copied'
}

function succeeds(work: Promise<void>): Promise<boolean> {
  return work.then(
    () => true,
    () => false,
  )
}

async function digestOfFile(
  path: string,
  expected: Digest,
  { signal, onBytes }: TakeOverOptions,
): Promise<Digest> {
  const digester = createDigester(algorithmOf(expected))
  const buffer = Buffer.allocUnsafeSlow(READ_BYTES)
  // A link to a symbolic link would be one itself.
  await using file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW)
  for (;;) {
    signal?.throwIfAborted()
    const { bytesRead } = await file.read(buffer, 0, buffer.length)
    if (bytesRead === 0) return digester.digest()
    digester.update(buffer.subarray(0, bytesRead))
    onBytes(bytesRead)
  }
}

const NOTHING: Amount = { blobs: 0, bytes: 0 }

function plus({ blobs, bytes }: Amount, sizeBytes: number): Amount {
  return { blobs: blobs + 1, bytes: bytes + sizeBytes }
}

function createSkips() {
  const listed: SkippedBlob[] = []
  let skipped = 0
  return {
    add: (digest: Digest, reason: SkipReason): void => {
      skipped += 1
      if (listed.length < SKIPPED_LISTED) listed.push({ digest, reason })
    },
    report: () => ({ skipped, skippedBlobs: listed }),
  }
}
