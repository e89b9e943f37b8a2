/** The newest records, in memory: what nearly every site asks for, and what a registry may have sent twice. */
import { SETTLED_MS } from '../../src/freshness/freshness.ts'
import type { LogEntry } from './log-format.ts'
import type { PageLimits } from './log-segment.ts'

export interface RecentEntries {
  add(entry: LogEntry): void
  /** Undefined when some of what follows `after` is here no longer. */
  after(number: number, limits: PageLimits): LogEntry[] | undefined
  find(number: number): LogEntry | undefined
}

/** How much is cut off at once: an array is not moved for every record. */
const TRIM_ENTRIES = 1024

/** `after`: the number that the first record follows. */
export function createRecentEntries(after: number, limitBytes: number): RecentEntries {
  let entries: LogEntry[] = []
  let before = after
  let from = 0
  let bytes = 0

  return {
    add(entry) {
      entries.push(entry)
      bytes += entry.text.length
      for (let first = entries[from]; first !== undefined && bytes > limitBytes; first = entries[from]) {
        bytes -= first.text.length
        from += 1
      }
      if (from >= TRIM_ENTRIES && from * 2 >= entries.length) {
        entries = entries.slice(from)
        before += from
        from = 0
      }
    },
    after(number, limits) {
      const start = number - before
      if (start < from) return undefined
      const page: LogEntry[] = []
      let pageBytes = 0
      for (let index = start; index < entries.length && page.length < limits.limitRecords; index++) {
        const entry = entries[index]
        if (entry === undefined) break
        pageBytes += entry.text.length
        if (page.length > 0 && pageBytes > limits.limitBytes) break
        page.push(entry)
      }
      return page
    },
    find: (number) => (number - before - 1 < from ? undefined : entries[number - before - 1]),
  }
}

/** Notices of the last minute, by all that they say. */
export interface RecentNotices {
  has(notice: string, nowMs: number): boolean
  add(notice: string, nowMs: number): void
}

export function createRecentNotices(limit: number): RecentNotices {
  // Oldest first.
  const takenAtMs = new Map<string, number>()
  return {
    has(notice, nowMs) {
      const atMs = takenAtMs.get(notice)
      return atMs !== undefined && nowMs - atMs < SETTLED_MS
    },
    add(notice, nowMs) {
      takenAtMs.delete(notice)
      takenAtMs.set(notice, nowMs)
      for (const [oldest, atMs] of takenAtMs) {
        if (takenAtMs.size <= limit && nowMs - atMs < SETTLED_MS) break
        takenAtMs.delete(oldest)
      }
    },
  }
}
