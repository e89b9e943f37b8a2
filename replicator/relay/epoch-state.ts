/** What the relay says of its epoch: to the sites, and in its status. */
import type { EpochEndReason } from './epoch-ends.ts'

export interface EpochWatermark {
  readonly epoch: string
  /** From 1, one more with each watermark of the epoch. */
  readonly round: number
  /** The last number of the log that it covers. */
  readonly through: number
  /** Every write acknowledged before this moment of `now` is covered. */
  readonly sentAtMs: number
}

export interface InstanceState {
  readonly address: string
  /** The process that answers there; undefined until a canary has come back. */
  readonly instanceId: string | undefined
  /** Since the latest canary that came back was sent. */
  readonly lastCanaryAgeMs: number | undefined
}

export interface EndState {
  readonly reason: EpochEndReason
  readonly instance: string | undefined
  readonly agoMs: number
  readonly sentence: string
}

export interface EpochsState {
  readonly epoch: string | undefined
  /** Since the epoch began. */
  readonly ageMs: number | undefined
  readonly watermarkAgeMs: number | undefined
  readonly instances: readonly InstanceState[]
  readonly canaries: CanaryCounts
  /** Why the last epoch ended; a start counts as the end of what was before. */
  readonly lastEnd: EndState
  /** What has kept a new one from beginning since. */
  readonly setback: EndState | undefined
  /** How many epochs each reason has ended. */
  readonly ends: Readonly<Record<EpochEndReason, number>>
}

export interface CanaryCounts {
  readonly sent: number
  readonly returned: number
  /** Not back in time, or overtaken by a later one. */
  readonly lost: number
  /** Not taken by their instance, those that could not even be sent among them. */
  readonly refused: number
}
