/**
 * Whether the relay's log is complete, and up to when: a state machine without timers or I/O. It is told of what is sent
 * to and heard from the registry, and says up to which moment every acknowledged write is in the log (the watermark).
 *
 * Why that is so. A process of a registry puts each event into a queue before it acknowledges what the event tells of; its
 * one sender delivers them one by one, in their order. A canary is a request whose event is made after the canary was
 * sent (nobody knows its text before, so nobody can have made it earlier) and so stands in the queue behind the events of
 * everything acknowledged before. For two canaries b and c of one address, sent one after the other and come back in
 * this order from the same process, an event made in between that has not come when c has was
 *  - given up by the sender. It tries one event for at least `GIVES_UP_MS`, and this one only after it was made, which was
 *    after b was sent. So c cannot be back within `GIVES_UP_MS` of the sending of b: `expire` ends the epoch before.
 *  - dropped by a full queue. Then `queueSize` events stood in the queue at that moment, after b was sent; all must have
 *    come before c, except the one that was just being delivered and one that may have been given up (two cannot within
 *    `GIVES_UP_MS`). So many, counted from the sending of b, end the epoch.
 *  - lost with its process. Then c does not come back, or comes from another process: both end the epoch.
 *  - refused or not written by us. Both end the epoch; what is answered 2xx was logged first and then told here.
 * Chained from the first canary after an end (the base) to the latest, this says that every event made between the two has
 * been heard, and is in the log. Of what was made before the base some may be lost; but a write whose event is lost
 * reaches its tag within `SETTLES_MS` of its event, so when an epoch begins, at least `SETTLES_MS` after the sending of
 * every base, the primary shows it to whoever asks from then on. The wait is counted from the bases and not from the
 * end, since events can go on being lost in between. A break while waiting begins it anew.
 * The watermark's moment is the earliest sending among the latest canary of each address, and no later than the
 * question by which the addresses were last found to be all.
 *
 * Assumptions: a process delivers its own events in their order, and no sender gives one up before `GIVES_UP_MS`; an
 * event is queued before the acknowledgement of its write, at most `SETTLES_MS` before its tag is written if it is lost;
 * the registry's queue holds at least `queueSize`; what is named are all processes that acknowledge writes, each from
 * before its first one until its last (one that goes on finishing uploads after its address was taken away is not); every
 * start of a process makes a new instanceID; a rename is told of after it is done; this machine's clock does not stand still
 * while the registry runs.
 */
import { randomUUID } from 'node:crypto'
import type { Arrival } from '../notification.ts'
import { createCanaryChains } from './canary-chains.ts'
import { type EpochEnd, type EpochEndReason, endSentence, NO_ENDS } from './epoch-ends.ts'
import type { EndState, EpochsState, EpochWatermark } from './epoch-state.ts'

/** A write whose event was lost reaches its tag this long after its event at the latest. */
export const SETTLES_MS = 5_000

/** What is refused since it cannot be written is sent again, and canaries wait behind it. */
const FOLLOWS_A_LOG_FAULT: ReadonlySet<EpochEndReason> = new Set(['receiver-failed', 'canary-missing'])

export interface Epochs {
  /**
   * The addresses of all instances, as answered to questions asked at `askedAtMs` or later. Undefined: they are not asked
   * for, since all are written down.
   */
  instances(addresses: readonly string[], askedAtMs?: number): void
  /** It is not known which instances there are. */
  unresolved(error: unknown): void
  /** A canary is about to be sent to the address; the answer is the User-Agent it must have. Call it last of all. */
  sending(address: string): string
  /** The instance did not take a canary; `userAgent` where it got as far as having one. */
  refused(address: string, why: string, userAgent?: string): void
  /** Events came, in this order, and are durable up to `logThrough`. To be told before the sender is answered. */
  heard(arrivals: readonly Arrival[], logThrough: number): void
  /** A notification was not answered 2xx. */
  receiverFailed(why: string): void
  logFailed(error: unknown): void
  /** To be called several times a second. */
  tick(): void
  watermark(): EpochWatermark | undefined
  /** Why there is no watermark: one sentence; undefined while there is one. */
  note(): string | undefined
  state(): EpochsState
  /** Told after a new watermark, the end of an epoch, and another `note`. The answer ends it. */
  onChange(listener: () => void): () => void
}

export interface EpochsOptions {
  /** How many events a process of the registry queues before it drops the newest. */
  readonly queueSize: number
  /** Milliseconds that only go forward; default `performance.now`. */
  readonly now?: (() => number) | undefined
  /** A text that nobody can guess; default 128 bits in hex. */
  readonly random?: (() => string) | undefined
}

interface TimedEnd extends EpochEnd {
  readonly atMs: number
}

export function createEpochs(options: EpochsOptions): Epochs {
  const { queueSize, now = () => performance.now(), random } = options
  const chains = createCanaryChains({ queueSize, now, random })
  const listeners = new Set<() => void>()
  const ends = { ...NO_ENDS, 'relay-started': 1 }
  let lastEnd: TimedEnd = { reason: 'relay-started', atMs: now() }
  let setback: TimedEnd | undefined
  /** While nothing could be written to the log since: what else breaks may only follow from it. */
  let logFault: EpochEnd | undefined
  let epoch: { readonly id: string; readonly beganAtMs: number } | undefined
  let mark: EpochWatermark | undefined
  let through = 0
  let wasTold = false
  let isUnresolved = false
  let askedAtMs: number | undefined

  function changed(): void {
    for (const listener of listeners) listener()
  }

  /** Ends the epoch, or begins the wait for the next one anew. */
  function broken(cause: EpochEnd | undefined): void {
    if (!cause) return
    const former = { epoch, note: note() }
    const end = { ...(FOLLOWS_A_LOG_FAULT.has(cause.reason) && logFault ? logFault : cause), atMs: now() }
    if (epoch) {
      ends[end.reason] += 1
      lastEnd = end
    }
    setback = epoch ? undefined : end
    epoch = undefined
    mark = undefined
    chains.breakOff()
    if (former.epoch || note() !== former.note) changed()
  }

  function proceed(atMs: number): void {
    const latest = isUnresolved ? undefined : chains.settled(atMs, SETTLES_MS)
    if (!latest) return
    if (!epoch) {
      epoch = { id: randomUUID(), beganAtMs: atMs }
      setback = undefined
      logFault = undefined
    }
    const sentAtMs = Math.min(askedAtMs ?? Number.POSITIVE_INFINITY, ...latest)
    if (mark && sentAtMs <= mark.sentAtMs) return
    mark = { epoch: epoch.id, round: (mark?.round ?? 0) + 1, through, sentAtMs }
    changed()
  }

  function note(): string | undefined {
    if (epoch) return undefined
    if (chains.size > 0 || isUnresolved) return endSentence(setback ?? lastEnd)
    return wasTold
      ? 'No watermark: relay.instances names no instance of the registry; name every process of it there.'
      : 'No watermark yet: the names in relay.instances are being resolved, or it names none.'
  }

  const endState = (end: TimedEnd): EndState => ({
    reason: end.reason,
    instance: end.instance,
    agoMs: now() - end.atMs,
    sentence: endSentence(end),
  })

  return {
    instances(addresses, asked) {
      const { joined, left } = chains.set(addresses)
      isUnresolved = false
      askedAtMs = asked
      if (wasTold && joined.length > 0) broken({ reason: 'instance-joined', instance: joined.join(', ') })
      else if (left.length > 0) broken({ reason: 'instance-left', instance: left.join(', ') })
      wasTold = true
      proceed(now())
    },
    unresolved(error) {
      isUnresolved = true
      broken({ reason: 'unresolved', detail: textOf(error) })
    },
    sending: chains.sending,
    refused(instance, why, userAgent) {
      if (chains.refused(instance, userAgent)) broken({ reason: 'canary-refused', instance, detail: why })
    },
    heard(arrivals, logThrough) {
      const atMs = now()
      broken(chains.expire(atMs))
      if (logThrough > through) logFault = undefined
      through = Math.max(through, logThrough)
      for (const arrival of arrivals) broken(chains.take(arrival))
      proceed(atMs)
    },
    receiverFailed: (why) => broken({ reason: 'receiver-failed', detail: why }),
    logFailed(error) {
      logFault = { reason: 'log-failed', detail: textOf(error) }
      broken(logFault)
    },
    tick() {
      const atMs = now()
      broken(chains.expire(atMs))
      proceed(atMs)
    },
    watermark: () => mark,
    note,
    state() {
      const atMs = now()
      return {
        epoch: epoch?.id,
        ageMs: epoch && atMs - epoch.beganAtMs,
        watermarkAgeMs: mark && atMs - mark.sentAtMs,
        instances: chains.states(atMs),
        canaries: { ...chains.counts },
        lastEnd: endState(lastEnd),
        setback: setback && endState(setback),
        ends: { ...ends },
      }
    },
    onChange(listener) {
      listeners.add(listener)
      return () => void listeners.delete(listener)
    },
  }
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
