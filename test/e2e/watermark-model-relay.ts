/**
 * The relay, process by process: its log, its echo, its epochs and its pages are the real ones. The requests, timers and
 * waits between them are simulated, after src/relay-site.ts, replicator/relay/{canaries,instances,sites-listener}.ts.
 */
import { type ReadNotification, readEnvelope } from '../../replicator/notification.ts'
import { createEpochs, type Epochs } from '../../replicator/relay/epochs.ts'
import { type ComposedPage, composePage } from '../../replicator/relay/page-answer.ts'
import type { PageRequest } from '../../replicator/relay/page-request.ts'
import { createCanaryEcho } from '../../src/canary-echo.ts'
import { repository } from '../replicator/inbox-world.ts'
import type { Disk, OpenLog } from './watermark-model-log.ts'
import { CANARY_REPOSITORY, type Registry } from './watermark-model-registry.ts'
import { QUEUE_LIMIT, type Rules } from './watermark-model-rules.ts'
import type { VirtualTime } from './watermark-model-time.ts'

const CANARY_MS = 1_000
const CANARY_TIMEOUT_MS = 2_000
const TICK_MS = 250
const NAMES_MS = 1_000
const NAMES_TIMEOUT_MS = 2_000
const GATHER_MS = 20

/** What a site is answered; undefined: nothing, the line is cut. */
export type Answered = ComposedPage | undefined

export interface Relay {
  /** Not answered when it is away. */
  post(bytes: Buffer, answer: (isTaken: boolean) => void): void
  /** `onAnswer` is told once. */
  ask(site: string, question: PageRequest, onAnswer: (answer: Answered) => void): void
  readonly isUp: boolean
  start(): Promise<void>
  crash(): Promise<void>
  /** It stands still for so long. */
  pause(ms: number): void
  /** It answers errors for so long. */
  failFor(ms: number): void
  /** Names are not answered for so long. */
  loseNamesFor(ms: number): void
  watermark: Epochs['watermark']
  note(): string | undefined
  ends(): Readonly<Record<string, number>>
}

interface Process {
  readonly epochs: Epochs
  readonly open: OpenLog
  readonly now: () => number
  readonly echo: ReturnType<typeof createCanaryEcho>
  readonly waiting: Set<() => void>
  /** What each site was last told. */
  readonly notes: Map<string, string | undefined>
  readonly unanswered: Set<() => void>
  /** By address; another one for an address that came back. */
  readonly senders: Map<string, object>
  isAlive: boolean
}

export interface RelayDeps {
  readonly time: VirtualTime
  readonly rules: Rules
  readonly disk: Disk
  readonly registry: () => Registry
}

export function createRelay({ time, rules, disk, registry }: RelayDeps): Relay {
  const canaryKind = time.pick(['pull', 'push'] as const)
  const limits = { limitRecords: time.pick([2, 20, 1_000]), limitBytes: 512 * 1024 }
  const ended = new Map<string, number>()
  let current: Process | undefined
  let stillUntilMs = 0
  let stoodStillMs = 0
  let failsUntilMs = 0
  let namelessUntilMs = 0

  /** Done once the process runs, and not at all when it is dead. */
  function whenRunning(process: Process, run: () => void): void {
    if (!process.isAlive) return
    if (time.nowMs >= stillUntilMs) run()
    else time.later(stillUntilMs - time.nowMs + time.between(0, 5), () => whenRunning(process, run))
  }

  const awake = (process: Process) => new Promise<void>((resolve) => whenRunning(process, resolve))

  async function sleep(process: Process, ms: number): Promise<void> {
    await time.sleep(ms)
    await awake(process)
  }

  async function accept(process: Process, { notices, arrivals }: ReadNotification): Promise<void> {
    const { echo, epochs, open } = process
    try {
      const through = await open.log.append(echo.without(notices))
      epochs.heard(arrivals, through)
    } catch (error) {
      epochs.logFailed(error)
      echo.forget()
      throw error
    }
  }

  async function take(process: Process, bytes: Buffer): Promise<boolean> {
    if (time.nowMs < failsUntilMs) {
      process.epochs.receiverFailed('limited')
      return false
    }
    try {
      await accept(process, readEnvelope(bytes))
      return true
    } catch {
      process.epochs.receiverFailed('unavailable')
      return false
    }
  }

  async function sendCanaries(process: Process, address: string): Promise<void> {
    const sender = {}
    process.senders.set(address, sender)
    const isMine = () => process.isAlive && process.senders.get(address) === sender
    while (isMine()) {
      const beganAtMs = time.nowMs
      const userAgent = process.epochs.sending(address)
      const answer = await Promise.race([
        registry().canary(address, canaryKind, userAgent),
        time.sleep(CANARY_TIMEOUT_MS),
      ])
      await awake(process)
      if (!isMine()) return
      if (answer !== true) process.epochs.refused(address, 'connection reset', userAgent)
      await sleep(process, Math.max(0, CANARY_MS - (time.nowMs - beganAtMs)))
    }
  }

  async function resolve(process: Process): Promise<void> {
    const askedAtMs = process.now()
    await time.sleep(time.between(0, 50))
    const names = time.nowMs < namelessUntilMs ? [] : registry().names()
    if (names.length === 0) await time.sleep(NAMES_TIMEOUT_MS)
    else await time.sleep(time.between(0, time.odds(0.1) ? 1_500 : 50))
    await awake(process)
    const { epochs, senders } = process
    if (names.length === 0) return epochs.unresolved(new Error('no answer'))
    epochs.instances(names, askedAtMs)
    for (const address of senders.keys()) if (!names.includes(address)) senders.delete(address)
    for (const address of names) if (!senders.has(address)) time.go(() => sendCanaries(process, address))
  }

  async function followNames(process: Process): Promise<void> {
    while (process.isAlive) {
      const beganAtMs = time.nowMs
      await resolve(process)
      await sleep(process, Math.max(0, NAMES_MS - (time.nowMs - beganAtMs)))
    }
  }

  async function every(process: Process, ms: number, run: () => unknown): Promise<void> {
    while (process.isAlive) {
      await sleep(process, ms)
      await run()
    }
  }

  async function answer(process: Process, site: string, asked: PageRequest): Promise<ComposedPage> {
    const { epochs, open, now, notes, waiting } = process
    const { log } = open
    const arrivedAtMs = now()
    const isHere =
      asked.after !== undefined &&
      asked.log === log.id &&
      asked.after >= log.first - 1 &&
      asked.after <= log.last
    const hasRecords = () =>
      log.last > (asked.settled ? Math.min(asked.after ?? 0, log.settledThrough) : (asked.after ?? 0))
    const hasWord = () => {
      const mark = epochs.watermark()
      return (
        (mark && (mark.epoch !== asked.epoch || mark.round > asked.round)) ||
        epochs.note() !== notes.get(site)
      )
    }
    const isDue = () => hasRecords() || hasWord()
    if (isHere && !isDue()) {
      await until(isDue, asked.waitMs, waiting)
      await awake(process)
      if (hasRecords()) await sleep(process, GATHER_MS)
    }
    const page = await composePage(
      { relayLog: log, watermark: epochs.watermark, note: epochs.note, limits, now },
      asked,
      arrivedAtMs,
    )
    if ('text' in page) notes.set(site, page.note)
    return page
  }

  function until(condition: () => unknown, waitMs: number, waiting: Set<() => void>): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        waiting.delete(look)
        resolve()
      }
      const look = () => void (condition() && end())
      waiting.add(look)
      time.later(waitMs, end)
    })
  }

  return {
    get isUp() {
      return current !== undefined
    },
    post(bytes, onTaken) {
      const process = current
      if (!process) return
      const sentAtMs = time.nowMs
      whenRunning(process, () =>
        time.go(async () => {
          // Its sender has hung up long ago, and of some connections nothing is left.
          if (time.nowMs - sentAtMs > 500 && time.odds(0.5)) return
          const isTaken = await take(process, bytes)
          if (process.isAlive) onTaken(isTaken)
        }),
      )
    },
    ask(site, question, onAnswer) {
      const process = current
      if (!process) return onAnswer(undefined)
      const cut = () => onAnswer(undefined)
      process.unanswered.add(cut)
      whenRunning(process, () =>
        time.go(async () => {
          const page = await answer(process, site, question).catch((error: unknown) => {
            // Its log is closed under it.
            if (process.isAlive) throw error
            return undefined
          })
          await awake(process)
          if (process.unanswered.delete(cut)) onAnswer(page)
        }),
      )
    },
    async start() {
      if (current) return
      const startedAtMs = time.nowMs - time.between(0, 1e6)
      const now = () => time.nowMs - startedAtMs - (rules.relayClockStops ? stoodStillMs : 0)
      const epochs = createEpochs({
        queueSize: rules.toldQueueSize ?? QUEUE_LIMIT,
        now,
        random: () => String(time.chance()),
      })
      const process: Process = {
        epochs,
        open: await disk.open(now),
        now,
        echo: createCanaryEcho(repository(CANARY_REPOSITORY)),
        waiting: new Set(),
        notes: new Map(),
        unanswered: new Set(),
        senders: new Map(),
        isAlive: true,
      }
      const { log } = process.open
      const wake = () => {
        for (const look of [...process.waiting]) look()
      }
      log.onAppended(wake)
      epochs.onChange(wake)
      current = process
      time.go(() => followNames(process))
      time.go(() => every(process, TICK_MS, () => epochs.tick()))
      time.go(() => every(process, 1_000, () => (process.isAlive ? log.touch() : undefined)))
    },
    async crash() {
      const process = current
      if (!process) return
      current = undefined
      process.isAlive = false
      for (const [reason, count] of Object.entries(process.epochs.state().ends)) {
        ended.set(reason, (ended.get(reason) ?? 0) + count)
      }
      for (const cut of process.unanswered) time.later(time.between(0, 50), cut)
      await process.open.crash()
    },
    pause(ms) {
      if (time.nowMs < stillUntilMs) return
      stillUntilMs = time.nowMs + ms
      stoodStillMs += ms
    },
    failFor(ms) {
      failsUntilMs = time.nowMs + ms
    },
    loseNamesFor(ms) {
      namelessUntilMs = time.nowMs + ms
    },
    watermark: () => current?.epochs.watermark(),
    note: () => (current ? current.epochs.note() : 'the relay is away'),
    ends() {
      const all = new Map(ended)
      for (const [reason, count] of Object.entries(current?.epochs.state().ends ?? {})) {
        all.set(reason, (all.get(reason) ?? 0) + count)
      }
      return Object.fromEntries(all)
    },
  }
}
