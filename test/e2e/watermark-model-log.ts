/**
 * Where the relay's log lies: the real one in a folder, or, a hundred times as fast, one in memory that is made of the
 * same parts (its time, its settling, its forgetting of what came twice). Both outlive the relay.
 */
import { randomUUID } from 'node:crypto'
import { copyFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { openRelayLog, type RelayLog } from '../../replicator/relay/log.ts'
import { type LogEntry, recordText } from '../../replicator/relay/log-format.ts'
import { createRecentNotices } from '../../replicator/relay/log-recent.ts'
import type { PageLimits } from '../../replicator/relay/log-segment.ts'
import { createLogTime, createSettling } from '../../replicator/relay/log-time.ts'
import type { Logger } from '../../src/log.ts'
import type { VirtualTime } from './watermark-model-time.ts'

export interface OpenLog {
  readonly log: RelayLog
  /** kill -9; the relay that has it hears nothing of it any more. */
  crash(): Promise<void>
}

export interface Disk {
  /** Between a write and its being durable, as it is now. */
  delayMs: number
  isFailing: boolean
  open(now: () => number): Promise<OpenLog>
  /** The folder is lost. */
  lose(): Promise<void>
}

export function createMemoryDisk(time: VirtualTime): Disk {
  let id: string = randomUUID()
  let entries: LogEntry[] = []
  let first = 1
  let clockMs = 0

  function open(now: () => number): OpenLog {
    const logNow = createLogTime(Math.max(clockMs, entries.at(-1)?.atMs ?? 0), now)
    const settling = createSettling()
    for (const { number, atMs } of entries) settling.add(number, atMs)
    const taken = createRecentNotices(20_000)
    const listeners = new Set<() => void>()
    const recovered = entries.at(-1)?.number ?? first - 1
    let last = recovered
    let writing: Promise<unknown> = Promise.resolve()
    let underWay: readonly LogEntry[] = []
    let isAlive = true

    async function write(notices: readonly string[]): Promise<number> {
      const atMs = logNow()
      const added = new Map<string, LogEntry>()
      for (const notice of notices) {
        if (added.has(notice) || taken.has(notice, atMs)) continue
        const number = last + added.size + 1
        added.set(notice, { number, atMs, text: recordText(number, notice) })
      }
      underWay = [...added.values()]
      if (disk.delayMs > 0) await time.sleep(disk.delayMs)
      if (!isAlive) return await new Promise(() => undefined)
      underWay = []
      if (disk.isFailing) throw new Error('ENOSPC')
      for (const [notice, entry] of added) {
        entries.push(entry)
        taken.add(notice, entry.atMs)
        settling.add(entry.number, entry.atMs)
        last = entry.number
      }
      if (added.size > 0) for (const listener of [...listeners]) listener()
      return last
    }

    const log: RelayLog = {
      id,
      get first() {
        return first
      },
      get last() {
        return last
      },
      get settledThrough() {
        return Math.max(first - 1, settling.through(logNow()))
      },
      bytes: 0,
      append(notices) {
        const texts = notices.map((notice) => JSON.stringify(notice))
        const written = writing.then(() => write(texts))
        writing = written.catch(() => undefined)
        return written
      },
      async read(after, { limitRecords }: PageLimits) {
        if (after < first - 1 || after > last) return undefined
        return entries
          .slice(after - first + 1, after - first + 1 + limitRecords)
          .filter(({ number }) => number <= last)
      },
      ageMs: () => 0,
      onAppended(listener) {
        listeners.add(listener)
        return () => listeners.delete(listener)
      },
      async touch() {
        clockMs = logNow()
        // As short a retention as can be.
        const settled = settling.through(clockMs)
        if (time.odds(0.1) && settled >= first) {
          entries = entries.filter(({ number }) => number > settled)
          first = settled + 1
        }
      },
      close: async () => undefined,
      [Symbol.asyncDispose]: async () => undefined,
    }
    return {
      log,
      async crash() {
        isAlive = false
        // What nobody was told of may be there all the same.
        if (time.odds(0.5)) entries.push(...underWay)
      },
    }
  }

  const disk: Disk = {
    delayMs: 0,
    isFailing: false,
    open: async (now) => open(now),
    async lose() {
      id = randomUUID()
      entries = []
      first = 1
      clockMs = 0
    },
  }
  return disk
}

export function createRealDisk(time: VirtualTime, folder: string, logger: Logger): Disk {
  const clock = join(folder, 'clock')
  const kept = join(folder, 'kept')

  const disk: Disk = {
    delayMs: 0,
    isFailing: false,
    async open(now) {
      const log = await time.real(
        openRelayLog(
          folder,
          { retentionAgeMs: 70_000, retentionBytes: 1024 ** 2, segmentBytes: 4096, touchEveryMs: 0, now },
          { log: logger, metrics: { recorded: () => undefined } },
        ),
      )
      const timed: RelayLog = {
        id: log.id,
        get first() {
          return log.first
        },
        get last() {
          return log.last
        },
        get settledThrough() {
          return log.settledThrough
        },
        get bytes() {
          return log.bytes
        },
        async append(notices) {
          if (disk.isFailing) throw new Error('ENOSPC')
          return await time.real(log.append(notices))
        },
        read: (after, limits) => time.real(log.read(after, limits)),
        ageMs: log.ageMs,
        onAppended: log.onAppended,
        touch: () => time.real(log.touch()),
        close: log.close,
        [Symbol.asyncDispose]: log.close,
      }
      return {
        log: timed,
        async crash() {
          // Closing saves its time, which nobody does who is killed.
          const hasClock = await time.real(copyFile(clock, kept)).then(
            () => true,
            () => false,
          )
          await time.real(log.close())
          await time.real(hasClock ? copyFile(kept, clock) : rm(clock, { force: true }))
        },
      }
    },
    lose: () => time.real(rm(folder, { recursive: true, force: true })),
  }
  return disk
}
