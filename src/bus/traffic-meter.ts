/** Adds up what clients of this process cause, and tells it on the bus a few times a second while there is anything. */
import type { Bus } from './bus.ts'

export interface TrafficMeter extends Disposable {
  served(bytes: number): void
  arrived(bytes: number, requests: number): void
}

export interface TrafficMeterOptions {
  /** Between two messages; default 200. */
  readonly intervalMs?: number | undefined
}

export function createTrafficMeter(
  bus: Pick<Bus, 'publish'>,
  { intervalMs = 200 }: TrafficMeterOptions = {},
): TrafficMeter {
  let sum = { arrivedBytes: 0, requests: 0, servedBytes: 0 }
  let timer: NodeJS.Timeout | undefined

  function tell(): void {
    timer = undefined
    const told = sum
    sum = { arrivedBytes: 0, requests: 0, servedBytes: 0 }
    bus.publish({ kind: 'traffic', ...told })
  }
  function due(): void {
    timer ??= setTimeout(tell, intervalMs).unref()
  }

  return {
    served(bytes) {
      sum.servedBytes += bytes
      due()
    },
    arrived(bytes, requests) {
      sum.arrivedBytes += bytes
      sum.requests += requests
      due()
    },
    [Symbol.dispose]() {
      if (timer === undefined) return
      clearTimeout(timer)
      tell()
    },
  }
}
