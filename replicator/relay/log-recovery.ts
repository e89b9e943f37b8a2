/**
 * The log's folder as it is found. What a crash left half-written behind the last whole record was never acknowledged and
 * is cut; anything else that is not as it should be was, and is not touched: a number that was once given must not be
 * given again, for a site that has it would never ask for the other record.
 */
import { randomUUID } from 'node:crypto'
import { mkdir, open, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import type { Logger } from '../../src/log.ts'
import { isAbsent, syncFile, syncFolder } from '../../src/store/durable-files.ts'
import {
  clockLine,
  headerLine,
  type LogEntry,
  RelayLogDamagedError,
  readClock,
  type SavedClock,
  type SegmentHeader,
} from './log-format.ts'
import {
  emptySegment,
  type Fault,
  isSegmentName,
  type Segment,
  scanSegment,
  segmentPath,
} from './log-segment.ts'

export interface RecoveredLog {
  readonly id: string
  /** Oldest first; at least one. */
  readonly segments: Segment[]
  /** Log time to go on from: never later than it had become. */
  readonly atMs: number
}

/** Between the part of a name that ends a file that is not yet one of the log. */
const UNFINISHED = '.tmp'

/** `onEntry` is told of each record in its order. Throws `RelayLogDamagedError`. */
export async function recoverLog(
  folder: string,
  onEntry: (entry: LogEntry) => void,
  log: Logger,
): Promise<RecoveredLog> {
  await mkdir(folder, { recursive: true })
  await syncFolder(dirname(resolve(folder)))
  const names = (await readdir(folder)).sort()
  for (const name of names.filter((each) => each.endsWith(UNFINISHED))) await rm(join(folder, name))
  const paths = names.filter(isSegmentName).map((name) => join(folder, name))
  const clock = await readSavedClock(folder)
  const segments: Segment[] = []
  for (const [index, path] of paths.entries()) {
    const { segment, fault } = await scanSegment(path, onEntry)
    expectNext(segments.at(-1), segment)
    if (fault) {
      expectUnacknowledged(segment, fault, index === paths.length - 1, clock)
      await cut(segment, fault, log)
    }
    segments.push(segment)
  }
  const newest = segments.at(-1)
  if (newest === undefined) {
    const first = await createSegment(folder, { log: randomUUID(), after: 0, atMs: 0 })
    log.info({ folder, relayLog: first.header.log }, 'a new log of events was begun')
    return { id: first.header.log, segments: [first], atMs: 0 }
  }
  const { log: id } = newest.header
  if (clock?.log === id && clock.last > newest.last) {
    throw new RelayLogDamagedError(
      `records ${newest.last + 1} to ${clock.last} were acknowledged and are no longer in ${folder}`,
    )
  }
  return { id, segments, atMs: Math.max(newest.lastAtMs, clock?.log === id ? clock.atMs : 0) }
}

function expectNext(previous: Segment | undefined, next: Segment): void {
  if (previous === undefined) return
  if (next.header.log !== previous.header.log) {
    throw new RelayLogDamagedError(`${next.path} is of another log than ${previous.path}`)
  }
  if (next.header.after !== previous.last) {
    throw new RelayLogDamagedError(
      `${previous.path} ends with record ${previous.last}, and ${next.path} goes on after ${next.header.after}`,
    )
  }
}

function expectUnacknowledged(
  { path, header }: Segment,
  { offset, number, durable }: Fault,
  isNewest: boolean,
  clock: SavedClock | undefined,
): void {
  const acknowledged = Math.max(durable, clock?.log === header.log ? clock.last : 0)
  if (isNewest && acknowledged < number) return
  throw new RelayLogDamagedError(
    `record ${number}, at byte ${offset} of ${path}, cannot be read, and it had been acknowledged`,
  )
}

async function cut(segment: Segment, { offset, number }: Fault, log: Logger): Promise<void> {
  await using file = await open(segment.path, 'r+')
  const { size } = await file.stat()
  await file.truncate(offset)
  await file.datasync()
  log.warn(
    { path: segment.path, bytes: size - offset, record: number },
    'the end of the log was never written whole, nor acknowledged, and is cut: the registry sends it again',
  )
}

/** On disk for good, with its name, when it resolves; absent when it rejects. */
export async function createSegment(folder: string, header: SegmentHeader): Promise<Segment> {
  const path = segmentPath(folder, header.after)
  const line = headerLine(header)
  await writeFile(path + UNFINISHED, line)
  await syncFile(path + UNFINISHED)
  await rename(path + UNFINISHED, path)
  await syncFolder(folder)
  return emptySegment(path, header, Buffer.byteLength(line))
}

/** Not synced: what a crash takes of it only makes log time go slower. */
export async function saveClock(folder: string, clock: SavedClock): Promise<void> {
  const path = clockPath(folder)
  await writeFile(path + UNFINISHED, clockLine(clock))
  await rename(path + UNFINISHED, path)
}

async function readSavedClock(folder: string): Promise<SavedClock | undefined> {
  try {
    const bytes = await readFile(clockPath(folder))
    return readClock(bytes.subarray(0, -1))
  } catch (error) {
    if (isAbsent(error)) return undefined
    throw error
  }
}

function clockPath(folder: string): string {
  return join(folder, 'clock')
}
