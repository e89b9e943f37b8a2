/**
 * One file that a push is written to as it passes. Writing is positional and behind the upload; a disk that cannot keep
 * up costs the copy, never the upload.
 */
import { createReadStream } from 'node:fs'
import { type FileHandle, open, rm } from 'node:fs/promises'
import { createDigester, type Digest, type DigestAlgorithm } from '../src/oci/digest.ts'
import { StoreError } from '../src/store/blob-store.ts'

const QUEUE_MAX_BYTES = 512 * 1024
const SYNC_EVERY_BYTES = 64 * 1024 * 1024

export interface CaptureFileOptions {
  readonly path: string
  /** How long the disk may be the slower side without a break. */
  readonly patienceMs: number
  /** Asked at the start and every 64 MiB; false ends the capture. */
  readonly hasRoom: () => Promise<boolean>
  /** At most one `fdatasync` of all captures at a time: each blocks one of the few threads that reads need too. */
  readonly gate: { syncing: boolean }
}

export interface CaptureFile {
  /** Why nothing more is written; undefined while all is well. */
  readonly failure: StoreError | undefined
  /** Takes bytes. A promise comes back while too many wait for the disk: the caller holds the upload until then. */
  write(bytes: Buffer, position: number): Promise<void> | undefined
  /** Writes out what waits, cuts the file to `length` bytes and closes it, where it is. Throws what made it fail. */
  finish(length: number): Promise<void>
  /** The digest of the finished file, read back. */
  digest(algorithm: DigestAlgorithm): Promise<Digest>
  /** Closes and removes it, whatever its state. */
  discard(): Promise<void>
}

interface Piece {
  readonly bytes: Buffer
  readonly position: number
}

export function createCaptureFile(options: CaptureFileOptions): CaptureFile {
  const { path, gate } = options
  let handle: FileHandle | undefined
  let failure: StoreError | undefined
  let queue: Piece[] = []
  let queuedBytes = 0
  let unsyncedBytes = 0
  /** Since when the upload has waited for every single write. */
  let behindSinceMs: number | undefined
  let writing: Promise<void> | undefined
  let syncing: Promise<void> | undefined
  let room: (() => void) | undefined

  function fail(cause: unknown): void {
    failure ??= toStoreError(cause)
    queue = []
    queuedBytes = 0
    room?.()
  }

  async function writeOut(): Promise<void> {
    behindSinceMs = undefined
    try {
      handle ??= await create()
      for (let run = nextRun(queue); run.length > 0 && !failure; run = nextRun(queue)) {
        await writeRun(handle, run)
      }
    } catch (error) {
      fail(error)
    } finally {
      writing = undefined
    }
  }

  async function create(): Promise<FileHandle> {
    if (!(await options.hasRoom())) throw new StoreError('full', 'storage.minfree is reached')
    return await open(path, 'wx')
  }

  async function writeRun(file: FileHandle, run: readonly Piece[]): Promise<void> {
    const length = run.reduce((sum, piece) => sum + piece.bytes.length, 0)
    const { bytesWritten } = await file.writev(
      run.map((piece) => piece.bytes),
      run[0]?.position ?? 0,
    )
    if (bytesWritten !== length) throw new StoreError('full', 'the disk took only a part of a write')
    queuedBytes -= length
    unsyncedBytes += length
    if (!room) behindSinceMs = undefined
    else if (queuedBytes <= QUEUE_MAX_BYTES) room()
    if (unsyncedBytes < SYNC_EVERY_BYTES || gate.syncing) return
    if (!(await options.hasRoom())) throw new StoreError('full', 'storage.minfree is reached')
    unsyncedBytes = 0
    gate.syncing = true
    // Beside the writing, which goes on: what is synced now need not be waited for when the blob is published.
    syncing = file.datasync().then(
      () => {
        gate.syncing = false
      },
      (error: unknown) => {
        gate.syncing = false
        fail(error)
      },
    )
  }

  /**
   * Resolves when there is room again, or the capture has been given up because there was none in time. Short waits are
   * the rule when bytes come in bursts, and slow nothing: sockets hold more than the queue. A disk that every write is
   * waited for is what holds the upload back.
   */
  async function waitForRoom(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    room = resolve
    behindSinceMs ??= performance.now()
    const leftMs = behindSinceMs + options.patienceMs - performance.now()
    const tooSlow = () => fail(new StoreError('io', 'the disk is slower than the upload'))
    const timer = setTimeout(tooSlow, Math.max(0, leftMs))
    timer.unref()
    await promise
    clearTimeout(timer)
    room = undefined
  }

  async function close(): Promise<void> {
    await writing
    await syncing
    const file = handle
    handle = undefined
    await file?.close()
  }

  return {
    get failure() {
      return failure
    },
    write(bytes, position) {
      if (failure) return undefined
      queue.push({ bytes, position })
      queuedBytes += bytes.length
      writing ??= writeOut()
      return queuedBytes > QUEUE_MAX_BYTES ? waitForRoom() : undefined
    },
    async finish(length) {
      await writing
      if (!failure) {
        handle ??= await create() // An empty blob was never written to.
        await handle.truncate(length) // The primary may have taken less of a request than was sent.
      }
      await close()
      if (failure) throw failure
    },
    async digest(algorithm) {
      const digester = createDigester(algorithm)
      for await (const bytes of createReadStream(path, { highWaterMark: QUEUE_MAX_BYTES })) {
        digester.update(bytes as Buffer)
      }
      return digester.digest()
    },
    async discard() {
      fail(new StoreError('io', 'the capture was given up'))
      await close()
      await rm(path, { force: true })
    },
  }
}

function toStoreError(cause: unknown): StoreError {
  if (cause instanceof StoreError) return cause
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined
  const full = code === 'ENOSPC' || code === 'EDQUOT'
  return new StoreError(full ? 'full' : 'io', `writing a capture: ${String(cause)}`, { cause })
}

/** Takes the pieces off the front of the queue that lie one behind the other. */
function nextRun(queue: Piece[]): Piece[] {
  let end = queue[0]?.position
  let count = 0
  for (const piece of queue) {
    if (piece.position !== end) break
    end += piece.bytes.length
    count += 1
  }
  return queue.splice(0, count)
}
