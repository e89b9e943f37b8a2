/** What the two sites say themselves: where answers came from, what was asked, and how old the relay's proof is. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { runCommand } from '../src/command.ts'
import type { StatusReport } from '../src/status/status-report.ts'
import type { GeoRegistry } from '../test/support/geo-registry.ts'

/** From the site's access log since `line`: how many answers came from where, pings and refusals left out. */
export function sources(site: GeoRegistry, line: number): string {
  const counts = new Map<string, number>()
  for (const { msg, source, uri, status } of site.lines.slice(line)) {
    if (msg !== 'access' || !/\/(manifests|blobs)\//.test(String(uri)) || status === 401) continue
    const key = Number(status) >= 500 ? String(status) : String(source)
    counts.set(key, (counts.get(key) ?? 0) + 1)
  }
  return [...counts].map(([source, count]) => `${source} ×${count}`).join(', ') || 'not asked'
}

/** How many requests it has sent to the primary, for clients and by itself. */
export async function requestsToPrimary(site: GeoRegistry): Promise<number> {
  const counts = (await site.metrics()).matchAll(/^geo_registry_upstream_requests_total\{[^}]*\} (\d+)/gm)
  return [...counts].reduce((sum, [, count]) => sum + Number(count), 0)
}

/** Read from the disk: asking the site would make it ask the primary. */
export async function tagIsHere(
  site: GeoRegistry,
  name: string,
  tag: string,
  digest: string,
): Promise<boolean> {
  const path = `docker/registry/v2/repositories/${name}/_manifests/tags/${tag}/current/link`
  return (await readFile(join(site.root, path), 'utf8').catch(() => '')) === digest
}

export async function isInStep(site: GeoRegistry): Promise<boolean> {
  return (await statusOf(site)).in_step
}

/** `watermark_age_seconds`: of what the relay proved last. Infinite while it has proved nothing. */
export async function proofAgeSeconds(site: GeoRegistry): Promise<number> {
  return (await statusOf(site)).relay?.watermark_age_seconds ?? Number.POSITIVE_INFINITY
}

async function statusOf(site: GeoRegistry): Promise<StatusReport> {
  return (await (await fetch(`${site.adminUrl}/status`)).json()) as StatusReport
}

/** The lines of `geo-registry status` with these labels. */
export async function statusLines(configFile: string, labels: RegExp): Promise<string[]> {
  let text = ''
  const out = (written: string) => {
    text += written
  }
  await runCommand(['status', '--config', configFile], { out, err: out })
  return text.split('\n').filter((line) => labels.test(line))
}
