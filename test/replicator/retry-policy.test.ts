/** What is tried again, when, and what is not. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { CopyError } from '../../replicator/copying.ts'
import { isWorthRetrying, nextAttempt, retryInside } from '../../replicator/retry-policy.ts'
import { FillLimitError } from '../../src/fill/fill.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { StoreError } from '../../src/store/blob-store.ts'
import { UpstreamError, type UpstreamErrorKind } from '../../src/upstream/errors.ts'

const SOON = { signal: new AbortController().signal, firstDelayMs: 1 }
const answer = (kind: UpstreamErrorKind, retryAfter?: string) => new UpstreamError(kind, kind, { retryAfter })
const copyError = (cause: unknown) =>
  new CopyError('a blob is missing', {
    digest: digestOf(Buffer.alloc(0)),
    missing: { blobs: 1, bytes: 1 },
    cause,
  })

/** Runs what fails with these errors, one after the other, and then succeeds. */
async function attempts(errors: readonly unknown[]): Promise<{ runs: number; outcome: unknown }> {
  let runs = 0
  const outcome = await retryInside(async () => {
    runs += 1
    if (runs <= errors.length) throw errors[runs - 1]
    return 'done'
  }, SOON).catch((error: unknown) => error)
  return { runs, outcome }
}

describe('the next attempt at a repository', () => {
  it('comes after the delays of GitLab', () => {
    const least = [1, 2, 3, 5, 7, 8].map((failures) => nextAttempt(failures, () => 0).delayMs)
    const most = [1, 2, 3].map((failures) => nextAttempt(failures, () => 1).delayMs)

    expect(least).toEqual([16_000, 31_000, 96_000, 640_000, 2_416_000, 3_600_000])
    expect(most).toEqual([76_000, 121_000, 216_000])
  })

  it('comes within the hour, never at once, and the oldest failures not all together', () => {
    fc.assert(
      fc.property(
        fc.nat(1_000_000),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (failures, random) => {
          const { delayMs } = nextAttempt(failures, () => random)
          expect(delayMs).toBeGreaterThanOrEqual(15_000)
          expect(delayMs).toBeLessThanOrEqual(3_600_000)
        },
      ),
    )
    expect(nextAttempt(100, () => 0.5).delayMs).not.toBe(nextAttempt(100, () => 0.6).delayMs)
  })

  it('needs a hand from the tenth failure on', () => {
    expect([1, 9, 10, 11].map((failures) => nextAttempt(failures).needsAttention)).toEqual([
      false,
      false,
      true,
      true,
    ])
  })
})

describe('within one job', () => {
  it.each([
    ['no answer', answer('unavailable'), 4],
    ['429', answer('limited'), 4],
    ['this site’s own limit of fills', new FillLimitError('too many'), 4],
    ['a faulty answer', answer('faulty'), 2],
    ['401', answer('unauthorized'), 1],
    ['403', answer('denied'), 1],
    ['404', answer('absent'), 1],
    ['a caller who left', answer('aborted'), 1],
    ['a full store', new StoreError('full', 'no space'), 1],
    ['a fault of ours', new RangeError('out of range'), 1],
    ['a primary that wants to be left alone for a minute', answer('limited', '60'), 1],
    ['a blob that got no answer', copyError(answer('unavailable')), 4],
    ['a blob that is not there', copyError(answer('absent')), 1],
    ['a blob that could not be kept', copyError(new StoreError('io', 'no')), 1],
  ])('%s ends after the right number of runs, with its own error', async (_what, error, runs) => {
    expect(await attempts(Array(10).fill(error))).toEqual({ runs, outcome: error })
    expect(isWorthRetrying(error)).toBe(runs > 1)
  })

  it('what has passed does no harm', async () => {
    expect(await attempts([answer('unavailable'), answer('limited'), answer('unavailable')])).toEqual({
      runs: 4,
      outcome: 'done',
    })
    expect(await attempts([answer('faulty')])).toEqual({ runs: 2, outcome: 'done' })
  })

  it('the primary’s word ends it also after no answer', async () => {
    const denied = answer('denied')

    expect(await attempts([answer('unavailable'), denied])).toEqual({ runs: 2, outcome: denied })
  })

  it.each([
    ['seconds', () => '1'],
    ['a date', () => new Date(Date.now() + 1999).toUTCString()],
  ])('`Retry-After` is heeded, given as %s', async (_form, retryAfter) => {
    const startedAt = performance.now()

    expect(await attempts([answer('limited', retryAfter())])).toEqual({ runs: 2, outcome: 'done' })

    expect(performance.now() - startedAt).toBeGreaterThan(900)
  })

  it.each(['soon', '-5', '0', ''])('`Retry-After: %s` says nothing', async (retryAfter) => {
    expect(await attempts([answer('limited', retryAfter)])).toEqual({ runs: 2, outcome: 'done' })
  })

  it.each([
    ['between two runs', undefined],
    ['while the primary wants to be left alone', '20'],
  ])('who gives up %s gets the reason of the signal at once', async (_when, retryAfter) => {
    const leaving = new AbortController()
    const reason = new Error('the lease was lost')
    const startedAt = performance.now()
    let runs = 0

    const working = retryInside(
      async () => {
        runs += 1
        setTimeout(() => leaving.abort(reason), 10)
        throw answer('limited', retryAfter)
      },
      { signal: leaving.signal, firstDelayMs: 10_000 },
    )

    await expect(working).rejects.toBe(reason)
    expect(performance.now() - startedAt).toBeLessThan(5000)
    expect(runs).toBe(1)
  })

  it('nothing is begun for who has given up already', async () => {
    const working = retryInside(async () => expect.unreachable(), {
      signal: AbortSignal.abort(new Error('gone')),
    })

    await expect(working).rejects.toThrow('gone')
  })
})
