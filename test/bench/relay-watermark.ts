/**
 * What pulls by tag cost the primary while a watermark covers them, and how old the watermark gets: a registry of two
 * processes, a relay and a site, all on this machine.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { isCanary, isPing, pulledUnasked, requestsDuring } from '../e2e/relayed-requests.ts'
import { type FollowingSite, pushNew, startRelayedSites } from '../e2e/relayed-site.ts'
import { median, percentile } from './measure.ts'
import { absolute, information, milliseconds, type Row } from './report.ts'

const REPOSITORY = 'bench/app'
const TAG = 'latest'
const PULLS = 1000
const FOR_MS = 60_000
const SAMPLE_EVERY_MS = 100
const AGE_BOUND_MS = 2000
const AGE = /^geo_registry_watermark_age_seconds (\S+)$/m

export async function measureRelayWatermark(): Promise<Row[]> {
  await using all = await startRelayedSites({
    repositories: [REPOSITORY],
    sites: ['tokyo'],
    line: 'direct',
    config: { tags: { maxstaleness: '10s' } },
  })
  const [site] = all.sites
  if (!site) throw new Error('expected a site')
  const digest = await pushNew(all.there, REPOSITORY, TAG, 1)
  await all.covered()
  await pulledUnasked(all, [REPOSITORY, TAG], digest)

  const tookMs: number[] = []
  const agesMs: number[] = []
  const { lines, elapsedMs } = await requestsDuring(all.registries, async () => {
    await Promise.all([pullOften(site, digest, tookMs), sampleAges(site, agesMs)])
  })

  const others = lines.flat().filter((line) => !isCanary(line))
  const pings = others.filter(isPing).length
  const asked = others.length - pings
  const canaries = lines.map((own) => own.filter(isCanary).length)
  const canaryRate = Math.max(...canaries) / (elapsedMs / 1000)
  const p99 = percentile(agesMs, 0.99)
  return [
    absolute(
      `${PULLS} warm pulls by tag over ${FOR_MS / 1000} s with the watermark on: requests to the primary`,
      // The site sends as many without any pull.
      `${asked}; ${canaries.join(' and ')} canaries, ${pings} pings that keep its connection warm`,
      'none but canaries',
      asked === 0,
    ),
    absolute(
      'canaries to each process of the registry',
      `${canaryRate.toFixed(2)}/s`,
      '≤ 1/s',
      // To the digits that are shown: both ends of the time are looked for 50 times a second.
      Number(canaryRate.toFixed(2)) <= 1,
    ),
    absolute(
      `watermark age at the site, loopback, ${agesMs.length} samples`,
      `p99 ${milliseconds(p99)}, median ${milliseconds(median(agesMs))}, longest ${milliseconds(Math.max(...agesMs))}`,
      'p99 < 2 s',
      p99 < AGE_BOUND_MS,
    ),
    information(
      'warm pull by tag with the watermark on, loopback',
      `median ${milliseconds(median(tookMs))}, p99 ${milliseconds(percentile(tookMs, 0.99))}`,
    ),
  ]
}

async function pullOften(site: FollowingSite, digest: string, tookMs: number[]): Promise<void> {
  const beganAtMs = performance.now()
  for (let pull = 0; pull < PULLS; pull++) {
    const startedAtMs = performance.now()
    const found = await site.pull(REPOSITORY, TAG)
    tookMs.push(performance.now() - startedAtMs)
    if (found !== digest) throw new Error(`a pull gave ${found}, not ${digest}`)
    await delay(Math.max(0, beganAtMs + ((pull + 1) * FOR_MS) / PULLS - performance.now()))
  }
}

async function sampleAges(site: FollowingSite, agesMs: number[]): Promise<void> {
  const beganAtMs = performance.now()
  for (let sample = 1; performance.now() - beganAtMs < FOR_MS; sample++) {
    const [, seconds] = AGE.exec(await site.process.metrics()) ?? []
    // No watermark is one that is too old to be told.
    agesMs.push(seconds === undefined ? Number.POSITIVE_INFINITY : Number(seconds) * 1000)
    await delay(Math.max(0, beganAtMs + sample * SAMPLE_EVERY_MS - performance.now()))
  }
}
