/**
 * Keeps a copy of blobs that are pushed through this site, as they pass (DESIGN "Capture"). What is captured is only a
 * guess at what the primary has, followed by the ranges it acknowledges; the digest decides. A capture may be lost at
 * any moment (restart, disk, disagreement) and nobody but the next reader notices.
 */
import { randomUUID } from 'node:crypto'
import { mkdir, readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from '../src/log.ts'
import type { Metrics } from '../src/metrics.ts'
import { algorithmOf, createDigester, type Digest, type Digester } from '../src/oci/digest.ts'
import type { ByteRange } from '../src/oci/ranges.ts'
import type { BlobStore } from '../src/store/blob-store.ts'
import { type CaptureFile, createCaptureFile } from './capture-file.ts'

export interface CapturesDeps {
  readonly blobs: BlobStore
  readonly metrics: Metrics
  readonly log: Logger
}

export interface CapturesOptions {
  /** On the store's filesystem, so that publishing is a rename: `<root>/geo-registry/spools`. */
  readonly folder: string
  /** Upload sessions followed at a time; the one longest unused gives way. Default 256. */
  readonly maxSessions?: number
  /** A session without a request for this long is forgotten. Default 1 h. */
  readonly idleMs?: number
  /** How long the disk may hold an upload back at a stretch before its capture is given up. Default 1 s. */
  readonly patienceMs?: number
  /** Default false: nobody else captures into the folder. */
  readonly isShared?: boolean | undefined
}

/**
 * The part of one request in a capture. Exactly one of `acknowledged`, `unsettled` and `keep` is owed when the answer,
 * or the loss of it, is known.
 */
export interface CapturePart {
  /** Bytes that pass. A promise holds the upload back while the disk is behind, within `patienceMs`. */
  write(bytes: Buffer): Promise<void> | undefined
  /** The primary took the request and now has `range`; undefined where it did not say. */
  acknowledged(range: ByteRange | undefined): void
  /** Refused, or nobody knows: what was sent does not count until the primary says so. */
  unsettled(): void
  /**
   * The primary has the whole blob. Publishes it when what was captured is what the digest says; false when it is not,
   * and the capture is gone either way.
   */
  keep(digest: Digest): Promise<boolean>
}

/** Sessions are known by a key of the caller's: repository and upload URL without its query. */
export interface Captures {
  /** The primary has begun an upload session. */
  begin(key: string): void
  /** The session goes on under another address. */
  rename(key: string, newKey: string): void
  /** A request with bytes for the session, which begin at `startByte` where the client says so. */
  part(key: string, startByte: number | undefined): CapturePart | undefined
  /** The primary told how much of the session it has. */
  learn(key: string, range: ByteRange | undefined): void
  drop(key: string, reason: string): void
  /** Removes every unfinished capture; what is being published is finished first. */
  close(): Promise<void>
}

interface Session {
  readonly file: CaptureFile
  readonly path: string
  readonly idle: NodeJS.Timeout
  key: string
  busy: boolean
  /** Bytes the primary is taken to have. */
  length: number
  /** Bytes that lie in the file without a gap; past `length` they may be wrong. */
  written: number
  /** Bytes that went into `digester`. */
  hashed: number
  /** Undefined once it has seen bytes that do not count: hashed bytes cannot be taken back, only read again. */
  digester: Digester | undefined
}

const PREFIX = 'capture-'

/** Removes what a crash left in the folder; where it is shared, once nobody can be writing it any more. */
export async function createCaptures(deps: CapturesDeps, options: CapturesOptions): Promise<Captures> {
  const { blobs, metrics, log } = deps
  const { folder, maxSessions = 256, idleMs = 3_600_000, patienceMs = 1000, isShared = false } = options
  const sessions = new Map<string, Session>()
  const ending = new Set<Promise<unknown>>()
  const gate = { syncing: false }

  await mkdir(folder, { recursive: true })
  await sweep()
  // What another process leaves when it is killed is not idle yet when that starts again.
  const sweeping = isShared
    ? setInterval(() => void track(sweep()).catch(notRemoved), idleMs).unref()
    : undefined

  async function sweep(): Promise<void> {
    for (const name of await readdir(folder)) {
      const path = join(folder, name)
      // A capture that another process has forgotten for being idle is nobody's.
      if (!name.startsWith(PREFIX) || (isShared && !(await isIdle(path, idleMs)))) continue
      await rm(path, { force: true })
    }
  }

  function notRemoved(error: unknown): void {
    log.warn({ error }, 'capture not removed')
  }

  function track<T>(promise: Promise<T>): Promise<T> {
    ending.add(promise)
    const settled = () => void ending.delete(promise)
    promise.then(settled, settled)
    return promise
  }

  function begin(key: string): void {
    replace(key)
    const oldest = sessions.size < maxSessions ? undefined : sessions.values().next().value
    if (oldest) drop(oldest, 'too many uploads at once')
    const path = join(folder, PREFIX + randomUUID())
    const idle = setTimeout(() => drop(session, 'no request for too long'), idleMs)
    idle.unref()
    const hasRoom = () => blobs.hasRoom()
    const session: Session = {
      file: createCaptureFile({ path, patienceMs, hasRoom, gate }),
      path,
      idle,
      key,
      busy: false,
      length: 0,
      written: 0,
      hashed: 0,
      digester: createDigester('sha256'),
    }
    sessions.set(key, session)
  }

  /** A registry that gives the same address to two uploads. */
  function replace(key: string): void {
    const former = sessions.get(key)
    if (former) drop(former, 'another upload took its place')
  }

  /** False when it was given up before. */
  function forget(session: Session): boolean {
    clearTimeout(session.idle)
    return sessions.get(session.key) === session && sessions.delete(session.key)
  }

  function drop(session: Session, reason: string): void {
    if (!forget(session)) return
    if (session.written > 0) dropped(session, reason)
    discard(session)
  }

  function dropped({ file: { failure } }: Session, reason: string): void {
    metrics.captures.inc({ outcome: 'dropped' })
    if (failure) metrics.storeErrors.inc({ kind: failure.kind })
    log.info({ reason, error: failure }, 'pushed blob not kept')
  }

  function discard(session: Session): void {
    track(session.file.discard()).catch(notRemoved)
  }

  function part(key: string, startByte: number | undefined): CapturePart | undefined {
    const session = sessions.get(key)
    if (!session) return undefined
    if (session.busy) {
      // Two requests at once: only the primary knows which of them counts, and in which order.
      drop(session, 'two requests of one upload at once')
      return undefined
    }
    session.busy = true
    session.idle.refresh()
    sessions.delete(key)
    sessions.set(key, session) // The longest unused stays first.
    // Bytes out of order are for the primary to refuse; writing them would spoil what it has taken.
    const inOrder = startByte === undefined || startByte === session.length
    return createPart(session, inOrder)
  }

  function createPart(session: Session, inOrder: boolean): CapturePart {
    const start = session.length
    let position = start
    let received = 0
    if (session.hashed !== start) session.digester = undefined

    return {
      write(bytes) {
        received += bytes.length
        if (session.file.failure) drop(session, 'it could not be written') // At once: the disk may be full of it.
        if (!inOrder || sessions.get(session.key) !== session) return undefined
        session.idle.refresh()
        session.digester?.update(bytes)
        session.hashed = position + bytes.length
        const held = session.file.write(bytes, position)
        position += bytes.length
        session.written = position
        return held
      },
      acknowledged(range) {
        session.busy = false
        if (received > 0 && !inOrder) drop(session, 'bytes accepted out of order')
        else settle(session, acknowledgedLength(range, position))
      },
      unsettled() {
        session.busy = false
      },
      async keep(digest) {
        if (received > 0 && !inOrder) drop(session, 'bytes accepted out of order')
        if (!forget(session)) return false
        session.length = position
        return await track(publish(session, digest))
      },
    }
  }

  function settle(session: Session, length: number | undefined): void {
    if (session.file.failure) drop(session, 'it could not be written')
    else if (length === undefined || length > session.written) {
      drop(session, 'the primary has other bytes than were sent')
    } else session.length = length
  }

  async function publish(session: Session, digest: Digest): Promise<boolean> {
    const { file, path, length } = session
    try {
      if ((await blobs.stat(digest)) === undefined) {
        await file.finish(length)
        const hashed = algorithmOf(digest) === 'sha256' && session.hashed === length
        const actual = (hashed && session.digester?.digest()) || (await file.digest(algorithmOf(digest)))
        if (actual !== digest) {
          dropped(session, 'the bytes that passed are not those of the digest')
          return false
        }
        await blobs.publish(path, digest)
      }
      metrics.captures.inc({ outcome: 'kept' })
      return true
    } catch (error) {
      log.warn({ error, digest }, 'pushed blob could not be published')
      dropped(session, 'it could not be published')
      return false
    } finally {
      discard(session)
    }
  }

  return {
    begin,
    part,
    drop(key, reason) {
      const session = sessions.get(key)
      if (session) drop(session, reason)
    },
    rename(key, newKey) {
      const session = sessions.get(key)
      if (!session || key === newKey) return
      replace(newKey)
      sessions.delete(key)
      session.key = newKey
      sessions.set(newKey, session)
    },
    learn(key, range) {
      const session = sessions.get(key)
      if (session && !session.busy) settle(session, acknowledgedLength(range, session.length))
    },
    async close() {
      clearInterval(sweeping)
      for (const session of [...sessions.values()]) drop(session, 'this site is stopping')
      await Promise.allSettled(ending)
    },
  }
}

async function isIdle(path: string, idleMs: number): Promise<boolean> {
  try {
    return Date.now() - (await stat(path)).mtimeMs > idleMs
  } catch {
    return false // Published, or given up, by whoever it belongs to.
  }
}

/** `expected` where the primary does not say; undefined for a range that does not begin at the first byte. */
function acknowledgedLength(range: ByteRange | undefined, expected: number): number | undefined {
  if (range === undefined) return expected
  if (range.start !== 0) return undefined
  // Distribution says `0-0` of an empty upload as well as of one with a single byte.
  if (range.end === 0) return expected === 1 ? 1 : 0
  return range.end + 1
}
