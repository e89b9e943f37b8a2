/**
 * A registry of several processes and the relay beside it, in a time of its own: FIFO queues with a limit, senders that
 * try, repeat and give up, lines that lose or delay. It knows what was acknowledged, and holds the watermark against it.
 */

import { createEpochs, type Epochs } from '../../../replicator/relay/epochs.ts'
import { createChance } from '../../support/chance.ts'

export interface RegistryOptions {
  readonly seed: number
  /** What a queue holds; default 20. What the relay is told of it; default the same. */
  readonly queueLimit?: number
  readonly toldQueueSize?: number
  /** A sender gives an event up after this long; default 4 000. */
  readonly givesUpMs?: number
  /** A tag is written at most this long after its event; default 5 000. */
  readonly tagDelayMs?: number
  /** Whether processes acknowledge writes that are not named (any longer); default false. */
  readonly writesUnnamed?: boolean
  /** What makes canaries unguessable; default numbers of the seed. */
  readonly random?: () => string
}

/** `down`: nothing arrives; `deaf`: it arrives, and the answer is lost; a number: so many ms on the way. */
export type Line = 'up' | 'down' | 'deaf' | number

interface Write {
  readonly tagAtMs: number
  readonly acknowledgedAtMs: number
  number: number | undefined
}

interface Queued {
  readonly userAgent: string | undefined
  readonly write: Write | undefined
}

interface Process {
  readonly id: string
  readonly queue: Queued[]
  isSending: boolean
  isAlive: boolean
}

export interface Instance {
  readonly address: string
  process: Process
  line: Line
  /** How long a canary takes until its event is made. */
  canaryDelayMs: number
}

/** A write that the watermark covers is neither in the log nor was there for all to see when the epoch began. */
export class StaleError extends Error {
  override readonly name = 'StaleError'
}

export interface SimulatedRegistry {
  readonly epochs: Epochs
  readonly instances: readonly Instance[]
  readonly seen: { watermarks: number; covered: number; lostBefore: number; dropped: number; givenUp: number }
  nowMs(): number
  /** Lets time pass, with everything that happens in it. */
  pass(ms: number): void
  write(instance: Instance, count?: number): void
  /** Someone pulls with this User-Agent. */
  pull(instance: Instance, userAgent: string): void
  /** The newest canary that was sent. */
  newestCanary(): string | undefined
  restart(instance: Instance): void
  /** The relay answers errors, or stands still, for so long. */
  failFor(ms: number): void
  standStillFor(ms: number): void
  strangerPosts(id: string): void
  nameOnly(instances: readonly Instance[]): void
  loseNames(): void
}

const ATTEMPT_TIMEOUT_MS = 500
const TICK_MS = 250
const CANARY_MS = 1_000

export function createSimulatedRegistry(count: number, options: RegistryOptions): SimulatedRegistry {
  const { seed, queueLimit = 20, toldQueueSize = queueLimit, givesUpMs = 4_000, tagDelayMs = 5_000 } = options
  const chance = createChance(seed)
  const due: { readonly atMs: number; readonly order: number; readonly run: () => void }[] = []
  const writes: Write[] = []
  const seen = { watermarks: 0, covered: 0, lostBefore: 0, dropped: 0, givenUp: 0 }
  let nowMs = 0
  let order = 0
  let processes = 0
  let logged = 0
  let failsUntilMs = 0
  let stillUntilMs = 0
  let newestCanary: string | undefined
  let epochBegan: { readonly id: string; readonly atMs: number } | undefined
  let checked: { readonly epoch: string; readonly round: number } | undefined

  const epochs = createEpochs({
    queueSize: toldQueueSize,
    now: () => nowMs,
    random: options.random ?? (() => String(chance())),
  })

  function later(ms: number, run: () => void): void {
    due.push({ atMs: nowMs + Math.max(0, Math.round(ms)), order: order++, run })
  }

  const newProcess = (): Process => ({
    id: `process-${++processes}`,
    queue: [],
    isSending: false,
    isAlive: true,
  })
  const instances: Instance[] = Array.from({ length: count }, (_, index) => ({
    address: `http://10.0.0.${index + 1}:5000`,
    process: newProcess(),
    line: 'up',
    canaryDelayMs: 5,
  }))
  let named: readonly Instance[] = instances

  function enqueue(instance: Instance, event: Queued): void {
    const { process } = instance
    if (!process.isAlive) return
    if (process.queue.length >= queueLimit) {
      seen.dropped += event.write ? 1 : 0
      return
    }
    process.queue.push(event)
    if (!process.isSending) next(instance, process)
  }

  function next(instance: Instance, process: Process): void {
    const event = process.isAlive ? process.queue.shift() : undefined
    process.isSending = event !== undefined
    if (event) attempt(instance, process, event, nowMs)
  }

  function attempt(instance: Instance, process: Process, event: Queued, firstTriedAtMs: number): void {
    const { line } = instance
    let isOver = false
    const succeed = () => {
      if (isOver) return
      isOver = true
      next(instance, process)
    }
    const fail = () => {
      if (isOver || !process.isAlive) return
      isOver = true
      if (nowMs - firstTriedAtMs >= givesUpMs) {
        seen.givenUp += 1
        next(instance, process)
      } else later(100 + chance() * 300, () => attempt(instance, process, event, firstTriedAtMs))
    }
    later(ATTEMPT_TIMEOUT_MS, fail)
    const onTheWayMs = typeof line === 'number' ? line : 2 + chance() * 40
    if (line === 'down') later(onTheWayMs, fail)
    else later(onTheWayMs, () => arrive(process, event, line === 'deaf' ? fail : succeed, fail))
  }

  function arrive(process: Process, event: Queued, succeed: () => void, fail: () => void): void {
    if (!process.isAlive) return
    if (nowMs < stillUntilMs) {
      later(stillUntilMs - nowMs, () => arrive(process, event, succeed, fail))
    } else if (nowMs < failsUntilMs) {
      epochs.receiverFailed('503')
      fail()
    } else {
      if (event.write) event.write.number ??= ++logged
      epochs.heard([{ instanceId: process.id, userAgent: event.userAgent }], logged)
      check()
      succeed()
    }
  }

  function sendCanary(instance: Instance): void {
    later(CANARY_MS, () => sendCanary(instance))
    if (nowMs < stillUntilMs || !named.includes(instance)) return
    const userAgent = epochs.sending(instance.address)
    newestCanary = userAgent
    const { process } = instance
    later(instance.canaryDelayMs, () => {
      if (process.isAlive) enqueue(instance, { userAgent, write: undefined })
      else epochs.refused(instance.address, 'connection reset', userAgent)
    })
  }

  function tick(): void {
    later(TICK_MS, tick)
    if (nowMs < stillUntilMs) return
    epochs.tick()
    check()
  }

  /** The law: no write that a watermark covers can be missing from what a site knows. */
  function check(): void {
    const mark = epochs.watermark()
    if (!mark || (mark.epoch === checked?.epoch && mark.round === checked.round)) return
    checked = mark
    seen.watermarks += 1
    if (epochBegan?.id !== mark.epoch) epochBegan = { id: mark.epoch, atMs: nowMs }
    for (const write of writes) {
      if (write.acknowledgedAtMs > mark.sentAtMs) continue
      if (write.number !== undefined && write.number <= mark.through) seen.covered += 1
      else if (write.tagAtMs <= epochBegan.atMs) seen.lostBefore += 1
      else throw new StaleError(`at ${nowMs}: acknowledged at ${write.acknowledgedAtMs}, covered, not known`)
    }
  }

  for (const [index, instance] of instances.entries()) later(100 + index * 130, () => sendCanary(instance))
  later(TICK_MS, tick)
  epochs.instances(instances.map(({ address }) => address))

  return {
    epochs,
    instances,
    seen,
    nowMs: () => nowMs,
    pass(ms) {
      const untilMs = nowMs + ms
      for (;;) {
        const [first] = due.toSorted((one, other) => one.atMs - other.atMs || one.order - other.order)
        if (!first || first.atMs > untilMs) break
        due.splice(due.indexOf(first), 1)
        nowMs = first.atMs
        first.run()
      }
      nowMs = untilMs
    },
    write(instance, times = 1) {
      if (!named.includes(instance) && options.writesUnnamed !== true) return
      for (let index = 0; index < times; index++) {
        const tagAtMs = nowMs + chance() * tagDelayMs
        const write = { tagAtMs, acknowledgedAtMs: tagAtMs + chance() * 50, number: undefined }
        const { process } = instance
        enqueue(instance, { userAgent: 'docker/28', write })
        // A process that dies before has acknowledged nothing.
        later(write.acknowledgedAtMs - nowMs, () => process.isAlive && writes.push(write))
      }
    },
    pull: (instance, userAgent) => enqueue(instance, { userAgent, write: undefined }),
    newestCanary: () => newestCanary,
    restart(instance) {
      instance.process.isAlive = false
      instance.process = newProcess()
    },
    failFor(ms) {
      failsUntilMs = nowMs + ms
    },
    standStillFor(ms) {
      stillUntilMs = nowMs + ms
    },
    strangerPosts(id) {
      epochs.heard([{ instanceId: id, userAgent: 'docker/28' }], logged)
      check()
    },
    nameOnly(some) {
      named = some
      epochs.instances(named.map(({ address }) => address))
    },
    loseNames: () => epochs.unresolved(new Error('no answer')),
  }
}
