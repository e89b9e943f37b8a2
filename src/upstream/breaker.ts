/**
 * Whether the primary is known to be away (DESIGN "Waiting"). Open, it lets held tags, and nothing else, be served
 * stale without asking; a question is tried in the background every second, and one answer closes it.
 */
import type { Logger } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import type { UpstreamOperation } from './dispatcher.ts'
import { isOutage, UpstreamError } from './errors.ts'

export interface Breaker {
  readonly isOpen: boolean
  /**
   * Opens it when the primary cannot be reached at all, whatever was asked, or when a tag check had no answer in time.
   * A tag check that was answered, if only with a refusal, closes it. Anything that is no `UpstreamError` is ignored.
   */
  failed(error: unknown, operation: UpstreamOperation): void
  /** The primary answered a tag check. */
  succeeded(): void
  /** What to try next while it is open: the latest check somebody wanted. It must have a deadline of its own. */
  probe(check: () => Promise<unknown>): void
  /** Stops trying. */
  close(): void
}

export interface BreakerDeps {
  readonly metrics: Metrics
  readonly log: Logger
  /** Tried while nobody has wanted a check: an outage that ends at night must not greet the morning with stale tags. */
  readonly ping: () => Promise<unknown>
}

const TRY_EVERY_MS = 1000

export function createBreaker({ metrics, log, ping }: BreakerDeps): Breaker {
  let timer: NodeJS.Timeout | undefined
  let check = ping
  let trying = false
  let closed = false
  metrics.breakerOpen.set(0)

  const open = (error: UpstreamError): void => {
    if (timer || closed) return
    timer = setInterval(() => void tryOnce(), TRY_EVERY_MS).unref()
    metrics.breakerOpen.set(1)
    log.warn({ error }, 'the primary is away: held tags are served as last confirmed')
  }
  const stop = (): void => {
    clearInterval(timer)
    timer = undefined
    check = ping // A kept check would hold its caller's token for nothing.
    metrics.breakerOpen.set(0)
  }
  const succeeded = (): void => {
    if (!timer) return
    stop()
    log.info('the primary answers again')
  }
  const failed = (error: unknown, operation: UpstreamOperation): void => {
    if (!(error instanceof UpstreamError)) return
    if (error.unreachable || (operation === 'tag-check' && error.timedOut)) open(error)
    else if (operation === 'tag-check' && isAnswer(error)) succeeded()
  }

  async function tryOnce(): Promise<void> {
    if (trying) return
    trying = true
    try {
      await check()
      succeeded()
    } catch (error) {
      // A try never opens it: it may end after somebody else's check has been answered.
      if (!(error instanceof UpstreamError)) log.error({ error }, 'a check of the primary failed here')
      else if (isAnswer(error)) succeeded()
    } finally {
      trying = false
    }
  }

  return {
    get isOpen() {
      return timer !== undefined
    },
    failed,
    succeeded,
    probe(latest) {
      if (timer) check = latest
    },
    close() {
      closed = true
      stop()
    },
  }
}

/** A refusal is the primary speaking. */
function isAnswer(error: UpstreamError): boolean {
  return error.kind !== 'aborted' && !isOutage(error)
}
