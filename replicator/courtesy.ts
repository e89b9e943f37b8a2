/**
 * Copying stands back for clients in the process as it does on the link: while this process is busy and serves clients,
 * its rate falls within 100 ms to a least that still arrives, and grows again when either has ended.
 */
import { type EventLoopUtilization, performance } from 'node:perf_hooks'

export interface Courtesy {
  /** Bytes that were handed to clients. */
  served(bytes: number): void
  /** Bytes that arrived for copying. Resolves when more may be read: at once while nobody is in its way. */
  pace(bytes: number, signal: AbortSignal): Promise<void>
}

export interface CourtesyOptions {
  /** Milliseconds that only go forward; default `performance.now`. */
  readonly now?: () => number
  /** Part of the time since the last call that the event loop was busy, 0 to 1. */
  readonly utilization?: () => number
}

const WINDOW_MS = 100
/** Busier than this, what copying takes is what clients lack. */
const BUSY = 0.5
/** Slower than this nobody is served who could notice. */
const SERVED_BYTES_PER_SECOND = 10e6
const SLOWEST_BYTES_PER_SECOND = 8e6
/** No process copies faster: the same as no limit. */
const FASTEST_BYTES_PER_SECOND = 8e9
/** Shorter waits cost more than they give. */
const SHORTEST_WAIT_MS = 2

export function createCourtesy(options: CourtesyOptions = {}): Courtesy {
  const { now = () => performance.now(), utilization = createUtilization() } = options
  let bytesPerSecond = FASTEST_BYTES_PER_SECOND
  let lookedAtMs = now()
  let servedBytes = 0
  /** When what was let through so far is paid for. */
  let freeAtMs = 0

  function look(nowMs: number): void {
    const elapsedMs = nowMs - lookedAtMs
    if (elapsedMs < WINDOW_MS) return
    const isServing = (servedBytes / elapsedMs) * 1000 > SERVED_BYTES_PER_SECOND
    const isBusy = utilization() > BUSY
    bytesPerSecond =
      isServing && isBusy
        ? SLOWEST_BYTES_PER_SECOND
        : Math.min(bytesPerSecond * (isServing ? 1.05 : 2), FASTEST_BYTES_PER_SECOND)
    lookedAtMs = nowMs
    servedBytes = 0
  }

  return {
    served(bytes) {
      servedBytes += bytes
    },
    async pace(bytes, signal) {
      const nowMs = now()
      look(nowMs)
      freeAtMs = Math.max(freeAtMs, nowMs) + (bytes / bytesPerSecond) * 1000
      const waitMs = freeAtMs - nowMs
      if (waitMs >= SHORTEST_WAIT_MS) await pause(waitMs, signal)
    },
  }
}

function createUtilization(): () => number {
  let last: EventLoopUtilization = performance.eventLoopUtilization()
  return () => {
    const current = performance.eventLoopUtilization()
    const { utilization } = performance.eventLoopUtilization(current, last)
    last = current
    return utilization
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const timer = setTimeout(resolve, ms).unref()
  const leave = () => reject(signal.reason)
  signal.addEventListener('abort', leave, { once: true })
  return promise.finally(() => {
    clearTimeout(timer)
    signal.removeEventListener('abort', leave)
  })
}
