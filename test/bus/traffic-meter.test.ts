/** What clients of one process cause is told to the others in few messages, and none of it twice or never. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { BusMessage } from '../../src/bus/bus.ts'
import { createTrafficMeter } from '../../src/bus/traffic-meter.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

describe('the traffic of a process', () => {
  it('is told as one sum a few times a second, and not at all while there is none', () => {
    const told: BusMessage[] = []
    using meter = createTrafficMeter({ publish: (message) => void told.push(message) })

    vi.advanceTimersByTime(10_000)
    expect(told).toEqual([])
    for (let count = 0; count < 1000; count++) {
      meter.served(10)
      meter.arrived(3, 1)
    }
    vi.advanceTimersByTime(10_000)
    expect(told).toEqual([{ kind: 'traffic', arrivedBytes: 3000, requests: 1000, servedBytes: 10_000 }])
    meter.served(1)
    vi.advanceTimersByTime(10_000)
    expect(told.slice(1)).toEqual([{ kind: 'traffic', arrivedBytes: 0, requests: 0, servedBytes: 1 }])
  })

  it('is told to the last byte when the process ends', () => {
    const told: BusMessage[] = []
    const meter = createTrafficMeter({ publish: (message) => void told.push(message) })

    meter.served(7)
    meter[Symbol.dispose]()
    meter[Symbol.dispose]()
    vi.advanceTimersByTime(10_000)

    expect(told).toEqual([{ kind: 'traffic', arrivedBytes: 0, requests: 0, servedBytes: 7 }])
  })
})
