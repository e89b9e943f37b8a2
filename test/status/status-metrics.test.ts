/** The gauges as a scrape sees them. */
import { Registry } from 'prom-client'
import { beforeEach, describe, expect, it } from 'vitest'
import { registerStatusMetrics } from '../../src/status/status-metrics.ts'
import type { Counts } from '../../src/tracking/tracking.ts'
import { COUNTS, NOW_MS } from './fake-control.ts'

describe('status metrics', () => {
  let registry: Registry
  let counts: () => Promise<Counts>
  let questions: number
  beforeEach(() => {
    registry = new Registry()
    questions = 0
    counts = async () => ({
      ...COUNTS,
      total: 5,
      byState: { pending: 1, started: 0, synced: 3, failed: 1 },
      byVerificationState: { pending: 0, started: 0, succeeded: 2, failed: 1, disabled: 1 },
      eventsPending: 4,
      oldestEventAtMs: NOW_MS - 2500,
    })
    const asked = () => {
      questions++
      return counts()
    }
    const options = { siteName: 'tokyo', now: () => NOW_MS, deadlineMs: 50 }
    registerStatusMetrics({ registry, counts: asked }, options)
  })
  const samples = async () => (await registry.metrics()).split('\n').filter((line) => /^geo_/.test(line))

  it("gives Geo's gauges with Geo's labels, and ours", async () => {
    expect(await samples()).toEqual([
      'geo_container_repositories{name="tokyo",url="tokyo"} 5',
      'geo_container_repositories_registry{name="tokyo",url="tokyo"} 5',
      'geo_container_repositories_synced{name="tokyo",url="tokyo"} 3',
      'geo_container_repositories_failed{name="tokyo",url="tokyo"} 1',
      'geo_container_repositories_verification_total{name="tokyo",url="tokyo"} 4',
      'geo_container_repositories_verified{name="tokyo",url="tokyo"} 2',
      'geo_container_repositories_verification_failed{name="tokyo",url="tokyo"} 1',
      'geo_last_event_id{name="tokyo",url="tokyo"} 12345',
      'geo_cursor_last_event_id{name="tokyo",url="tokyo"} 12345',
      'geo_registry_replication_lag_seconds 2.5',
      'geo_registry_events_pending 4',
    ])
  })

  it('asks the database once a scrape, and anew for the next', async () => {
    await samples()
    expect(questions).toBe(1)

    counts = async () => ({ ...COUNTS, eventsPending: 7 })
    expect(await samples()).toContain('geo_registry_events_pending 7')
    expect(questions).toBe(2)
  })

  it.each([
    ['is away', () => Promise.reject(new Error('away'))],
    ['hangs', () => new Promise<never>(() => {})],
  ])('shows no old number while the database %s, and the numbers again afterwards', async (_, failing) => {
    const before = await samples()
    const answering = counts
    counts = failing

    expect(await samples()).toEqual([])

    counts = answering
    expect(await samples()).toEqual(before)
  })
})
