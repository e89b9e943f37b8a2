/** Whether all is well with replication, and for what is not: what it is and what to do, in a sentence or two. */
import type { Counts } from '../tracking/tracking.ts'
import type { AnswerOf } from './answer-of.ts'
import { type FollowState, unfollowedBecause } from './follow-status.ts'
import type { BrakeState } from './replication-control.ts'
import { formatBytes, formatCount, formatDuration } from './words.ts'

export interface ReconcileState {
  /** When the last pass over all repositories ended well; undefined: none did yet. */
  readonly lastPassAtMs: number | undefined
  /** Age of the oldest comparison of a repository with the primary; undefined while one was never compared. */
  readonly achievedPeriodMs: number | undefined
  /** `replication.reconcile`. */
  readonly settingMs: number
  /** Why the last pass did not end well. */
  readonly error: string | undefined
  /** It was this site's own credential. */
  readonly refused?: boolean | undefined
}

export interface StoreState {
  /** Undefined while it was not measured. */
  readonly bytes: number | undefined
  readonly freeBytes: number
  /** Of the filesystem. */
  readonly totalBytes: number
  /** `storage.minfree`, 0 to 1. */
  readonly minFreeFraction: number
}

export interface QueueState {
  readonly waiting: number
  readonly running: number
  readonly paused: boolean
}

export interface Answers {
  readonly counts: AnswerOf<Counts>
  readonly brake: AnswerOf<BrakeState>
  readonly queue: AnswerOf<QueueState>
  readonly reconcile: AnswerOf<ReconcileState>
  readonly store: AnswerOf<StoreState>
  readonly relay: AnswerOf<FollowState | undefined>
}

/** Empty: healthy. */
export function unhealthyBecause(answers: Answers): string[] {
  return [
    ...unanswered(answers),
    ...brakeTripped(answers.brake.value),
    ...needsAttention(answers.counts.value),
    ...reconcilesTooSlowly(answers.reconcile.value),
    ...lacksRoom(answers.store.value),
    ...unfollowedBecause(answers.relay.value),
  ]
}

function unanswered({ counts, brake, queue, reconcile, store, relay }: Answers): string[] {
  const sentences: [AnswerOf<unknown>, (failure: string) => string][] = [
    [
      counts,
      (failure) =>
        `The tracking database cannot be asked (${failure}). Pulls go on, replication does not: start it, or correct tracking.postgres.url.`,
    ],
    [
      queue,
      (failure) =>
        `The queue cannot be asked (${failure}). Pulls go on, replication waits: start Redis, or correct redis.url.`,
    ],
    [brake, (failure) => `Whether the brake is tripped cannot be told (${failure}). See the log.`],
    [reconcile, (failure) => `How reconciliation stands cannot be told (${failure}). See the log.`],
    [relay, (failure) => `How the relay is followed cannot be told (${failure}). See the log.`],
    [
      store,
      (failure) =>
        `The room left in the store cannot be told (${failure}). Look at storage.filesystem.rootdirectory.`,
    ],
  ]
  return sentences.flatMap(([{ failure }, say]) => (failure === undefined ? [] : [say(failure)]))
}

function brakeTripped(brake: BrakeState | undefined): string[] {
  if (brake?.trippedAtMs === undefined) return []
  const gone = `${formatCount(brake.repositories, 'repository', 'repositories')} and ${formatCount(brake.tags, 'tag')}`
  return [
    `The brake is tripped: the primary no longer lists ${gone} that are here. If it is right, geo-registry brake --release lets them be hidden; if not, nothing is lost: mend the primary.`,
  ]
}

function needsAttention(counts: Counts | undefined): string[] {
  if (!counts || counts.needsAttention === 0) return []
  const many = counts.needsAttention > 1
  return [
    `${formatCount(counts.needsAttention, 'repository', 'repositories')} failed too often and ${many ? 'are' : 'is'} not tried again before something changes there: GET /repositories?needsattention=true says why; geo-registry resync --failed tries again.`,
  ]
}

function reconcilesTooSlowly(reconcile: ReconcileState | undefined): string[] {
  if (!reconcile) return []
  const { achievedPeriodMs = 0, settingMs, error, refused = false } = reconcile
  return [
    ...(error === undefined
      ? []
      : [
          refused
            ? `The primary does not let this site list its repositories (${error}). Nothing is removed meanwhile, and pulls go on: correct upstream.auth, or give its account the right to read the catalog and to pull.`
            : `The last reconciliation with the primary failed (${error}). It is tried again by itself.`,
        ]),
    ...(achievedPeriodMs <= settingMs
      ? []
      : [
          `The oldest comparison of a repository with the primary is ${formatDuration(achievedPeriodMs)} old, more than replication.reconcile (${formatDuration(settingMs)}) allows. Raise replication.requests, or replication.reconcile.`,
        ]),
  ]
}

function lacksRoom(store: StoreState | undefined): string[] {
  if (!store || store.freeBytes >= store.totalBytes * store.minFreeFraction) return []
  return [
    `Only ${formatBytes(store.freeBytes)} of ${formatBytes(store.totalBytes)} are free, less than storage.minfree: nothing new is kept. Make room, or run geo-registry gc.`,
  ]
}
