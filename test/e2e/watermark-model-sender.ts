/**
 * How one process of a registry tells of what happened: a queue that drops the newest without a word when it is full, and
 * a sender that tries one event again and again, in their order, until it is answered or given up.
 */
import { QUEUE_LIMIT, type Rules } from './watermark-model-rules.ts'
import type { VirtualTime } from './watermark-model-time.ts'

/**
 * The way to the relay. `down`: nothing arrives; `deaf`: it arrives, its answer is lost; `flaky`: most of it is lost; a
 * number: so many milliseconds.
 */
export type Line = 'down' | 'deaf' | 'flaky' | number

export interface Queued {
  readonly bytes: Buffer
  /** It will never be delivered, or is not known to have been. */
  readonly onLost: () => void
}

export interface Sender {
  send(event: Queued): void
  /** With all that stands in its queue. */
  die(): void
}

export interface SenderDeps {
  readonly time: VirtualTime
  readonly rules: Rules
  readonly line: () => Line
  /** Whether it was taken, some time later; never told when the relay is away. */
  readonly post: (bytes: Buffer, answer: (isTaken: boolean) => void) => void
  readonly seen: { dropped: number; givenUp: number; repeated: number }
}

export function createSender({ time, rules, line, post, seen }: SenderDeps): Sender {
  const timeoutMs = time.pick([500, 1_000, 2_000])
  const backoffMs = time.pick([100, 500, 1_000])
  /** Distribution never gives up. */
  const givesUpMs = time.odds(0.3) ? Number.POSITIVE_INFINITY : rules.givesUpMs * time.between(1, 1.75)
  const queue: Queued[] = []
  let delivering: Queued | undefined
  let isAlive = true

  function next(): void {
    const [event] = queue.splice(rules.isOrdered ? 0 : Math.floor(time.chance() * queue.length), 1)
    delivering = event
    if (event) attempt(event, time.nowMs)
  }

  function attempt(event: Queued, firstTriedAtMs: number): void {
    let isOver = false
    const end = (isTaken: boolean) => {
      if (isOver || !isAlive) return
      isOver = true
      if (isTaken) return next()
      if (time.nowMs - firstTriedAtMs < givesUpMs) {
        seen.repeated += 1
        return time.later(time.between(0.5, 1) * backoffMs, () => isAlive && attempt(event, firstTriedAtMs))
      }
      seen.givenUp += 1
      event.onLost()
      next()
    }
    time.later(timeoutMs, () => end(false))
    transmit(event, end)
    // What stands between the two may have sent it on twice.
    if (time.odds(0.01)) time.later(time.between(0, 3_000), () => transmit(event, () => undefined))
  }

  function transmit(event: Queued, end: (isTaken: boolean) => void): void {
    const state = line()
    const onTheWayMs = time.between(0.1, 1) * (typeof state === 'number' ? state : 20)
    if (state === 'down' || (state === 'flaky' && time.odds(0.7))) return
    time.later(onTheWayMs, () => {
      post(event.bytes, (isTaken) => {
        if (state !== 'deaf') time.later(time.between(1, 20), () => end(isTaken))
      })
    })
  }

  return {
    send(event) {
      if (!isAlive) return event.onLost()
      if (queue.length >= QUEUE_LIMIT) {
        seen.dropped += 1
        return event.onLost()
      }
      queue.push(event)
      if (!delivering) next()
    },
    die() {
      isAlive = false
      for (const event of delivering ? [delivering, ...queue] : queue) event.onLost()
      queue.length = 0
    },
  }
}
