import pino from 'pino'
import { describe, expect, it, vi } from 'vitest'
import { holdLease, LeaseLostError } from '../../replicator/held-lease.ts'
import type { Lease } from '../../src/tracking/tracking.ts'
import { APP } from './sync-fixture.ts'

const log = pino({ level: 'silent' })
const NEVER = new AbortController().signal
const LEASE: Lease = { repositoryId: 1, path: APP, number: 7, expiresAtMs: 0, change: 1, retryCount: 0 }

/** Renewals succeed until `lost`; each is answered when the test says so, or at once. */
function renewals() {
  let count = 0
  const state: { lost: boolean; error?: Error; wait?: Promise<void> } = { lost: false }
  return {
    state,
    get count() {
      return count
    },
    async renew(lease: Lease, ttlMs: number): Promise<Lease | undefined> {
      count++
      await state.wait
      if (state.error) throw state.error
      return state.lost ? undefined : { ...lease, expiresAtMs: lease.expiresAtMs + ttlMs }
    },
  }
}

describe('a lease while a job runs', () => {
  it('is not asked about for each write while it is surely ours', async () => {
    const tracking = renewals()
    using held = holdLease({ tracking, log }, LEASE, { signal: NEVER, ttlMs: 60_000 })

    for (let write = 0; write < 1000; write++) await held.hold()

    expect(tracking.count).toBe(0)
    expect(held.lost).toBe(false)
  })

  it('is renewed in time for as long as the job runs', async () => {
    const tracking = renewals()
    using held = holdLease({ tracking, log }, LEASE, { signal: NEVER, ttlMs: 30 })

    await vi.waitFor(() => expect(tracking.count).toBeGreaterThan(3))

    expect(held.lease.expiresAtMs).toBeGreaterThan(60)
    expect(held.lost).toBe(false)
  })

  it('ends the job when it is another’s', async () => {
    const tracking = renewals()
    using held = holdLease({ tracking, log }, LEASE, { signal: NEVER, ttlMs: 30 })
    tracking.state.lost = true

    await vi.waitFor(() => expect(held.signal.aborted).toBe(true))

    await expect(held.hold()).rejects.toThrow(LeaseLostError)
    expect(held.lost).toBe(true)
  })

  it('lets nothing be written while the database cannot say whose it is', async () => {
    const tracking = renewals()
    tracking.state.error = new Error('the database is away')
    using held = holdLease({ tracking, log }, LEASE, { signal: NEVER, ttlMs: 20 })

    await vi.waitFor(() => expect(held.hold()).rejects.toThrow('the database is away'))

    expect(held.lost).toBe(true)
  })

  it('survives a database that is away for less than half of it', async () => {
    const tracking = renewals()
    tracking.state.error = new Error('the database is away')
    using held = holdLease({ tracking, log }, LEASE, { signal: NEVER, ttlMs: 2000 })
    await vi.waitFor(() => expect(tracking.count).toBe(1))
    delete tracking.state.error

    await vi.waitFor(() => expect(held.lease.expiresAtMs).toBeGreaterThan(0), { timeout: 3000 })

    await expect(held.hold()).resolves.toBeUndefined()
  })

  it('is asked about at once after the clock was set, whatever the other clock says', async () => {
    const tracking = renewals()
    using held = holdLease({ tracking, log }, LEASE, { signal: NEVER, ttlMs: 60_000 })
    const now = Date.now()
    const clock = vi.spyOn(Date, 'now').mockReturnValue(now - 3_600_000)
    try {
      await held.hold()
    } finally {
      clock.mockRestore()
    }

    expect(tracking.count).toBe(1)
  })

  it('ends with the run’s own reason when the run is to end, and is not called lost', async () => {
    const stop = new AbortController()
    using held = holdLease({ tracking: renewals(), log }, LEASE, { signal: stop.signal, ttlMs: 60_000 })
    stop.abort(new Error('closed'))

    await expect(held.hold()).rejects.toThrow('closed')
    expect(held.lost).toBe(false)
  })

  it('leaves no timer behind', () => {
    vi.useFakeTimers()
    try {
      {
        using _ = holdLease({ tracking: renewals(), log }, LEASE, { signal: NEVER, ttlMs: 15 })
        expect(vi.getTimerCount()).toBe(1)
      }
      expect(vi.getTimerCount()).toBe(0)
    } finally {
      vi.useRealTimers()
    }
  })
})
