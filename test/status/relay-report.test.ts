import { Registry } from 'prom-client'
import { describe, expect, it } from 'vitest'
import { createRelayCounters, registerRelayMetrics } from '../../src/status/relay-metrics.ts'
import { createRelayReport } from '../../src/status/relay-report.ts'
import { EPOCHS, type FakeRelay, fakeRelay, TOKYO } from './fake-relay.ts'

const reportOf = (given: FakeRelay = {}) =>
  createRelayReport(fakeRelay(given), {
    name: 'relay',
    primary: 'https://primary.example.com',
    version: '1.2.3',
    now: () => Date.UTC(2026, 10, 22),
  })()

describe("a relay's report", () => {
  it('is healthy while completeness is proved and every site reads along', () => {
    expect(reportOf()).toMatchObject({
      role: 'relay',
      healthy: true,
      health_messages: [],
      log: { first: 1000, last: 12_345, events: 4321 },
      epoch: { id: 'e1', age_seconds: 3600 },
      watermark_age_seconds: 0.64,
      note: null,
      last_end: { reason: 'relay-started', instance: null, seconds_ago: 3605 },
      setback: null,
      instances_named: true,
      sites: [{ name: 'tokyo', behind: 0, lag_seconds: 0, last_seen_seconds_ago: 0.8 }],
      updated_at: '2026-11-22T00:00:00.000Z',
    })
  })

  it('is unhealthy without an epoch, and says why there is none', () => {
    const epochs = { ...EPOCHS, epoch: undefined, ageMs: undefined, watermarkAgeMs: undefined }
    const report = reportOf({ epochs, note: 'A canary is missing; check this registry.' })

    expect(report).toMatchObject({ healthy: false, epoch: null, watermark_age_seconds: null })
    expect(report.health_messages).toEqual([
      'Completeness is not proved, so sites ask the primary at each pull by tag. A canary is missing; check this registry.',
    ])
  })

  it('misses no epoch where no instances are named', () => {
    const report = reportOf({ epochs: undefined, note: 'No watermark: relay.instances is not set.' })

    expect(report).toMatchObject({ healthy: true, instances_named: false, epoch: null, instances: [] })
    expect(report.note).toBe('No watermark: relay.instances is not set.')
  })

  it.each([
    [
      { lastSeenMs: undefined, through: undefined, behind: undefined, lagMs: undefined, connected: false },
      /^tokyo has not asked for the log since the relay was started: see that it runs with relay\.url/,
    ],
    [{ lastSeenMs: 300_000, connected: false }, /^tokyo has not asked for the log for 5 min: see that/],
    [{ behind: 1200, lagMs: 61_000 }, /^tokyo is 1,200 events behind, the oldest 1 min 1 s old:/],
  ])('names a site that does not keep up (%#)', (change, sentence) => {
    const report = reportOf({
      sites: [
        { ...TOKYO, name: 'lima' },
        { ...TOKYO, ...change },
      ],
    })

    expect(report.healthy).toBe(false)
    expect(report.health_messages).toHaveLength(1)
    expect(report.health_messages[0]).toMatch(sentence)
  })

  it.each([
    { behind: 3, lagMs: 59_000 },
    { lastSeenMs: 45_000, connected: false },
    { through: undefined, behind: undefined, lagMs: undefined },
  ])('is patient with a site for a minute (%#)', (change) => {
    expect(reportOf({ sites: [{ ...TOKYO, ...change }] }).healthy).toBe(true)
  })
})

describe("a relay's metrics", () => {
  async function scraped(given: FakeRelay = {}): Promise<string> {
    const registry = new Registry()
    createRelayCounters(registry).events.inc(7)
    registerRelayMetrics(registry, fakeRelay(given))
    await registry.metrics()
    // The second scrape must count nothing twice.
    return await registry.metrics()
  }

  it('has every number of the report', async () => {
    const text = await scraped({ sites: [TOKYO, { ...TOKYO, name: 'lima', lagMs: 2500, behind: 3 }] })

    for (const sample of [
      'geo_registry_relay_events_total 7',
      'geo_registry_relay_log_last_number 12345',
      'geo_registry_relay_site_lag_seconds{site="tokyo"} 0',
      'geo_registry_relay_site_lag_seconds{site="lima"} 2.5',
      'geo_registry_relay_epoch_age_seconds 3600',
      'geo_registry_relay_epochs_ended_total{reason="relay-started"} 1',
      'geo_registry_relay_epochs_ended_total{reason="canary-missing"} 0',
      'geo_registry_relay_canaries_total{result="returned"} 3604',
      'geo_registry_relay_canaries_total{result="lost"} 1',
      'geo_registry_relay_watermark_age_seconds 0.64',
    ]) {
      expect(text.split('\n')).toContain(sample)
    }
  })

  it('has no sample where there is nothing to tell, rather than a zero', async () => {
    const never = { ...TOKYO, through: undefined, behind: undefined, lagMs: undefined, lastSeenMs: undefined }
    const text = await scraped({
      epochs: { ...EPOCHS, epoch: undefined, ageMs: undefined, watermarkAgeMs: undefined },
      sites: [never],
    })

    expect(text).not.toMatch(/^geo_registry_relay_(epoch_age|watermark_age|site_lag|site_last_seen)_seconds/m)
    expect(await scraped({ epochs: undefined })).not.toMatch(/^geo_registry_relay_(canaries|epochs)/m)
  })
})
