/**
 * The canaries of each address of the registry: what was sent, what came back from which process, and what of it breaks
 * the proof that epochs.ts makes of it. The argument is there.
 */
import { randomBytes } from 'node:crypto'
import type { Arrival } from '../notification.ts'
import type { EpochEnd } from './epoch-ends.ts'
import type { CanaryCounts, InstanceState } from './epoch-state.ts'

/** A canary that has not come back for this long is missing. */
export const LATE_MS = 2_000
/** No sender gives an event up before it has tried it for this long (`config render notifications` sees to it). */
export const GIVES_UP_MS = 4_000
/** For this long a canary that comes back still tells which process answers at its address. */
const REMEMBERED_MS = 60_000

export interface CanaryChains {
  readonly size: number
  readonly counts: CanaryCounts
  /** The addresses there are from now on; what changed. */
  set(addresses: readonly string[]): { readonly joined: readonly string[]; readonly left: readonly string[] }
  /** The User-Agent of a canary that is about to be sent. */
  sending(address: string): string
  /** False: the address is none of ours any longer. */
  refused(address: string, userAgent: string | undefined): boolean
  /** Takes an event; what it breaks. */
  take(arrival: Arrival): EpochEnd | undefined
  /** What the passing of time breaks. */
  expire(atMs: number): EpochEnd | undefined
  /** Forgets what was proved; what was sent before proves nothing after. */
  breakOff(): void
  /** When the latest canary of each address was sent, once every base was sent `settlesMs` ago. */
  settled(atMs: number, settlesMs: number): readonly number[] | undefined
  states(atMs: number): readonly InstanceState[]
}

export interface CanaryChainsOptions {
  readonly queueSize: number
  readonly now: () => number
  readonly random?: (() => string) | undefined
}

interface Canary {
  readonly address: string
  readonly sentAtMs: number
  readonly attempt: number
  /** The process known at the address when it was sent, and how many of its events had been heard by then. */
  readonly process: string | undefined
  readonly heardBefore: number
  isGivenUp: boolean
}

interface Chain {
  process: string | undefined
  /** Sent since the last break and not back, oldest first. */
  waiting: Canary[]
  /** The first since the last break that was sent to a known process and came back, and the latest. */
  base: Canary | undefined
  latest: Canary | undefined
  /** When the latest that came back was sent, whatever it was good for. */
  seenSentAtMs: number | undefined
}

export function createCanaryChains(options: CanaryChainsOptions): CanaryChains {
  const { now, random = unguessable } = options
  /** Less the event that was just being delivered, and one that was given up. */
  const overflowCount = Math.max(1, options.queueSize - 2)
  const chains = new Map<string, Chain>()
  /** Sent and not back, by their User-Agent, oldest first. */
  const canaries = new Map<string, Canary>()
  /** Events heard of each known process. */
  const heardOf = new Map<string, number>()
  const counts = { sent: 0, returned: 0, lost: 0, refused: 0 }
  let attempt = 0
  let lookedAtMs = now()

  const isKnown = (process: string) => [...chains.values()].some((chain) => chain.process === process)
  const areAllKnown = () =>
    chains.size > 0 && [...chains.values()].every((chain) => chain.process !== undefined)

  function forgetStrangers(): void {
    for (const process of heardOf.keys()) if (!isKnown(process)) heardOf.delete(process)
  }

  function lose(canary: Canary): void {
    canary.isGivenUp = true
    counts.lost += 1
  }

  function returned(canary: Canary, chain: Chain, process: string): EpochEnd | undefined {
    const instance = canary.address
    if (!canary.isGivenUp) counts.returned += 1
    chain.seenSentAtMs = canary.sentAtMs
    const former = chain.process
    chain.process = process
    if (former !== undefined && former !== process) {
      forgetStrangers()
      return { reason: 'instance-changed', instance, detail: `${former}, then ${process}` }
    }
    if (canary.attempt !== attempt) return undefined
    const before = chain.waiting.indexOf(canary)
    if (before !== 0) {
      for (const overtaken of chain.waiting.slice(0, before)) lose(overtaken)
      return { reason: 'canary-out-of-order', instance }
    }
    chain.waiting.shift()
    // Of a process that was not known yet it was not counted how many events came meanwhile.
    if (canary.process === undefined) return undefined
    chain.base ??= canary
    chain.latest = canary
    return undefined
  }

  function count(process: string): EpochEnd | undefined {
    const total = (heardOf.get(process) ?? 0) + 1
    heardOf.set(process, total)
    const mayBeFull = [...chains.values()].some(
      (chain) =>
        chain.process === process && chain.latest && total - chain.latest.heardBefore >= overflowCount,
    )
    return mayBeFull ? { reason: 'queue-overflow', instance: process } : undefined
  }

  return {
    get size() {
      return chains.size
    },
    counts,
    set(addresses) {
      const named = new Set(addresses)
      const joined = [...named].filter((address) => !chains.has(address))
      const left = [...chains.keys()].filter((address) => !named.has(address))
      for (const address of left) chains.delete(address)
      for (const address of joined) chains.set(address, newChain())
      forgetStrangers()
      return { joined, left }
    },
    sending(address) {
      counts.sent += 1
      const userAgent = `geo-registry canary/${random()}.${counts.sent}`
      const chain = chains.get(address)
      if (!chain) return userAgent
      const sentAtMs = now()
      for (const [key, old] of canaries) {
        if (sentAtMs - old.sentAtMs < REMEMBERED_MS) break
        canaries.delete(key)
      }
      const { process } = chain
      const heardBefore = process === undefined ? 0 : (heardOf.get(process) ?? 0)
      const canary = { address, sentAtMs, attempt, process, heardBefore, isGivenUp: false }
      canaries.set(userAgent, canary)
      chain.waiting.push(canary)
      return userAgent
    },
    refused(address, userAgent) {
      if (!chains.has(address)) return false
      counts.refused += 1
      const canary = userAgent === undefined ? undefined : canaries.get(userAgent)
      if (canary) canary.isGivenUp = true
      return true
    },
    take({ instanceId, userAgent = '' }) {
      const canary = canaries.get(userAgent)
      const chain = canary && chains.get(canary.address)
      let end: EpochEnd | undefined
      if (canary && instanceId !== undefined) {
        canaries.delete(userAgent)
        // It was sent to an instance that has left meanwhile, which nobody need be told of.
        if (!chain) return undefined
        end = returned(canary, chain, instanceId)
      }
      if (instanceId !== undefined && isKnown(instanceId)) return end ?? count(instanceId)
      // Before every process is known, any may be one of them.
      if (!areAllKnown()) return end
      return { reason: 'unknown-instance', instance: instanceId ?? 'without an instanceID' }
    },
    expire(atMs) {
      const stoodStill = atMs - lookedAtMs > LATE_MS
      lookedAtMs = atMs
      for (const [instance, { waiting, latest }] of chains) {
        const [oldest] = waiting
        if (oldest && atMs - oldest.sentAtMs > LATE_MS) {
          lose(oldest)
          return { reason: stoodStill ? 'relay-paused' : 'canary-missing', instance }
        }
        if (latest && atMs - latest.sentAtMs >= GIVES_UP_MS) return { reason: 'relay-paused', instance }
      }
      return undefined
    },
    breakOff() {
      attempt += 1
      for (const chain of chains.values()) {
        chain.waiting = []
        chain.base = undefined
        chain.latest = undefined
      }
    },
    settled(atMs, settlesMs) {
      const sentAtMs: number[] = []
      for (const { base, latest } of chains.values()) {
        if (!base || !latest || atMs - base.sentAtMs < settlesMs) return undefined
        sentAtMs.push(latest.sentAtMs)
      }
      return chains.size === 0 ? undefined : sentAtMs
    },
    states: (atMs) =>
      [...chains].map(([address, { process, seenSentAtMs }]) => ({
        address,
        instanceId: process,
        lastCanaryAgeMs: seenSentAtMs === undefined ? undefined : atMs - seenSentAtMs,
      })),
  }
}

const newChain = (): Chain => ({
  process: undefined,
  waiting: [],
  base: undefined,
  latest: undefined,
  seenSentAtMs: undefined,
})

const unguessable = () => randomBytes(16).toString('hex')
