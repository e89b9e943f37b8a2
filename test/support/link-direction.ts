/**
 * One direction of a link: lanes (one per connection) whose bytes wait for their latency, share a rate fairly, and are
 * counted, spoiled or cut on their way. Latency costs no throughput: bytes wait beside each other in a queue that is
 * as long as the line is (and no longer, so that memory is bounded and the sender feels the back pressure).
 */
import type { Socket } from 'node:net'
import { CATCH_UP_MS, createRateLimit, type RateLimit, TICK_MS } from './link-rate.ts'

export interface Shape {
  /** One way; a round trip has it twice, and a new connection's handshake one round trip more. Default 0. */
  readonly latencyMs?: number
  /** All connections together, each direction by itself. Default no limit. */
  readonly bytesPerSecond?: number
  /** Each connection by itself, each direction by itself. Default no limit. */
  readonly connectionBytesPerSecond?: number
}

/** What a connection does when its lane has forwarded the last byte that `cutAfter` allows. */
export type CutHow = 'reset' | 'end'

export interface Lane {
  /** Bytes that arrived from the sender. */
  push(chunk: Buffer): void
  /** The sender's FIN: it travels behind its bytes. */
  end(): void
  /** Drops what is queued; the lane is spent. */
  close(): void
}

export interface Direction {
  /** Bytes handed to the receivers so far. */
  readonly bytes: number
  /** `cut` is called when `cutAfter` struck this lane. */
  open(source: Socket, sink: Socket, notBeforeMs: number, cut: (how: CutHow) => void): Lane
  shape(shape: Shape): void
  /** False: nothing is forwarded until true. */
  flow(flowing: boolean): void
  cutAfter(bytes: number, how: CutHow): void
  corrupt(offset: number): void
}

/** The share of one lane in one turn: small enough to be fair, large enough to cost little. */
const TURN_BYTES = 64 * 1024
/** A lane may always hold this much. */
const LANE_FLOOR_BYTES = 256 * 1024
/** The line of an unlimited lane with latency. */
const LANE_UNLIMITED_BYTES = 32 * 1024 * 1024
/** All lanes of a direction together, floors excepted. */
const DIRECTION_BYTES = 128 * 1024 * 1024

/** How long a receiver has to read the last bytes before a reset. */
const CUT_GRACE_MS = 50

interface Parcel {
  /** Undefined: the sender's FIN. */
  chunk: Buffer | undefined
  readonly dueMs: number
}

interface LaneState {
  readonly source: Socket
  readonly sink: Socket
  readonly notBeforeMs: number
  readonly cut: (how: CutHow) => void
  readonly parcels: Parcel[]
  rate: RateLimit
  queuedBytes: number
  /** The receiver's socket is full until it drains. */
  full: boolean
  closed: boolean
}

export function createDirection(initial: Shape): Direction {
  const lanes = new Set<LaneState>()
  let shape = initial
  let rate = createRateLimit(shape.bytesPerSecond)
  let limitBytes = laneLimit(shape)
  let straight = isStraight(shape)
  let flowing = true
  let bytes = 0
  let queuedBytes = 0
  let cutting: { atByte: number; how: CutHow } | undefined
  let corruptAtByte: number | undefined
  let timer: NodeJS.Timeout | undefined
  let pumpAtMs = 0
  /** Whether something could have gone at the last look but for a rate. */
  let limited = false

  function push(lane: LaneState, chunk: Buffer): void {
    if (lane.closed) return
    if (straight && flowing && !lane.full && lane.parcels.length === 0) {
      forward(lane, chunk)
      return
    }
    lane.queuedBytes += chunk.length
    queuedBytes += chunk.length
    enqueue(lane, chunk)
    if (!lane.closed) balance(lane)
  }

  function enqueue(lane: LaneState, chunk: Buffer | undefined): void {
    if (lane.closed) return
    const dueMs = Math.max(performance.now(), lane.notBeforeMs) + (shape.latencyMs ?? 0)
    lane.parcels.push({ chunk, dueMs })
    if (timer === undefined || dueMs < pumpAtMs) pump()
  }

  /** The back pressure: a sender is read from only while its lane has room. */
  function balance(lane: LaneState): void {
    const limit = queuedBytes > DIRECTION_BYTES ? Math.min(limitBytes, LANE_FLOOR_BYTES) : limitBytes
    const over = lane.queuedBytes >= limit || (lane.full && straight)
    if (over) lane.source.pause()
    else if (lane.source.isPaused()) lane.source.resume()
  }

  function forward(lane: LaneState, chunk: Buffer): void {
    let part = chunk
    const cut = cutting && bytes + chunk.length >= cutting.atByte ? cutting : undefined
    if (cut) {
      part = chunk.subarray(0, cut.atByte - bytes)
      cutting = undefined
    }
    if (corruptAtByte !== undefined && corruptAtByte < bytes + part.length) {
      part = Buffer.from(part)
      part.writeUInt8(part.readUInt8(corruptAtByte - bytes) ^ 0xff, corruptAtByte - bytes)
      corruptAtByte = undefined
    }
    bytes += part.length
    if (cut) {
      // A reset destroys what the receiver has not read yet, so it follows the last byte at a distance.
      lane.sink.write(part)
      if (cut.how === 'end') lane.cut('end')
      else setTimeout(() => lane.cut('reset'), CUT_GRACE_MS).unref()
      close(lane)
      return
    }
    if (lane.sink.write(part) || lane.sink.destroyed) return
    lane.full = true
    balance(lane)
    lane.sink.once('drain', () => {
      lane.full = false
      balance(lane)
      pump()
    })
  }

  /** Forwards everything that may pass now, lane by lane in turns, and arranges to be called again. */
  function pump(): void {
    clearTimeout(timer)
    timer = undefined
    if (!flowing) return
    const now = performance.now()
    for (const limit of [rate, ...Array.from(lanes, (lane) => lane.rate)]) {
      if (limited) limit.refill(now)
      else limit.wake(now)
    }
    let moved = true
    while (moved) {
      moved = false
      for (const lane of lanes) moved = turn(lane, now) || moved
    }
    const dueMs = nextDueMs()
    limited = dueMs !== undefined && dueMs <= now
    if (dueMs === undefined) return
    const waitMs = limited ? TICK_MS : dueMs - now
    pumpAtMs = now + waitMs
    timer = setTimeout(pump, waitMs).unref()
  }

  function turn(lane: LaneState, now: number): boolean {
    const parcel = lane.parcels[0]
    if (lane.full || !parcel || parcel.dueMs > now) return false
    if (parcel.chunk === undefined) {
      lane.parcels.shift()
      lane.sink.end()
      return false
    }
    const allowed = rate.available(lane.rate.available(Math.min(parcel.chunk.length, TURN_BYTES)))
    if (allowed === 0) return false
    rate.use(allowed)
    lane.rate.use(allowed)
    const part = parcel.chunk.subarray(0, allowed)
    if (allowed === parcel.chunk.length) lane.parcels.shift()
    else parcel.chunk = parcel.chunk.subarray(allowed)
    lane.queuedBytes -= allowed
    queuedBytes -= allowed
    forward(lane, part)
    if (!lane.closed) balance(lane)
    return true
  }

  /** When the first parcel wants to go; undefined when none waits for the clock (a full receiver calls by itself). */
  function nextDueMs(): number | undefined {
    let earliest: number | undefined
    for (const lane of lanes) {
      const due = lane.full ? undefined : lane.parcels[0]?.dueMs
      if (due !== undefined) earliest = Math.min(earliest ?? due, due)
    }
    return earliest
  }

  function close(lane: LaneState): void {
    lane.closed = true
    queuedBytes -= lane.queuedBytes
    lane.queuedBytes = 0
    lane.parcels.length = 0
    lanes.delete(lane)
  }

  return {
    get bytes() {
      return bytes
    },
    open(source, sink, notBeforeMs, cut) {
      const lane: LaneState = {
        ...{ source, sink, notBeforeMs, cut, parcels: [], queuedBytes: 0, full: false, closed: false },
        rate: createRateLimit(shape.connectionBytesPerSecond),
      }
      lanes.add(lane)
      return {
        push: (chunk) => push(lane, chunk),
        end: () => enqueue(lane, undefined),
        close: () => close(lane),
      }
    },
    shape(changed) {
      shape = changed
      rate = createRateLimit(shape.bytesPerSecond)
      limitBytes = laneLimit(shape)
      straight = isStraight(shape)
      for (const lane of lanes) {
        lane.rate = createRateLimit(shape.connectionBytesPerSecond)
        balance(lane)
      }
      pump()
    },
    flow(on) {
      flowing = on
      pump()
    },
    cutAfter(after, how) {
      cutting = { atByte: bytes + after, how }
    },
    corrupt(offset) {
      corruptAtByte = bytes + offset
    },
  }
}

function isStraight(shape: Shape): boolean {
  const { latencyMs, bytesPerSecond, connectionBytesPerSecond } = shape
  return !latencyMs && bytesPerSecond === undefined && connectionBytesPerSecond === undefined
}

/** As many bytes as are on the line at once, and what waits at its head while the event loop is busy. */
function laneLimit({ latencyMs = 0, bytesPerSecond, connectionBytesPerSecond }: Shape): number {
  const slowest = Math.min(bytesPerSecond ?? Infinity, connectionBytesPerSecond ?? Infinity)
  const onTheLine =
    slowest === Infinity ? (latencyMs > 0 ? LANE_UNLIMITED_BYTES : 0) : (slowest * latencyMs) / 1000
  const atItsHead = slowest === Infinity ? 0 : (slowest * CATCH_UP_MS) / 1000
  return Math.min(LANE_FLOOR_BYTES + onTheLine + atItsHead, LANE_UNLIMITED_BYTES)
}
