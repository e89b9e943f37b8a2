/** A replicator that only remembers what it was asked to do, with two repositories and whatever a test overrides. */
import { type Digest, parseDigest } from '../../src/oci/digest.ts'
import { parseRepositoryName, parseTag, type RepositoryName, type Tag } from '../../src/oci/reference.ts'
import type { ReplicationControl } from '../../src/status/replication-control.ts'
import { createReport, type ReportDeps } from '../../src/status/report.ts'
import type { Counts, TrackedRepository } from '../../src/tracking/tracking.ts'

export const NOW_MS = Date.parse('2026-11-22T06:00:00Z')
const MINUTE_MS = 60_000

export const name = (text: string): RepositoryName => must(parseRepositoryName(text))
export const tag = (text: string): Tag => must(parseTag(text))
export const digest = (letter: string): Digest => must(parseDigest(`sha256:${letter.repeat(64)}`))

function must<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('the test is wrong: not in the grammar')
  return value
}

export const COUNTS: Counts = {
  total: 2,
  byState: { pending: 0, started: 0, synced: 2, failed: 0 },
  byVerificationState: { pending: 0, started: 0, succeeded: 2, failed: 0, disabled: 0 },
  needsAttention: 0,
  checksumMismatch: 0,
  failingTags: 0,
  tags: 30,
  blobsOutstanding: 0,
  bytesOutstanding: 0,
  eventsPending: 0,
  oldestEventAtMs: undefined,
  lastEventSequence: 12_345,
  lastAppliedSequence: 12_345,
  lastEventAtMs: NOW_MS - 2 * MINUTE_MS,
  lastAppliedEventAtMs: NOW_MS - 2 * MINUTE_MS,
  oldestInventoryAtMs: NOW_MS - 60 * MINUTE_MS,
}

export const HEALTHY: ReportDeps = {
  counts: async () => COUNTS,
  brake: async () => ({ trippedAtMs: undefined, repositories: 0, tags: 0, examples: [] }),
  queue: async () => ({ waiting: 0, running: 1, paused: false }),
  reconcile: () => ({
    lastPassAtMs: NOW_MS - 30 * MINUTE_MS,
    achievedPeriodMs: 20 * 60 * MINUTE_MS,
    settingMs: 24 * 60 * MINUTE_MS,
    error: undefined,
  }),
  store: async () => ({
    bytes: 10 * 2 ** 30,
    freeBytes: 2 ** 40,
    totalBytes: 2 ** 41,
    minFreeFraction: 0.05,
  }),
  traffic: async () => ({
    reads: { local: 9000, fill: 5, primary: 4, stale: 1 },
    bytesFromHere: 3 * 2 ** 30,
  }),
  breakerIsOpen: () => false,
}

export function reportOf(overrides: Partial<ReportDeps> = {}) {
  const site = { name: 'tokyo', url: 'https://registry.example.com', primary: 'https://primary.example.com' }
  const options = { site, version: '1.2.3', selective: false, now: () => NOW_MS, deadlineMs: 50 }
  return createReport({ ...HEALTHY, ...overrides }, options)
}

export const SYNCED: TrackedRepository = {
  id: 1,
  path: name('team/app'),
  state: 'synced',
  retryCount: 0,
  retryAtMs: undefined,
  lastSyncFailure: undefined,
  lastSyncedAtMs: NOW_MS,
  createdAtMs: NOW_MS - MINUTE_MS,
  needsAttention: false,
  missingOnPrimary: false,
  verificationState: 'succeeded',
  verifiedAtMs: NOW_MS,
  verificationFailure: undefined,
  verificationChecksum: 'ab12',
  verificationChecksumMismatched: undefined,
  checksumMismatch: false,
  tagsCount: 10,
  failingTagsCount: 0,
  blobsOutstanding: 0,
  bytesOutstanding: 0,
  inventoryAtMs: NOW_MS,
  activeAtMs: undefined,
  priority: 3,
}

export const FAILED: TrackedRepository = {
  ...SYNCED,
  id: 2,
  path: name('team/explain'),
  state: 'failed',
  retryCount: 11,
  retryAtMs: NOW_MS + MINUTE_MS,
  lastSyncFailure: 'v1: the primary has no such blob',
  needsAttention: true,
  failingTagsCount: 1,
}

export interface FakeControl extends ReplicationControl {
  /** What it was asked to change, in order. */
  readonly asked: unknown[][]
}

export function fakeControl(overrides: Partial<ReplicationControl> = {}): FakeControl {
  const asked: unknown[][] = []
  const remember =
    (what: string) =>
    async (...args: unknown[]): Promise<void> => {
      asked.push([what, ...args])
    }
  const count =
    (what: string) =>
    async (...args: unknown[]) => {
      asked.push([what, ...args])
      return typeof args[0] !== 'string' ? 2 : args[0] === SYNCED.path ? 1 : 0
    }
  const rows = [SYNCED, FAILED]
  return {
    asked,
    status: reportOf(),
    list: async (options) => {
      asked.push(['list', options])
      return rows.slice(0, options.limit)
    },
    find: async (path) => rows.find((row) => row.path === path),
    failingTags: async (path) =>
      path === FAILED.path
        ? [
            {
              tag: tag('v1'),
              digest: digest('a'),
              kind: 'absent',
              message: 'the primary has no such blob',
              sinceMs: NOW_MS,
            },
          ]
        : [],
    explain: async (repository, explained) => {
      asked.push(['explain', repository, explained])
      return {
        source: 'local',
        why: 'confirmed within tags.trust',
        digestHere: digest('a'),
        digestThere: undefined,
        sinceMs: NOW_MS,
        mode: 'replicate',
      }
    },
    resync: count('resync'),
    reverify: count('reverify'),
    pause: remember('pause'),
    resume: remember('resume'),
    brake: async () => ({ trippedAtMs: undefined, repositories: 0, tags: 0, examples: [] }),
    releaseBrake: remember('releaseBrake'),
    hidden: async function* () {
      yield* []
    },
    restore: async (id) => {
      asked.push(['restore', id])
      return id !== 'gone'
    },
    ahead: async () => ({ tags: 0 }),
    exportCheck: async () => ({ tags: 30, allRepositoriesAsked: true }),
    plan: async () => ({ repositories: 2 }),
    adopt: async (folder, { dryRun }) => {
      asked.push(['adopt', folder, { dryRun }])
      return { blobs: 5, bytesAdopted: 1536 }
    },
    rebuild: async ({ dryRun }) => {
      asked.push(['rebuild', { dryRun }])
      return { repositories: 2 }
    },
    ...overrides,
  }
}
