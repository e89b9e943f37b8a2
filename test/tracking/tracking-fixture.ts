/** What the tests of tracking say in few words. */
import { randomUUID } from 'node:crypto'
import type { RepositoryName } from '../../src/oci/reference.ts'
import type {
  FailedOutcome,
  FailingTag,
  InboxEvent,
  Lease,
  SyncedOutcome,
  TrackedRepository,
  Tracking,
} from '../../src/tracking/tracking.ts'
import { nameOf, tagOf } from '../store/store-fixture.ts'
import { until } from '../support/wait.ts'

export const HERE = 'a'.repeat(64)
export const THERE = 'b'.repeat(64)
export const LONG_MS = 3_600_000

/** One database, as one or several processes see it. */
export interface TrackingSubject extends AsyncDisposable {
  readonly tracking: Tracking
  /** What all of them take for the time; moved by hand. Leases on Postgres go by the server's clock instead. */
  readonly clock: { ms: number }
  /** As another process opens it; closed with the subject at the latest. */
  open(): Promise<Tracking>
}

export type MakeTracking = () => Promise<TrackingSubject>

export function pushOf(repository: string, changes: Partial<InboxEvent> = {}): InboxEvent {
  return {
    id: randomUUID(),
    action: 'push',
    repository: nameOf(repository),
    tag: tagOf('latest'),
    digest: undefined,
    renamedTo: undefined,
    receivedAtMs: 1000,
    ...changes,
  }
}

export function renameOf(from: string, to: string): InboxEvent {
  return pushOf(from, { action: 'rename', tag: undefined, renamedTo: nameOf(to) })
}

export function synced(changes: Partial<SyncedOutcome> = {}): SyncedOutcome {
  return {
    kind: 'synced',
    tagsCount: 2,
    inventoryAtMs: 5000,
    checksum: HERE,
    primaryChecksum: HERE,
    missingOnPrimary: false,
    ...changes,
  }
}

export function failed(changes: Partial<FailedOutcome> = {}): FailedOutcome {
  return {
    kind: 'failed',
    message: 'the primary answered 500',
    retryAtMs: 0,
    needsAttention: false,
    failingTags: [],
    blobsOutstanding: 0,
    bytesOutstanding: 0,
    ...changes,
  }
}

export function failingTag(tag: string, changes: Partial<FailingTag> = {}): FailingTag {
  return {
    tag: tagOf(tag),
    digest: undefined,
    kind: 'faulty',
    message: 'size mismatch',
    sinceMs: 10,
    ...changes,
  }
}

/** Throws when there is none to be had. */
export async function leased(tracking: Tracking, path: string, ttlMs = LONG_MS): Promise<Lease> {
  const lease = await tracking.lease(nameOf(path), ttlMs)
  if (!lease) throw new Error(`no lease of ${path}`)
  return lease
}

/** Of a job whose process is gone. */
export async function leasedAgain(tracking: Tracking, path: string): Promise<Lease> {
  return await until(() => tracking.lease(nameOf(path), LONG_MS), { what: `the lease of ${path} to end` })
}

/** Throws when there is no such row. */
export async function found(tracking: Tracking, path: string): Promise<TrackedRepository> {
  const row = await tracking.find(nameOf(path))
  if (!row) throw new Error(`${path} is not tracked`)
  return row
}

export async function syncedRow(tracking: Tracking, path: string, outcome = synced()): Promise<void> {
  await tracking.touch([nameOf(path)], { priority: 3 })
  await tracking.settle(await leased(tracking, path), outcome)
}

export async function failedRow(tracking: Tracking, path: string, outcome = failed()): Promise<void> {
  await tracking.touch([nameOf(path)], { priority: 3 })
  await tracking.settle(await leased(tracking, path), outcome)
}

export async function duePaths(tracking: Tracking, nowMs = Date.now()): Promise<RepositoryName[]> {
  return (await tracking.due(nowMs, 1000)).map(({ path }) => path)
}
