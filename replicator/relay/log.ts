/**
 * The relay's log: what registries told, numbered in the order it was taken, on disk before it is acknowledged. Appends
 * that wait for the disk share one sync. Numbers have no gaps and are never given twice; only what is on disk is read.
 */
import type { Logger } from '../../src/log.ts'
import type { Notice } from '../notification.ts'
import { createLogFiles, fitsLine, type OpenFile } from './log-files.ts'
import { type LogEntry, recordText } from './log-format.ts'
import { createRecentEntries, createRecentNotices } from './log-recent.ts'
import { recoverLog, saveClock } from './log-recovery.ts'
import type { PageLimits } from './log-segment.ts'
import { createLogTime, createSettling } from './log-time.ts'

export interface RelayLog extends AsyncDisposable {
  /** A UUID, for as long as the folder lives. */
  readonly id: string
  /** The first number that can still be read; `last + 1` when there is none. */
  readonly first: number
  /** The newest number, on disk for good; 0 in a new log. */
  readonly last: number
  /** Up to here all was taken longer ago than `SETTLED_MS` of log time. */
  readonly settledThrough: number
  /** Of all segments. */
  readonly bytes: number
  /**
   * Resolves, in the order of the calls, when the notices are on disk with all that was appended before; with the number
   * of the last of them (of the record before, where there is none to write). Rejects when they could not be written:
   * none of them is in the log then, and later calls try the disk again. A notice that was taken within the last minute is
   * not written again.
   */
  append(notices: readonly Notice[]): Promise<number>
  /**
   * The records that follow a number, from memory or disk; at least one where there is one. Undefined when some of what
   * follows is not here any longer, or when the number was never given. Rejects when the disk cannot be read.
   */
  read(after: number, limits: PageLimits): Promise<readonly LogEntry[] | undefined>
  /** How long ago, in log time, a record was taken, or a little more; 0 for one that is not here. */
  ageMs(number: number): number
  /** Told after records became readable; returns how to be told no more. */
  onAppended(listener: () => void): () => void
  /** Saves log time and removes what is kept no longer; done every second anyway. Never rejects. */
  touch(): Promise<void>
  /** Ends when what was appended is written. Appending to a closed log rejects. */
  close(): Promise<void>
}

export interface RelayLogOptions {
  /** Log time after which records may go; whole segments, never the newest, nor what is not settled. */
  readonly retentionAgeMs: number
  /** What all segments together may take; as above. */
  readonly retentionBytes: number
  /** When another segment is begun; default a 16th of `retentionBytes`, between 64 KiB and 16 MiB. */
  readonly segmentBytes?: number | undefined
  /** Of the newest records kept in memory; default 8 MiB. */
  readonly memoryBytes?: number | undefined
  /** Default 1000; 0: only when `touch` is called. */
  readonly touchEveryMs?: number | undefined
  /** Monotonic milliseconds; default `performance.now`. */
  readonly now?: (() => number) | undefined
}

export interface RelayLogMetrics {
  /** Events written to the log, and the bytes they take. */
  recorded(events: number, bytes: number): void
}

export interface RelayLogDeps {
  readonly log: Logger
  readonly metrics: RelayLogMetrics
  /** A write failed: what was to be appended was not, and was refused. Called before the appends reject. */
  readonly onFailure?: ((error: unknown) => void) | undefined
  /** How the newest segment is opened to be written; tests give a disk that fails. */
  readonly openFile?: OpenFile | undefined
}

interface Waiting {
  /** As JSON. */
  readonly notices: readonly string[]
  readonly resolve: (last: number) => void
  readonly reject: (error: unknown) => void
}

const MIB = 1024 * 1024
/** A write takes as many of the waiting appends as have this together, and at least one. */
const BATCH_BYTES = 2 * MIB
const RECENT_NOTICES = 20_000

/** Throws `RelayLogDamagedError` when the folder's log lost something that it had acknowledged. */
export async function openRelayLog(
  folder: string,
  options: RelayLogOptions,
  { log, metrics, onFailure, openFile }: RelayLogDeps,
): Promise<RelayLog> {
  const { retentionAgeMs, retentionBytes, memoryBytes = 8 * MIB, touchEveryMs = 1000 } = options
  const segmentBytes = options.segmentBytes ?? Math.min(Math.max(retentionBytes / 16, MIB / 16), 16 * MIB)
  const settling = createSettling()
  const recovered = await recoverLog(folder, ({ number, atMs }) => settling.add(number, atMs), log)
  const { id } = recovered
  const files = createLogFiles(folder, recovered.segments, { segmentBytes, openFile })
  const logNow = createLogTime(recovered.atMs, options.now ?? (() => performance.now()))
  const recent = createRecentEntries(files.last, memoryBytes)
  const taken = createRecentNotices(RECENT_NOTICES)
  const listeners = new Set<() => void>()
  let last = files.last
  let waiting: Waiting[] = []
  let writing: Promise<void> | undefined
  let touching: Promise<void> | undefined
  let isTouchFailing = false
  let isClosed = false

  async function append(notices: readonly Notice[]): Promise<number> {
    if (isClosed) throw new Error("the relay's log is closed: the relay is shutting down")
    const texts = notices.map((notice) => JSON.stringify(notice))
    if (!texts.every(fitsLine)) throw new RangeError('an event is too long to be kept')
    const { promise, resolve, reject } = Promise.withResolvers<number>()
    waiting.push({ notices: texts, resolve, reject })
    writing ??= writeWaiting()
    return await promise
  }

  async function writeWaiting(): Promise<void> {
    // What is appended in the same turn of the loop shares the first write.
    await Promise.resolve()
    while (waiting.length > 0) await writeBatch(takeBatch())
    writing = undefined
  }

  function takeBatch(): Waiting[] {
    let bytes = 0
    const over = waiting.findIndex(({ notices }, index) => {
      for (const notice of notices) bytes += notice.length
      return index > 0 && bytes > BATCH_BYTES
    })
    const batch = over === -1 ? waiting : waiting.slice(0, over)
    waiting = over === -1 ? [] : waiting.slice(over)
    return batch
  }

  async function writeBatch(batch: readonly Waiting[]): Promise<void> {
    const atMs = logNow()
    const inBatch = new Set<string>()
    const entries: LogEntry[] = []
    let number = last
    const lasts = batch.map(({ notices }) => {
      for (const notice of notices) {
        if (inBatch.has(notice) || taken.has(notice, atMs)) continue
        inBatch.add(notice)
        number += 1
        entries.push({ number, atMs, text: recordText(number, notice) })
      }
      return number
    })
    if (entries.length > 0) {
      let bytes: number
      try {
        bytes = await files.append(entries)
      } catch (error) {
        log.error(
          { error },
          "events could not be written to the relay's log and were refused: look at its disk",
        )
        tell(() => onFailure?.(error))
        for (const { reject } of batch) reject(error)
        return
      }
      for (const notice of inBatch) taken.add(notice, atMs)
      for (const entry of entries) {
        recent.add(entry)
        settling.add(entry.number, entry.atMs)
      }
      last = number
      tell(() => metrics.recorded(entries.length, bytes))
    }
    for (const [index, { resolve }] of batch.entries()) resolve(lasts[index] ?? number)
    if (entries.length > 0) for (const listener of [...listeners]) tell(listener)
  }

  /** What those who are told make of it must not keep the others from being written. */
  function tell(listener: () => void): void {
    try {
      listener()
    } catch (error) {
      log.error({ error }, "one who is told of the relay's log failed")
    }
  }

  async function read(after: number, limits: PageLimits): Promise<readonly LogEntry[] | undefined> {
    if (after < files.first - 1 || after > last) return undefined
    return recent.after(after, limits) ?? (await files.read(after, limits))
  }

  async function keepUp(): Promise<void> {
    try {
      const nowMs = logNow()
      const settled = settling.through(nowMs)
      await files.retain(
        ({ last, lastAtMs }, totalBytes) =>
          last <= settled && (nowMs - lastAtMs > retentionAgeMs || totalBytes > retentionBytes),
      )
      // After there is room for it.
      await saveClock(folder, { log: id, atMs: nowMs, last })
      isTouchFailing = false
    } catch (error) {
      if (!isTouchFailing)
        log.warn({ error, folder }, "the relay's log cannot save its time or remove old events")
      isTouchFailing = true
    }
  }

  function touch(): Promise<void> {
    touching ??= keepUp().finally(() => {
      touching = undefined
    })
    return touching
  }

  const timer = touchEveryMs > 0 ? setInterval(() => void touch(), touchEveryMs).unref() : undefined
  async function close(): Promise<void> {
    if (isClosed) return
    isClosed = true
    clearInterval(timer)
    await writing
    await touching
    await touch()
    await files.close()
  }

  log.info({ folder, relayLog: id, first: files.first, last }, "the relay's log is open")
  return {
    id,
    get first() {
      return files.first
    },
    get last() {
      return last
    },
    get settledThrough() {
      return Math.max(settling.through(logNow()), files.first - 1)
    },
    get bytes() {
      return files.bytes
    },
    append,
    read,
    ageMs: (number) => {
      const isHere = number >= files.first && number <= last
      const atMs = isHere ? (recent.find(number)?.atMs ?? files.atMs(number)) : undefined
      return atMs === undefined ? 0 : Math.max(0, logNow() - atMs)
    },
    onAppended: (listener) => {
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    touch,
    close,
    [Symbol.asyncDispose]: close,
  }
}
