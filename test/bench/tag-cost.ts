/** For information: what a warm pull by tag costs when every one is confirmed (`tags.trust: 0s`, the default). */
import type { GeoRegistry } from '../support/geo-registry.ts'
import { startLink } from '../support/link.ts'
import { median, takeTurns } from './measure.ts'
import { readLast } from './readers.ts'
import { information, milliseconds, type Row } from './report.ts'
import { getManifest, LONG_LINE, type Scene } from './scene.ts'

const ROUNDS = 10

export async function measureTagCost(scene: Scene): Promise<Row[]> {
  await using link = await startLink({ target: scene.primary.url, ...LONG_LINE })
  await using site = await scene.startSite({ primary: link.url })
  const pullTwice = async (url: string) =>
    (await readLast(url, [getManifest(scene), getManifest(scene)])).firstByteMs
  for (const url of [site.url, link.url]) await pullTwice(url)
  const before = await upstreamRequests(site)
  const times = await takeTurns(ROUNDS, {
    site: () => pullTwice(site.url),
    direct: () => pullTwice(link.url),
  })
  const perPull = ((await upstreamRequests(site)) - before) / (2 * ROUNDS)
  const against = `direct ${milliseconds(median(times.direct))}`
  return [
    information(
      'warm pull by tag with `tags.trust: 0s`, 20 ms each way: first byte',
      milliseconds(median(times.site)),
      against,
    ),
    information('warm pull by tag with `tags.trust: 0s`: requests to the primary', perPull.toFixed(2)),
  ]
}

/** By the site's own count. */
async function upstreamRequests(site: GeoRegistry): Promise<number> {
  const counts = (await site.metrics()).matchAll(/^geo_registry_upstream_requests_total\{.*\} (\d+)$/gm)
  return [...counts].reduce((sum, [, count]) => sum + Number(count), 0)
}
