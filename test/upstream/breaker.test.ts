import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { createLogger } from '../../src/log.ts'
import { createMetrics } from '../../src/metrics.ts'
import { createBreaker } from '../../src/upstream/breaker.ts'
import { UpstreamError, type UpstreamErrorKind } from '../../src/upstream/errors.ts'

const TIMED_OUT = new UpstreamError('unavailable', 'no answer', { timedOut: true })
const REFUSED = new UpstreamError('unavailable', 'refused', { unreachable: true })

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

function breakerWith(ping: () => Promise<unknown> = () => Promise.reject(TIMED_OUT)) {
  const metrics = createMetrics()
  const breaker = createBreaker({ metrics, log: createLogger({ destination: { write: () => {} } }), ping })
  const gauge = async () => (await metrics.breakerOpen.get()).values[0]?.value
  return { breaker, gauge }
}

describe('the breaker', () => {
  it('opens by one tag check without an answer, and says so in the metrics', async () => {
    const { breaker, gauge } = breakerWith()
    expect([breaker.isOpen, await gauge()]).toEqual([false, 0])

    breaker.failed(TIMED_OUT, 'tag-check')

    expect([breaker.isOpen, await gauge()]).toEqual([true, 1])
  })

  it.each(['manifest', 'blob', 'confirm', 'read', 'write', 'token', 'ping'] as const)(
    'is not opened by the slowness of a %s, but by a primary that cannot be reached at all',
    (operation) => {
      const { breaker } = breakerWith()

      breaker.failed(TIMED_OUT, operation)
      expect(breaker.isOpen).toBe(false)
      breaker.failed(REFUSED, operation)
      expect(breaker.isOpen).toBe(true)
    },
  )

  it.each([
    new UpstreamError('unavailable', '500', { status: 500 }),
    new UpstreamError('faulty', 'html'),
    new UpstreamError('limited', '429'),
    new UpstreamError('aborted', 'gone'),
    new Error('disk full'),
  ])('stays closed for a tag check that failed quickly: $message', (error) => {
    const { breaker } = breakerWith()

    breaker.failed(error, 'tag-check')

    expect(breaker.isOpen).toBe(false)
  })

  it('tries the latest check every second and closes by the first that is answered', async () => {
    const { breaker, gauge } = breakerWith()
    const first = vi.fn(() => Promise.reject(TIMED_OUT))
    const latest = vi.fn(() => Promise.reject(REFUSED))
    breaker.failed(TIMED_OUT, 'tag-check')
    breaker.probe(first)
    breaker.probe(latest)

    await vi.advanceTimersByTimeAsync(999)
    expect(latest).not.toHaveBeenCalled()
    await vi.advanceTimersByTimeAsync(2001)
    expect([first.mock.calls.length, latest.mock.calls.length]).toEqual([0, 3])
    breaker.probe(() => Promise.resolve('not-modified'))
    await vi.advanceTimersByTimeAsync(1000)

    expect([breaker.isOpen, await gauge()]).toEqual([false, 0])
  })

  it.each([
    ['absent', true],
    ['unauthorized', true],
    ['denied', true],
    ['limited', true],
    ['unavailable', false],
    ['faulty', false],
    ['aborted', false],
  ] as [UpstreamErrorKind, boolean][])(
    'closes by an answer, if only a refusal: %s → %s',
    async (kind, closes) => {
      const { breaker } = breakerWith()
      breaker.failed(REFUSED, 'blob')
      breaker.probe(() => Promise.reject(new UpstreamError(kind, kind)))

      await vi.advanceTimersByTimeAsync(1000)

      expect(breaker.isOpen).toBe(!closes)
      breaker.close()
    },
  )

  it('finds out by itself that the primary is back when nobody has wanted a tag meanwhile', async () => {
    const { breaker } = breakerWith(() => Promise.resolve())
    breaker.failed(REFUSED, 'blob')

    await vi.advanceTimersByTimeAsync(1000)

    expect(breaker.isOpen).toBe(false)
  })

  it('forgets a check with its outage, and with it the token of who wanted it', async () => {
    const ping = vi.fn(() => Promise.resolve())
    const { breaker } = breakerWith(ping)
    const check = vi.fn(() => Promise.resolve())
    breaker.probe(check) // Closed: nothing to try.
    breaker.failed(TIMED_OUT, 'tag-check')
    breaker.probe(check)
    await vi.advanceTimersByTimeAsync(1000)
    breaker.failed(REFUSED, 'blob')
    await vi.advanceTimersByTimeAsync(1000)

    expect(breaker.isOpen).toBe(false)
    expect(check).toHaveBeenCalledTimes(1)
    expect(ping).toHaveBeenCalledTimes(1)
  })

  it('has one try under way at a time, and none after it was closed down', async () => {
    const { breaker } = breakerWith()
    const slow = vi.fn(() => new Promise((_resolve, reject) => void setTimeout(reject, 2500, TIMED_OUT)))
    breaker.failed(TIMED_OUT, 'tag-check')
    breaker.probe(slow)

    await vi.advanceTimersByTimeAsync(3400)
    expect(slow).toHaveBeenCalledTimes(1)
    await vi.advanceTimersByTimeAsync(600)
    expect(slow).toHaveBeenCalledTimes(2)
    breaker.close()
    await vi.advanceTimersByTimeAsync(10_000)

    expect(slow).toHaveBeenCalledTimes(2)
    expect(vi.getTimerCount()).toBe(0)
  })

  it('closes by a tag check of a client that was answered before its own try', () => {
    const { breaker } = breakerWith()
    breaker.failed(TIMED_OUT, 'tag-check')

    breaker.succeeded()

    expect(breaker.isOpen).toBe(false)
    expect(vi.getTimerCount()).toBe(0)
  })

  it('is not opened again by a try of its own that ends after the primary was seen', async () => {
    const { breaker } = breakerWith()
    breaker.failed(TIMED_OUT, 'tag-check')
    breaker.probe(() => new Promise((_resolve, reject) => void setTimeout(reject, 900, TIMED_OUT)))
    await vi.advanceTimersByTimeAsync(1500)

    breaker.succeeded()
    await vi.advanceTimersByTimeAsync(1000)

    expect(breaker.isOpen).toBe(false)
  })

  it('survives a check that fails for a reason of our own, and stays open', async () => {
    const { breaker } = breakerWith()
    breaker.failed(TIMED_OUT, 'tag-check')
    breaker.probe(() => Promise.reject(new Error('disk full')))

    await vi.advanceTimersByTimeAsync(1000)

    expect(breaker.isOpen).toBe(true)
    breaker.close()
  })
})
