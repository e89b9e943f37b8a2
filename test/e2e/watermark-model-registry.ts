/**
 * A primary of several processes on one storage: each takes writes, tells the relay of them, dies and is started again;
 * their addresses come and go. Whichever of them is asked shows the same tags.
 */
import { CANARY_TAG, createCanaryImage } from '../../replicator/relay/canary-image.ts'
import { envelopeOf } from './watermark-model-events.ts'
import type { Change, Primary, Version } from './watermark-model-primary.ts'
import type { Rules } from './watermark-model-rules.ts'
import { createSender, type Line, type Sender } from './watermark-model-sender.ts'
import type { VirtualTime } from './watermark-model-time.ts'

export const CANARY_REPOSITORY = 'geo-registry/canary'
/** A tag is mostly written at once, seldom much later; a write that lasts is acknowledged late as well. */
const SLOW_WRITES = 0.25

export interface Instance {
  readonly address: string
  /** Undefined: it does not run. */
  process: RegistryProcess | undefined
  line: Line
  /** As it is without trouble. */
  readonly usualLine: number
  /** How long a canary takes until its event is made. */
  canaryDelayMs: number
  isNamed: boolean
  /** Clients are sent to it. */
  isServing: boolean
}

export interface RegistryProcess {
  readonly id: string
  readonly sender: Sender
  /** Writes that are under way. */
  readonly writes: Set<Write>
}

interface Write {
  readonly change: Change
  readonly eventAtMs: number
  readonly onAnswer: (written: readonly Version[] | undefined) => void
  state: 'pending' | 'written' | 'failed'
  versions: readonly Version[]
}

export interface RegistryDeps {
  readonly time: VirtualTime
  readonly primary: Primary
  readonly rules: Rules
  readonly post: (bytes: Buffer, answer: (isTaken: boolean) => void) => void
  readonly seen: { writes: number; dropped: number; givenUp: number; repeated: number; crashes: number }
}

export interface Registry {
  readonly instances: readonly Instance[]
  /** What its name resolves to. */
  names(): string[]
  at(which: number): Instance
  /** One that takes requests. */
  serving(): Instance | undefined
  /** `onAnswer`: what was written; undefined: it failed, or nobody knows. Not told when its process dies. */
  write(instance: Instance, change: Change, onAnswer?: Write['onAnswer']): void
  /** An answer of a canary: whether it was taken. Undefined: the connection is gone. */
  canary(address: string, kind: 'pull' | 'push', userAgent: string): Promise<boolean | undefined>
  crash(instance: Instance): void
  start(instance: Instance): void
  join(instance: Instance): void
  leave(instance: Instance): void
  /** It dies, and only some time later its name is taken away. */
  vanish(instance: Instance): void
  /** What the relay was told may be lost with its log. */
  loseTold(): void
}

export function createRegistry(count: number, deps: RegistryDeps): Registry {
  const { time, primary, rules, post, seen } = deps
  /** Distribution tells of a push before its tag is written, GitLab's registry after. */
  const tellsFirst = time.odds(0.6)
  const { digest } = createCanaryImage()
  const usualLine = time.pick([5, 20, 400])
  let events = 0
  let processes = 0

  const instances: Instance[] = Array.from({ length: count + 1 }, (_, index) => ({
    address: `http://10.0.0.${index + 1}:5000`,
    process: undefined,
    line: usualLine,
    usualLine,
    canaryDelayMs: 5,
    isNamed: index < count,
    isServing: index < count,
  }))

  function start(instance: Instance): void {
    if (instance.process) return
    const id = rules.keepsInstanceId ? `process of ${instance.address}` : `process-${++processes}`
    const sender = createSender({ time, rules, line: () => instance.line, post, seen })
    instance.process = { id, sender, writes: new Set() }
  }

  /** The storage takes it; a dead process has nobody to acknowledge it to. */
  function commit(write: Write): void {
    if (write.state !== 'pending') return
    const versions = primary.write(write.change)
    write.state = versions ? 'written' : 'failed'
    write.versions = versions ?? []
  }

  function lose(write: Write): void {
    if (write.state !== 'pending') return
    const leftMs = write.eventAtMs + rules.settlesMs - time.nowMs
    // Later than that it cannot be written, by the assumption: it fails.
    if (leftMs > 0) time.later(leftMs, () => commit(write))
    else write.state = 'failed'
  }

  function tell(process: RegistryProcess, write: Write): void {
    const bytes = envelopeOf(write.change, {
      id: `event-${++events}`,
      instanceId: process.id,
      userAgent: 'docker/28',
      timestamp: new Date(time.between(0, 2e12)).toISOString(),
    })
    process.sender.send({ bytes, onLost: () => lose(write) })
  }

  function slowness(): number {
    if (!time.odds(SLOW_WRITES)) return time.between(0, 200)
    // The clamp leaves a little for what is rounded.
    return time.between(0, 0.98) * time.pick([2_000, 10_000, rules.settledMs])
  }

  async function carryOut(process: RegistryProcess, write: Write): Promise<void> {
    const isAlive = () => process.writes.has(write)
    // A rename is GitLab's, which tells of it when it is done.
    if (tellsFirst && rules.eventLagMs === 0 && write.change.kind !== 'rename') {
      tell(process, write)
      await time.sleep(slowness())
      // The storage may still do what a process asked of it before it died.
      if (isAlive() || time.odds(0.5)) commit(write)
    } else {
      await time.sleep(slowness())
      if (!isAlive()) return
      commit(write)
      await time.sleep(time.between(0, 50))
      if (write.state === 'written' && isAlive()) {
        if (rules.eventLagMs === 0) tell(process, write)
        else time.later(time.between(0, rules.eventLagMs), () => tell(process, write))
      }
    }
    await time.sleep(time.between(0, 50))
    if (!isAlive()) return
    process.writes.delete(write)
    if (write.state === 'written') {
      seen.writes += 1
      primary.acknowledge(write.versions)
    }
    write.onAnswer(write.state === 'written' ? write.versions : undefined)
  }

  function crash(instance: Instance): void {
    const { process } = instance
    if (!process) return
    seen.crashes += 1
    instance.process = undefined
    process.writes.clear()
    process.sender.die()
  }

  for (const instance of instances.slice(0, count)) start(instance)
  return {
    instances,
    names: () => instances.filter(({ isNamed }) => isNamed).map(({ address }) => address),
    at(which) {
      const instance = instances[which % instances.length]
      if (!instance) throw new Error('the model is wrong: no such instance')
      return instance
    },
    serving() {
      const all = instances.filter(({ process, isServing }) => process && isServing)
      return all.length > 0 ? time.pick(all) : undefined
    },
    write(instance, change, onAnswer = () => undefined) {
      const { process } = instance
      if (!process || !instance.isServing) return
      const write: Write = { change, eventAtMs: time.nowMs, onAnswer, state: 'pending', versions: [] }
      process.writes.add(write)
      time.go(() => carryOut(process, write))
    },
    async canary(address, kind, userAgent) {
      const instance = instances.find((each) => each.address === address)
      await time.sleep(time.between(1, 10))
      if (!instance?.process) return undefined
      const { process } = instance
      await time.sleep(instance.canaryDelayMs)
      if (instance.process !== process) return undefined
      const what = {
        kind: 'canary',
        action: kind,
        repository: CANARY_REPOSITORY,
        digest,
        tag: CANARY_TAG,
      } as const
      const text = { id: `event-${++events}`, instanceId: process.id, userAgent, timestamp: '' }
      process.sender.send({ bytes: envelopeOf(what, text), onLost: () => undefined })
      await time.sleep(time.between(1, 10))
      return instance.process === process ? true : undefined
    },
    crash,
    start,
    join(instance) {
      if (instance.process || instance.isNamed) return
      start(instance)
      // Its network may not be all there yet; nor, when it leaves, to the end.
      instance.line = time.pick([usualLine, 'flaky', 8_000])
      time.later(time.between(0, 10_000), () => {
        instance.line = usualLine
      })
      instance.isServing = rules.namedLateMs > 0
      time.later(rules.namedLateMs, () => {
        instance.isNamed = true
      })
      time.later(rules.namedLateMs + time.between(1, 3_000), () => {
        instance.isServing = instance.isNamed
      })
    },
    leave(instance) {
      const { process } = instance
      if (!process || !instance.isNamed || !instance.isServing) return
      instance.isServing = rules.writesOnMs > 0
      const unname = () => {
        // It finishes what it has begun before its name is taken away.
        if (process.writes.size > 0 && rules.writesOnMs === 0) return time.later(100, unname)
        instance.isNamed = false
        instance.line = time.pick([usualLine, 'flaky', 'down'])
        time.later(rules.writesOnMs + time.between(0, 4_000), () => {
          instance.isServing = false
          // Whatever was started there meanwhile is not to be reached by anybody.
          if (!instance.isNamed) crash(instance)
        })
      }
      time.later(time.between(0, 1_000), unname)
    },
    vanish(instance) {
      if (!instance.process) return
      crash(instance)
      time.later(time.between(0, 8_000), () => {
        if (instance.process) return
        instance.isServing = false
        instance.isNamed = false
      })
    },
    loseTold() {
      for (const { process } of instances) for (const write of process?.writes ?? []) lose(write)
    },
  }
}
