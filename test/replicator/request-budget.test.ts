/** Copying keeps to its rates, in turn, and stands back for clients. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { createBudget } from '../../replicator/request-budget.ts'

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

/** What has been let through so far, by name, in order. */
function line(): { readonly served: string[]; add(name: string, place: Promise<void>): void } {
  const served: string[] = []
  return {
    served,
    add: (name, place) => void place.then(() => served.push(name)),
  }
}

describe('requests', () => {
  it('go at once up to one second’s worth, and then at the rate', async () => {
    const budget = createBudget({ requestsPerSecond: 10, bytesPerSecond: undefined })
    const { served, add } = line()

    for (let count = 0; count < 40; count++) add(String(count), budget.request())
    await vi.advanceTimersByTimeAsync(0)
    expect(served).toHaveLength(10)
    await vi.advanceTimersByTimeAsync(1000)
    expect(served).toHaveLength(20)
    await vi.advanceTimersByTimeAsync(2000)

    expect(served).toEqual(Array.from({ length: 40 }, (_, count) => String(count)))
  })

  it('gather no more than one second’s worth while nobody asks', async () => {
    const budget = createBudget({ requestsPerSecond: 10, bytesPerSecond: undefined })
    const { served, add } = line()
    await vi.advanceTimersByTimeAsync(60_000)

    for (let count = 0; count < 40; count++) add(String(count), budget.request())
    await vi.advanceTimersByTimeAsync(0)

    expect(served).toHaveLength(10)
  })

  it('that are urgent go before those that wait, in their own order', async () => {
    const budget = createBudget({ requestsPerSecond: 1, bytesPerSecond: undefined })
    const { served, add } = line()

    add('first', budget.request())
    add('ordinary', budget.request())
    add('urgent', budget.request(undefined, true))
    add('urgent too', budget.request(undefined, true))
    await vi.advanceTimersByTimeAsync(3000)

    expect(served).toEqual(['first', 'urgent', 'urgent too', 'ordinary'])
  })

  it('that are given up leave their place to the next, with the reason of their signal', async () => {
    const budget = createBudget({ requestsPerSecond: 1, bytesPerSecond: undefined })
    const { served, add } = line()
    const leaving = new AbortController()
    add('first', budget.request())
    const left = expect(budget.request(leaving.signal)).rejects.toThrow('no longer wanted')
    add('second', budget.request())

    leaving.abort(new Error('no longer wanted'))
    await left
    await vi.advanceTimersByTimeAsync(1000)

    expect(served).toEqual(['first', 'second'])
    await expect(budget.request(leaving.signal)).rejects.toThrow('no longer wanted')
  })

  it('may be rarer than one a second', async () => {
    const budget = createBudget({ requestsPerSecond: 0.2, bytesPerSecond: undefined })
    const { served, add } = line()

    for (let count = 0; count < 3; count++) add(String(count), budget.request())
    await vi.advanceTimersByTimeAsync(9_900)
    expect(served).toHaveLength(2)
    await vi.advanceTimersByTimeAsync(200)

    expect(served).toHaveLength(3)
  })

  it('of clients come off what copying may send, up to five seconds of it', async () => {
    const budget = createBudget({ requestsPerSecond: 10, bytesPerSecond: undefined })
    const { served, add } = line()

    budget.spend(0, 20)
    add('after them', budget.request())
    await vi.advanceTimersByTimeAsync(1000)
    expect(served).toEqual([])
    await vi.advanceTimersByTimeAsync(200)
    expect(served).toEqual(['after them'])
    budget.spend(0, 1_000_000)
    add('after the storm', budget.request())
    await vi.advanceTimersByTimeAsync(5000)
    expect(served).toHaveLength(1)
    await vi.advanceTimersByTimeAsync(200)

    expect(served).toEqual(['after them', 'after the storm'])
  })

  it('that wait are put off by clients who come meanwhile', async () => {
    const budget = createBudget({ requestsPerSecond: 10, bytesPerSecond: undefined })
    const { served, add } = line()
    for (let count = 0; count < 11; count++) add(String(count), budget.request())

    budget.spend(0, 10)
    await vi.advanceTimersByTimeAsync(1000)
    expect(served).toHaveLength(10)
    await vi.advanceTimersByTimeAsync(200)

    expect(served).toHaveLength(11)
  })
})

describe('bytes', () => {
  it('are let through at the rate, whatever the sizes they come in', async () => {
    const budget = createBudget({ requestsPerSecond: undefined, bytesPerSecond: 1_000_000 })
    let received = 0
    const sizes = [1, 65_536, 524_288, 3_000_000, 20]
    const receiving = Array.from({ length: 4 }, async (_, reader) => {
      for (let count = reader; received < 20_000_000; count++) {
        const size = sizes[count % sizes.length] ?? 0
        await budget.receive(size)
        received += size
      }
    })

    await vi.advanceTimersByTimeAsync(10_000)

    // The second's worth it begins with, and one body larger than the bucket that was let in early.
    expect(received).toBeGreaterThan(9_000_000)
    expect(received).toBeLessThan(14_500_000)
    await vi.advanceTimersByTimeAsync(30_000)
    await Promise.all(receiving)
  })

  it('are counted although who received them gave up waiting', async () => {
    const budget = createBudget({ requestsPerSecond: undefined, bytesPerSecond: 1000 })
    const leaving = new AbortController()
    const { served, add } = line()
    await budget.receive(1000)
    const left = expect(budget.receive(1000, leaving.signal)).rejects.toThrow('gave up')

    leaving.abort(new Error('gave up'))
    await left
    add('next', budget.receive(1000))
    await vi.advanceTimersByTimeAsync(1900)
    expect(served).toEqual([])
    await vi.advanceTimersByTimeAsync(200)

    expect(served).toEqual(['next'])
  })

  it('of clients come off what copying may receive, and requests do not', async () => {
    const budget = createBudget({ requestsPerSecond: 1, bytesPerSecond: 1000 })
    const { served, add } = line()

    budget.spend(2000)
    add('request', budget.request())
    add('bytes', budget.receive(100))
    await vi.advanceTimersByTimeAsync(1000)
    expect(served).toEqual(['request'])
    await vi.advanceTimersByTimeAsync(200)

    expect(served).toEqual(['request', 'bytes'])
  })
})

describe('a budget without limits', () => {
  it('lets everything through at once, but nobody who has given up', async () => {
    const budget = createBudget({ requestsPerSecond: undefined, bytesPerSecond: undefined })

    budget.spend(Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER)
    for (let count = 0; count < 1000; count++) await budget.request()
    await budget.receive(Number.MAX_SAFE_INTEGER)

    await expect(budget.request(AbortSignal.abort(new Error('gone')))).rejects.toThrow('gone')
  })
})

it('leaves no timer and no listener behind', async () => {
  const budget = createBudget({ requestsPerSecond: 1, bytesPerSecond: 1 })
  const { signal } = new AbortController()
  const listening = { added: 0, removed: 0 }
  const { addEventListener, removeEventListener } = signal
  signal.addEventListener = (...args: Parameters<typeof addEventListener>) => {
    listening.added += 1
    addEventListener.apply(signal, args)
  }
  signal.removeEventListener = (...args: Parameters<typeof removeEventListener>) => {
    listening.removed += 1
    removeEventListener.apply(signal, args)
  }

  const waiting = [budget.request(signal), budget.request(signal), budget.receive(1, signal)]
  await vi.advanceTimersByTimeAsync(2000)
  await Promise.all(waiting)

  expect(listening).toEqual({ added: 3, removed: 3 })
  expect(vi.getTimerCount()).toBe(0)
})
