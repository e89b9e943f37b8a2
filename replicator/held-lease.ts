/**
 * A lease while a job runs under it: renewed in time, and asked again before anything is written when the last renewal
 * lies back too far to be sure. Results of a job whose lease is another's are never written.
 */
import type { Logger } from '../src/log.ts'
import type { Lease, Tracking } from '../src/tracking/tracking.ts'

/** Another job works on the repository now. */
export class LeaseLostError extends Error {
  override readonly name = 'LeaseLostError'
}

export interface HeldLease extends Disposable {
  /** Aborted with the run's own reason, or when the lease is lost. */
  readonly signal: AbortSignal
  /** The lease is another's, or the database could not say whose: nothing more may be written. */
  readonly lost: boolean
  /** As last renewed. */
  readonly lease: Lease
  /** To be awaited before each write: resolves while the lease is surely ours, else rejects with `signal`'s reason. */
  hold(): Promise<void>
}

export interface HeldLeaseDeps {
  readonly tracking: Pick<Tracking, 'renew'>
  readonly log: Pick<Logger, 'warn'>
}

export interface HeldLeaseOptions {
  /** Aborted when the run is to end. */
  readonly signal: AbortSignal
  readonly ttlMs: number
}

export function holdLease(
  { tracking, log }: HeldLeaseDeps,
  given: Lease,
  { signal: ended, ttlMs }: HeldLeaseOptions,
): HeldLease {
  const loss = new AbortController()
  const signal = AbortSignal.any([ended, loss.signal])
  let lease = given
  let renewed = clocks()
  let renewal: Promise<void> | undefined

  /** By both clocks: a suspended machine stops the one, and somebody may set the other. */
  function ageMs(): number {
    const { monotonicMs, wallMs } = clocks()
    return Math.max(monotonicMs - renewed.monotonicMs, Math.abs(wallMs - renewed.wallMs))
  }

  async function renew(): Promise<void> {
    const askedAt = clocks()
    const next = await tracking.renew(lease, ttlMs)
    if (next) {
      lease = next
      renewed = askedAt
    } else {
      loss.abort(new LeaseLostError(`another job works on ${lease.path}`))
    }
  }

  /** One question at a time, whoever wants it. */
  function renewOnce(): Promise<void> {
    renewal ??= renew().finally(() => {
      renewal = undefined
    })
    return renewal
  }

  const timer = setInterval(() => {
    // A database that is away for a moment is asked again at the next turn; `hold` finds out when it stays away.
    renewOnce().catch((error: unknown) => log.warn({ error, repository: lease.path }, 'lease not renewed'))
  }, ttlMs / 3).unref()

  return {
    signal,
    get lost() {
      return loss.signal.aborted
    },
    get lease() {
      return lease
    },
    async hold() {
      signal.throwIfAborted()
      if (ageMs() >= ttlMs / 2) await renewOnce().catch((error: unknown) => loss.abort(error))
      signal.throwIfAborted()
    },
    [Symbol.dispose]: () => clearInterval(timer),
  }
}

function clocks() {
  return { monotonicMs: performance.now(), wallMs: Date.now() }
}
