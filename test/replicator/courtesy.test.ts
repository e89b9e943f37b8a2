import { describe, expect, it, vi } from 'vitest'
import { createCourtesy } from '../../replicator/courtesy.ts'

const MB = 1e6
const NEVER = new AbortController().signal

/** A second of copying in steps of 10 ms, as far as it is let; what clients take and how busy the loop is as told. */
function world() {
  const state = { nowMs: 0, busy: 0.2, servedPerSecond: 0 }
  const courtesy = createCourtesy({ now: () => state.nowMs, utilization: () => state.busy })
  async function copiedInASecond(bytesPerSecond: number): Promise<number> {
    let copied = 0
    let waiting = false
    for (let step = 0; step < 100; step++) {
      state.nowMs += 10
      courtesy.served(state.servedPerSecond / 100)
      await vi.advanceTimersByTimeAsync(10)
      if (waiting) continue
      copied += bytesPerSecond / 100
      waiting = true
      void courtesy.pace(bytesPerSecond / 100, NEVER).then(() => {
        waiting = false
      })
      await vi.advanceTimersByTimeAsync(0)
    }
    return copied
  }
  return { state, courtesy, copiedInASecond }
}

describe('copying', () => {
  it('goes as fast as it can in a process that is busy with nothing but copying', async () => {
    vi.useFakeTimers()
    const { state, copiedInASecond } = world()
    state.busy = 1

    expect(await copiedInASecond(500 * MB)).toBe(500 * MB)
    vi.useRealTimers()
  })

  it('goes as fast as it can beside clients whom the process serves with ease', async () => {
    vi.useFakeTimers()
    const { state, copiedInASecond } = world()
    state.servedPerSecond = 100 * MB

    expect(await copiedInASecond(100 * MB)).toBe(100 * MB)
    vi.useRealTimers()
  })

  it('slows down to a least beside clients in a busy process, and is fast again when they have gone', async () => {
    vi.useFakeTimers()
    const { state, copiedInASecond } = world()
    Object.assign(state, { busy: 0.95, servedPerSecond: 2000 * MB })
    await copiedInASecond(100 * MB)

    const beside = await copiedInASecond(100 * MB)
    expect(beside).toBeGreaterThanOrEqual(5 * MB)
    expect(beside).toBeLessThan(12 * MB)

    state.servedPerSecond = 0
    await copiedInASecond(100 * MB)
    expect(await copiedInASecond(100 * MB)).toBe(100 * MB)
    vi.useRealTimers()
  })

  it('that is given up waits no longer', async () => {
    const { state, courtesy } = world()
    Object.assign(state, { busy: 0.95 })
    courtesy.served(1000 * MB)
    state.nowMs += 100
    const leave = new AbortController()
    const waiting = courtesy.pace(100 * MB, leave.signal)

    leave.abort(new Error('given up'))

    await expect(waiting).rejects.toThrow()
  })
})
