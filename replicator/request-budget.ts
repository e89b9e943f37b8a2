/**
 * The budget of one process: token buckets of one second's worth, served in the order asked. What clients cause is taken
 * out of the same buckets without waiting, into debt if need be, so that copying stands back for them.
 */
import type { Budget, BudgetOptions } from './budget.ts'

/** What a bucket holds at most. */
const BURST_SECONDS = 1
/** Clients may push copying back so far and no further: a busy site is to fall behind, not to stop for good. */
const DEBT_SECONDS = 5

export function createBudget(
  options: BudgetOptions,
  { now = () => performance.now() }: { readonly now?: () => number } = {},
): Budget {
  const { requestsPerSecond, bytesPerSecond } = options
  const requests = requestsPerSecond === undefined ? UNLIMITED : createBucket(requestsPerSecond, now)
  const bytes = bytesPerSecond === undefined ? UNLIMITED : createBucket(bytesPerSecond, now)
  return {
    request: (signal, urgent = false) => requests.take(1, { signal, urgent }),
    async receive(size, signal) {
      try {
        await bytes.take(size, { signal, urgent: false })
      } catch (error) {
        bytes.spend(size) // Nobody waits for more any longer, but these came over the link.
        throw error
      }
    },
    spend(size, count = 0) {
      bytes.spend(size)
      requests.spend(count)
    },
  }
}

interface TakeOptions {
  readonly signal: AbortSignal | undefined
  readonly urgent: boolean
}

interface Bucket {
  take(amount: number, options: TakeOptions): Promise<void>
  /** Takes without waiting, down to the greatest debt. */
  spend(amount: number): void
}

interface Waiter {
  readonly amount: number
  serve(): void
}

const UNLIMITED: Bucket = {
  take: async (_amount, { signal }) => signal?.throwIfAborted(),
  spend: () => {},
}

function createBucket(perSecond: number, now: () => number): Bucket {
  // Rates below one a second must still be able to hold one.
  const capacity = Math.max(perSecond * BURST_SECONDS, 1)
  const lowest = -perSecond * DEBT_SECONDS
  /** Sets keep the order of coming, and let go of one in the middle at no cost. */
  const urgentOnes = new Set<Waiter>()
  const others = new Set<Waiter>()
  let level = capacity
  let countedAtMs = now()
  let timer: NodeJS.Timeout | undefined

  function refill(): void {
    const atMs = now()
    level = Math.min(capacity, level + ((atMs - countedAtMs) / 1000) * perSecond)
    countedAtMs = atMs
  }

  /** What is more than the bucket can ever hold is served from a full one, and leaves it in debt. */
  function lacks(amount: number): number {
    return Math.min(amount, capacity) - level
  }

  function serve(): void {
    clearTimeout(timer)
    refill()
    for (const waiters of [urgentOnes, others]) {
      for (const waiter of waiters) {
        const lacking = lacks(waiter.amount)
        if (lacking > 0) {
          timer = setTimeout(serve, Math.ceil((lacking / perSecond) * 1000)).unref()
          return
        }
        level -= waiter.amount
        waiters.delete(waiter)
        waiter.serve()
      }
    }
  }

  return {
    async take(amount, { signal, urgent }) {
      signal?.throwIfAborted()
      const waiters = urgent ? urgentOnes : others
      const served = Promise.withResolvers<void>()
      const waiter: Waiter = { amount, serve: served.resolve }
      const leave = () => {
        waiters.delete(waiter)
        served.reject(signal?.reason)
      }
      waiters.add(waiter)
      signal?.addEventListener('abort', leave, { once: true })
      serve()
      try {
        await served.promise
      } finally {
        signal?.removeEventListener('abort', leave)
      }
    },
    spend(amount) {
      refill()
      level = Math.max(level - amount, Math.min(level, lowest))
    },
  }
}
