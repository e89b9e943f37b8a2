/** The report from parts that say this or that, or nothing at all. */
import { describe, expect, it } from 'vitest'
import { createMetrics } from '../../src/metrics.ts'
import { readTraffic } from '../../src/status/traffic.ts'
import { COUNTS, HEALTHY, NOW_MS, name, reportOf } from './fake-control.ts'

const HOUR_MS = 3_600_000
const never = () => new Promise<never>(() => {})
const reconcile = await HEALTHY.reconcile()
const store = await HEALTHY.store()

describe('report', () => {
  it("has every field of GitLab's, with its type, and null for those of the primary", async () => {
    expect(await reportOf()()).toMatchObject({
      geo_node_id: null,
      healthy: true,
      health: 'Healthy',
      health_status: 'Healthy',
      missing_oauth_application: false,
      db_replication_lag_seconds: null,
      container_repositories_replication_enabled: true,
      container_repositories_count: 2,
      container_repositories_checksum_total_count: null,
      container_repositories_checksummed_count: null,
      container_repositories_checksum_failed_count: null,
      container_repositories_synced_count: 2,
      container_repositories_failed_count: 0,
      container_repositories_registry_count: 2,
      container_repositories_verification_total_count: 2,
      container_repositories_verified_count: 2,
      container_repositories_verification_failed_count: 0,
      container_repositories_synced_in_percentage: '100.00%',
      container_repositories_verified_in_percentage: '100.00%',
      last_event_id: 12_345,
      last_event_timestamp: NOW_MS / 1000 - 120,
      cursor_last_event_id: 12_345,
      cursor_last_event_timestamp: NOW_MS / 1000 - 120,
      last_successful_status_check_timestamp: NOW_MS / 1000,
      version: '1.2.3',
      revision: null,
      selective_sync_type: null,
      namespaces: [],
      updated_at: '2026-11-22T06:00:00.000Z',
      storage_shards_match: true,
      _links: { self: '/status' },
    })
  })

  it('says beside them what Geo does not', async () => {
    expect(await reportOf()()).toMatchObject({
      site: { name: 'tokyo', url: 'https://registry.example.com', primary: 'https://primary.example.com' },
      health_messages: [],
      in_step: true,
      inventory_timestamp: (NOW_MS - HOUR_MS) / 1000,
      lag_seconds: 0,
      events_pending: 0,
      paused: false,
      queue: { waiting: 0, running: 1 },
      reconcile: { achieved_period_seconds: 72_000, setting_seconds: 86_400, error: null },
      brake: { tripped: false, tripped_timestamp: null, repositories: 0, tags: 0, examples: [] },
      breaker_open: false,
      reads: { local: 9000, fill: 5, primary: 4, stale: 1 },
      bytes_saved: 3 * 2 ** 30,
      store: { bytes: 10 * 2 ** 30, free_bytes: 2 ** 40, total_bytes: 2 ** 41 },
    })
  })

  it.each([
    ['no event waits', undefined, 0],
    ['one came a minute and a half ago', NOW_MS - 90_500, 90.5],
    ['its time lies ahead of a clock that was set back', NOW_MS + 5000, 0],
  ])('tells the lag when %s', async (_, oldestEventAtMs, lag) => {
    const counts = async () => ({ ...COUNTS, oldestEventAtMs })

    expect(await reportOf({ counts })()).toMatchObject({ lag_seconds: lag })
  })

  it('tells when events came where the database keeps it', async () => {
    const counts = async () => ({ ...COUNTS, lastEventAtMs: NOW_MS - 1500, lastAppliedEventAtMs: 2500 })

    expect(await reportOf({ counts })()).toMatchObject({
      last_event_timestamp: NOW_MS / 1000 - 2,
      cursor_last_event_timestamp: 2,
    })
  })

  it.each([
    [0, 0, '0.00%'],
    [1, 3, '33.33%'],
    [2, 3, '66.66%'],
    [999_999, 1_000_000, '99.99%'],
    [1_000_000, 1_000_000, '100.00%'],
  ])('%d of %d is %s: never 100 % of what is not whole', async (synced, total, percentage) => {
    const byState = { ...COUNTS.byState, synced }
    const report = await reportOf({ counts: async () => ({ ...COUNTS, total, byState }) })()

    expect(report.container_repositories_synced_in_percentage).toBe(percentage)
  })

  it.each([
    ['a repository is not synced', { byState: { pending: 0, started: 1, synced: 1, failed: 0 } }],
    [
      'one is not verified',
      { byVerificationState: { ...COUNTS.byVerificationState, pending: 1, succeeded: 1 } },
    ],
    ['a tag fails', { failingTags: 1 }],
    ['a checksum differs', { checksumMismatch: 1 }],
    ['an event waits', { eventsPending: 1 }],
  ])('is not in step when %s', async (_, changed) => {
    const report = await reportOf({ counts: async () => ({ ...COUNTS, ...changed }) })()

    expect(report).toMatchObject({ in_step: false, healthy: true })
  })

  it('is in step when only what is not to be verified was not', async () => {
    const byVerificationState = { ...COUNTS.byVerificationState, disabled: 1, succeeded: 1 }
    const report = await reportOf({ counts: async () => ({ ...COUNTS, byVerificationState }) })()

    expect(report).toMatchObject({ in_step: true, container_repositories_verification_total_count: 1 })
  })

  it('is not in step, with nothing tracked at all, before it was compared with the primary once', async () => {
    const none = { pending: 0, started: 0, synced: 0, failed: 0 }
    const report = await reportOf({
      counts: async () => ({
        ...COUNTS,
        total: 0,
        byState: none,
        byVerificationState: { ...COUNTS.byVerificationState, succeeded: 0 },
      }),
      reconcile: () => ({ ...reconcile, lastPassAtMs: undefined }),
    })()

    expect(report).toMatchObject({ in_step: false, healthy: true })
    expect(report.container_repositories_synced_in_percentage).toBe('0.00%')
  })

  it.each([
    [
      'a tripped brake',
      {
        brake: async () => ({ trippedAtMs: 1, repositories: 120, tags: 1500, examples: [name('a')] }),
      },
      'The brake is tripped: the primary no longer lists 120 repositories and 1,500 tags that are here. If it is right, geo-registry brake --release lets them be hidden; if not, nothing is lost: mend the primary.',
    ],
    [
      'a repository that needs attention',
      { counts: async () => ({ ...COUNTS, needsAttention: 1 }) },
      '1 repository failed too often and is not tried again before something changes there: GET /repositories?needsattention=true says why; geo-registry resync --failed tries again.',
    ],
    [
      'a reconciliation slower than its setting',
      { reconcile: () => ({ ...reconcile, achievedPeriodMs: 30 * HOUR_MS }) },
      'The oldest comparison of a repository with the primary is 1 d 6 h old, more than replication.reconcile (1 d) allows. Raise replication.requests, or replication.reconcile.',
    ],
    [
      'a reconciliation that failed',
      { reconcile: () => ({ ...reconcile, error: 'the catalog was cut' }) },
      'The last reconciliation with the primary failed (the catalog was cut). It is tried again by itself.',
    ],
    [
      'a disk below storage.minfree',
      { store: async () => ({ ...store, freeBytes: 2 ** 30, totalBytes: 2 ** 40 }) },
      'Only 1.0 GiB of 1.0 TiB are free, less than storage.minfree: nothing new is kept. Make room, or run geo-registry gc.',
    ],
    [
      'a tracking database that is away',
      { counts: () => Promise.reject(new Error('ECONNREFUSED')) },
      'The tracking database cannot be asked (ECONNREFUSED). Pulls go on, replication does not: start it, or correct tracking.postgres.url.',
    ],
    [
      'a tracking database that is away at all its addresses',
      { counts: () => Promise.reject(Object.assign(new AggregateError([]), { code: 'ECONNREFUSED' })) },
      'The tracking database cannot be asked (ECONNREFUSED). Pulls go on, replication does not: start it, or correct tracking.postgres.url.',
    ],
    [
      'a queue that never answers',
      { queue: never },
      'The queue cannot be asked (no answer within 50 ms). Pulls go on, replication waits: start Redis, or correct redis.url.',
    ],
  ])('is unhealthy for %s, and says what to do', async (_, overrides, message) => {
    expect(await reportOf(overrides)()).toMatchObject({
      healthy: false,
      health_status: 'Unhealthy',
      health: message,
      health_messages: [message],
    })
  })

  it('is healthy at the very limits', async () => {
    const report = await reportOf({
      reconcile: () => ({ ...reconcile, achievedPeriodMs: reconcile.settingMs }),
      store: async () => ({ ...store, freeBytes: 5, totalBytes: 100, minFreeFraction: 0.05 }),
    })()

    expect(report.health).toBe('Healthy')
  })

  it('has nulls for what cannot be asked, never zeros, and still tells the rest', async () => {
    const gone = () => Promise.reject(new Error('gone'))
    const thrown = () => {
      throw new Error('thrown')
    }
    const report = await reportOf({
      counts: gone,
      brake: gone,
      queue: gone,
      reconcile: thrown,
      store: gone,
    })()

    expect(report).toMatchObject({
      container_repositories_synced_count: null,
      container_repositories_verified_count: null,
      container_repositories_synced_in_percentage: '0.00%',
      last_event_id: null,
      in_step: false,
      lag_seconds: null,
      events_pending: null,
      paused: null,
      queue: null,
      brake: null,
      reconcile: null,
      store: null,
      reads: { local: 9000 },
    })
    expect(report.health_messages).toHaveLength(5)
    expect(report.health).toContain('thrown')
  })
})

describe('traffic', () => {
  it('counts reads by source, and as saved what came from here', async () => {
    const metrics = createMetrics()
    metrics.reads.inc({ source: 'local' }, 7)
    metrics.reads.inc({ source: 'stale' })
    metrics.servedBytes.inc({ source: 'local' }, 100)
    metrics.servedBytes.inc({ source: 'stale' }, 20)
    metrics.servedBytes.inc({ source: 'fill' }, 3)

    expect(await readTraffic(metrics)).toEqual({
      reads: { local: 7, fill: 0, primary: 0, stale: 1 },
      bytesFromHere: 120,
    })
  })
})
