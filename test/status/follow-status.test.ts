/** How a site tells of the relay that it follows: in its report, its health, its metrics and to a person. */
import { Registry } from 'prom-client'
import { describe, expect, it } from 'vitest'
import { statusText } from '../../src/commands/status-text.ts'
import type { FollowState } from '../../src/status/follow-status.ts'
import { registerStatusMetrics } from '../../src/status/status-metrics.ts'
import { COUNTS, NOW_MS, reportOf } from './fake-control.ts'

const FOLLOWING: FollowState = {
  url: 'https://relay.example.com',
  connected: true,
  awayMs: undefined,
  cursor: 12_345,
  behind: 0,
  epochAgeMs: 90_000,
  watermarkAgeMs: 840,
  note: undefined,
  lastGap: undefined,
  lastError: undefined,
}
const ERROR = 'the relay cannot be reached (ECONNREFUSED). It is asked again by itself.'
const reportFor = (state: Partial<FollowState>) =>
  reportOf({ relay: async () => ({ ...FOLLOWING, ...state }) })()
const linesFor = async (state: Partial<FollowState>) =>
  statusText(await reportFor(state))
    .split('\n')
    .filter((line) => /^ +Relay/.test(line))
    .map((line) => line.trim())

describe('a followed relay', () => {
  it('is in the report with how far its log was read, and how old the watermark is', async () => {
    expect(await reportFor({})).toMatchObject({
      healthy: true,
      relay: {
        url: 'https://relay.example.com',
        connected: true,
        cursor: 12_345,
        behind: 0,
        epoch_age_seconds: 90,
        watermark_age_seconds: 0.84,
        note: null,
        last_gap: null,
        last_error: null,
      },
    })
  })

  it('is null in the report of a site that follows none, and nothing is said of one', async () => {
    const report = await reportOf()()
    expect(report.relay).toBeNull()
    expect(statusText(report)).not.toContain('Relay')
  })

  it('makes the site unhealthy when it has been away for more than a minute, not for a broken line', async () => {
    const away = { connected: false, lastError: ERROR }
    expect(await reportFor({ ...away, awayMs: 59_000 })).toMatchObject({ healthy: true })
    const told = `The relay's log is not followed; pulls go on, and ask the primary for tags: ${ERROR}`
    expect((await reportFor({ ...away, awayMs: 61_000 })).health_messages).toEqual([told])
    expect((await reportFor({ ...away, awayMs: undefined })).health_messages).toEqual([told])
    expect((await reportFor({ lastError: ERROR })).health_messages).toEqual([told])
  })

  it('leaves the rest of the report alone when nobody can tell how it stands', async () => {
    const report = await reportOf({ relay: () => Promise.reject(new Error('what?')) })()
    expect(report).toMatchObject({ relay: null, in_step: true })
    expect(report.health_messages).toEqual(['How the relay is followed cannot be told (what?). See the log.'])
  })

  it('is one line for a person, and a sentence for each thing that is wrong', async () => {
    expect(await linesFor({})).toEqual(['Relay: followed, 0 events behind, watermark 840 ms old'])
    expect(
      await linesFor({
        behind: 1,
        watermarkAgeMs: undefined,
        note: 'A canary is missing.',
        lastGap: 'It was away.',
      }),
    ).toEqual([
      'Relay: followed, 1 event behind, no watermark',
      'Relay says: A canary is missing.',
      'Relay missed: It was away.',
    ])
    expect(await linesFor({ connected: false, lastError: ERROR, watermarkAgeMs: 65_000 })).toEqual([
      'Relay: not followed, watermark 1 min 5 s old',
      `Relay error: ${ERROR}`,
    ])
  })
})

describe("the watermark's age as a metric", () => {
  const sampleOf = async (watermark?: () => Promise<{ readonly ageMs: number } | undefined>) => {
    const registry = new Registry()
    registerStatusMetrics(
      { registry, counts: async () => COUNTS, watermark },
      { siteName: 'tokyo', now: () => NOW_MS, deadlineMs: 50 },
    )
    return (await registry.metrics()).split('\n').filter((line) => line.startsWith('geo_registry_watermark'))
  }

  it('is told while there is one, and has no sample while there is none', async () => {
    expect(await sampleOf(async () => ({ ageMs: 1_250 }))).toEqual([
      'geo_registry_watermark_age_seconds 1.25',
    ])
    expect(await sampleOf(async () => undefined)).toEqual([])
    expect(await sampleOf(() => new Promise(() => {}))).toEqual([])
    expect(await sampleOf()).toEqual([])
  })
})
