/**
 * Reads every stored blob again within a period, so that damage is found while the primary still has the blob. Blobs
 * come in the order of their digests, which are spread evenly: how far a digest is tells when its turn is, whatever the
 * store's size.
 */
import { read as readFd } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { Logger } from '../src/log.ts'
import type { Metrics } from '../src/metrics.ts'
import { algorithmOf, createDigester, type Digest, hexOf, parseDigest } from '../src/oci/digest.ts'
import { PRIORITIES, type Queue } from '../src/queue/queue.ts'
import type { BlobStore, OpenBlob } from '../src/store/blob-store.ts'
import type { Holdings } from '../src/store/holdings.ts'
import type { RepositoryIndex } from '../src/store/repository-index.ts'
import type { Tracking } from '../src/tracking/tracking.ts'
import type { WholeGraphs } from './whole-graphs.ts'

export interface ScrubDeps {
  readonly blobs: Pick<BlobStore, 'open' | 'quarantine'>
  readonly holdings: Pick<Holdings, 'blobs' | 'repositories' | 'dropComplete'>
  readonly index: Pick<RepositoryIndex, 'link'>
  readonly tracking: Pick<Tracking, 'cursor' | 'setCursor' | 'touch'>
  readonly queue: Pick<Queue, 'wake'>
  readonly whole: Pick<WholeGraphs, 'forget'>
  readonly log: Logger
  readonly metrics: Pick<Metrics, 'scrubbedBytes' | 'scrubDamaged'>
  /** Wall clock in milliseconds; default `Date.now`. */
  readonly now?: (() => number) | undefined
}

export interface ScrubOptions {
  /** `replication.scrub`: within which every blob is read once; default 90 days. */
  readonly periodMs?: number | undefined
  /** Never read faster, which may make a pass longer than its period; default 20 MiB. */
  readonly bytesPerSecond?: number | undefined
}

export interface Scrub {
  /** Goes on where the last process stopped. */
  start(): void
  /** Resolves when nothing of it runs any more. */
  close(): Promise<void>
}

/** Where the pass is, as the cursor keeps it. */
interface Pass {
  readonly startedAtMs: number
  /** The last blob that was read. */
  readonly after: Digest | undefined
}

const CURSOR = 'scrub'
const DAY_MS = 86_400_000
const PERIOD_MS = 90 * DAY_MS
const BYTES_PER_SECOND = 20 * 1024 * 1024
/** A pass ends before the next one is due. */
const SHARE = 0.9
const SAVE_EVERY_MS = 10_000
const AFTER_A_FAILURE_MS = 60_000
const CHUNK_BYTES = 256 * 1024

const readAt = promisify(readFd)

export function createScrub(deps: ScrubDeps, options: ScrubOptions = {}): Scrub {
  const { blobs, holdings, index, tracking, queue, whole, log, metrics, now = Date.now } = deps
  const { periodMs = PERIOD_MS, bytesPerSecond = BYTES_PER_SECOND } = options
  const closing = new AbortController()
  const { signal } = closing
  const buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES)
  let running: Promise<void> | undefined

  /** In steps, since a timer holds no more than 24 days, and a clock may be set. */
  async function waitUntil(atMs: number): Promise<void> {
    for (let leftMs = atMs - now(); leftMs > 0; leftMs = atMs - now()) {
      await delay(Math.min(leftMs, DAY_MS), undefined, { signal, ref: false })
    }
  }

  async function load(): Promise<Pass> {
    const text = await tracking.cursor(CURSOR)
    const saved = text === undefined ? undefined : (JSON.parse(text) as Partial<Pass>)
    const startedAtMs = saved?.startedAtMs
    // A clock that was set back must not hold the pass up until it has caught up.
    if (typeof startedAtMs !== 'number' || startedAtMs > now())
      return { startedAtMs: now(), after: undefined }
    return { startedAtMs, after: parseDigest(saved?.after ?? '') }
  }

  async function onePass(): Promise<void> {
    const { startedAtMs, after } = await load()
    let last = after
    let savedAtMs = now()
    const save = () => tracking.setCursor(CURSOR, JSON.stringify({ startedAtMs, after: last } satisfies Pass))
    await save()
    try {
      for await (const digest of holdings.blobs(after, signal)) {
        await waitUntil(startedAtMs + periodMs * SHARE * positionOf(digest))
        await checkOne(digest)
        last = digest
        if (now() - savedAtMs < SAVE_EVERY_MS) continue
        await save()
        savedAtMs = now()
      }
    } finally {
      await save()
    }
    await waitUntil(startedAtMs + periodMs)
    await tracking.setCursor(CURSOR, undefined)
  }

  /** One that cannot be opened at the moment must not keep the scrub from the others. */
  async function checkOne(digest: Digest): Promise<void> {
    try {
      await check(digest)
    } catch (error) {
      signal.throwIfAborted()
      log.warn({ error, digest }, 'a stored blob could not be checked')
    }
  }

  async function check(digest: Digest): Promise<void> {
    // Damage is there the second time too; a bit that memory lost on the way is not.
    if ((await isWhole(digest)) || (await isWhole(digest))) return
    metrics.scrubDamaged.inc()
    log.error({ digest }, 'a stored blob is damaged: quarantined, to be fetched anew')
    await blobs.quarantine(digest)
    whole.forget()
    await wakeHolders(digest)
  }

  /** Also when it is not here any longer: a blob that is being removed is not damaged. */
  async function isWhole(digest: Digest): Promise<boolean> {
    const blob = await blobs.open(digest)
    if (!blob) return true
    try {
      return (await digestOf(blob)) === digest
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EIO')) throw error
      log.warn({ error, digest }, 'a stored blob cannot be read')
      return false
    } finally {
      blob.close()
    }
  }

  async function digestOf({ digest, fd, sizeBytes }: OpenBlob): Promise<Digest> {
    const digester = createDigester(algorithmOf(digest))
    for (let position = 0; position < sizeBytes; ) {
      const { bytesRead } = await readAt(fd, buffer, 0, CHUNK_BYTES, position)
      if (bytesRead === 0) break
      digester.update(buffer.subarray(0, bytesRead))
      position += bytesRead
      metrics.scrubbedBytes.inc(bytesRead)
      await delay((bytesRead / bytesPerSecond) * 1000, undefined, { signal, ref: false })
    }
    return digester.digest()
  }

  /** Nothing here says which repositories a blob is linked in, so all of them are looked through; damage is rare. */
  async function wakeHolders(digest: Digest): Promise<void> {
    for await (const name of holdings.repositories(signal)) {
      const links = [await index.link(name, 'layer', digest), await index.link(name, 'manifest', digest)]
      if (!links.some((link) => link !== undefined)) continue
      await holdings.dropComplete(name)
      await tracking.touch([name], { priority: PRIORITIES.event })
      await queue.wake({ key: name, priority: PRIORITIES.event })
    }
  }

  async function passAfterPass(): Promise<void> {
    while (!signal.aborted) {
      try {
        await onePass()
      } catch (error) {
        if (signal.aborted) return
        log.warn({ error }, 'the scrub stopped: it goes on where it was in a minute')
        await delay(AFTER_A_FAILURE_MS, undefined, { signal, ref: false }).catch(() => {}) // Closed: it ends.
      }
    }
  }

  return {
    start() {
      running ??= passAfterPass()
    },
    async close() {
      closing.abort()
      await running
    },
  }
}

/** How far a digest is among all, from 0 to 1; the few that are no SHA-256 come last. */
function positionOf(digest: Digest): number {
  return algorithmOf(digest) === 'sha256' ? Number.parseInt(hexOf(digest).slice(0, 8), 16) / 2 ** 32 : 1
}
