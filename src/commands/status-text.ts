/** The report for a person, in the shape of `gitlab-rake geo:status` so that eyes and scripts find what they know. */
import type { StatusReport } from '../status/status-report.ts'
import { formatBytes, formatCount, formatDuration, formatNumber } from '../status/words.ts'

export type Line = readonly [label: string, value: string]

/** GitLab's: labels end in this column. */
const WIDTH = 44

export function statusText(report: StatusReport): string {
  const sections: readonly [heading: string, lines: readonly Line[]][] = [
    ['Geo Site Information', siteLines(report)],
    ['Replication Information', replicationLines(report)],
    ['Replication Status', repositoryLines(report)],
    ['Verification Status', verificationLines(report)],
    ['Serving', servingLines(report)],
  ]
  const blocks = [sectionsText(sections)]
  const unhealthy = report.health_messages.map((message) => `- ${message}`)
  if (unhealthy.length > 0) blocks.push(['Unhealthy:', ...unhealthy].join('\n'))
  blocks.push(stepText(report))
  return `${blocks.join('\n\n')}\n`
}

export function sectionsText(
  sections: readonly (readonly [heading: string, lines: readonly Line[]])[],
): string {
  const blocks = sections.map(([heading, lines]) =>
    [heading.padStart(WIDTH), '-'.repeat(WIDTH), ...lines.map(aligned)].join('\n'),
  )
  return blocks.join('\n\n')
}

function aligned([label, value]: Line): string {
  return `${`${label}: `.padStart(WIDTH)}${value}`
}

function siteLines({ site, health_status, version }: StatusReport): Line[] {
  return [
    ['Name', site.name],
    ['URL', site.url ?? 'unknown'],
    ['Primary', site.primary],
    ['Geo Role', 'Secondary'],
    ['Health Status', health_status],
    ["This Site's geo-registry Version", version],
  ]
}

function replicationLines(report: StatusReport): Line[] {
  const { queue, paused } = report
  const lag = report.lag_seconds
  return [
    ['Sync Settings', report.selective_sync_type === null ? 'Full' : 'Selective'],
    ['Replication lag', lag === null ? 'unknown' : formatCount(Math.ceil(lag), 'second')],
    ['Last event ID seen from primary', eventText(report.last_event_id, report.last_event_timestamp, report)],
    [
      'Last event ID processed',
      eventText(report.cursor_last_event_id, report.cursor_last_event_timestamp, report),
    ],
    ['Events pending', numberText(report.events_pending)],
    [
      'Jobs',
      queue === null
        ? 'unknown'
        : `${paused ? 'paused, ' : ''}${formatNumber(queue.running)} running, ${formatNumber(queue.waiting)} waiting`,
    ],
    ['Last reconciliation', reconcileText(report)],
    ['Brake', brakeText(report)],
    ...relayLines(report),
    ['Last status report was', ago(report.last_successful_status_check_timestamp, report)],
  ]
}

function relayLines({ relay }: StatusReport): Line[] {
  if (!relay) return []
  const { connected, behind, watermark_age_seconds: age, note, last_gap, last_error } = relay
  const watermark = age === null ? 'no watermark' : `watermark ${formatDuration(age * 1000)} old`
  const how = `followed, ${behind === null ? 'how far is unknown' : `${formatCount(behind, 'event')} behind`}`
  return [
    ['Relay', `${connected && last_error === null ? how : 'not followed'}, ${watermark}`],
    ...(last_error === null ? [] : [['Relay error', last_error] as const]),
    ...(note === null ? [] : [['Relay says', note] as const]),
    ...(last_gap === null ? [] : [['Relay missed', last_gap] as const]),
  ]
}

function repositoryLines(report: StatusReport): Line[] {
  const { blobs_outstanding: blobs, bytes_outstanding: bytes } = report
  return [
    [
      'Container Repositories replicated',
      shareText(
        report.container_repositories_failed_count,
        report.container_repositories_synced_count,
        report.container_repositories_registry_count,
      ),
    ],
    ['Tags', `${numberText(report.tags)}, ${numberText(report.failing_tags)} failing`],
    ['Repositories that need attention', numberText(report.needs_attention)],
    [
      'Outstanding',
      blobs === null || bytes === null ? 'unknown' : `${formatCount(blobs, 'blob')}, ${formatBytes(bytes)}`,
    ],
  ]
}

function verificationLines(report: StatusReport): Line[] {
  return [
    [
      'Container Repositories verified',
      shareText(
        report.container_repositories_verification_failed_count,
        report.container_repositories_verified_count,
        report.container_repositories_verification_total_count,
      ),
    ],
  ]
}

function servingLines({ reads, bytes_saved, started_at, store, breaker_open }: StatusReport): Line[] {
  const sources = Object.entries(reads).map(([source, count]) => `${source} ${formatNumber(count)}`)
  return [
    ['Reads', `${sources.join(', ')} (since ${started_at})`],
    ['Bytes saved', formatBytes(bytes_saved)],
    [
      'Store',
      store === null
        ? 'unknown'
        : `${store.bytes === null ? '' : `${formatBytes(store.bytes)}, `}${formatBytes(store.free_bytes)} free of ${formatBytes(store.total_bytes)}`,
    ],
    ['Primary answers', breaker_open ? 'no: held tags are served as last confirmed' : 'yes'],
  ]
}

/** The last line, what the exit status says. */
function stepText(report: StatusReport): string {
  if (report.in_step) {
    const { inventory_timestamp: asOf } = report
    return `In step with the primary${asOf === null ? '' : ` as of ${new Date(asOf * 1000).toISOString()}`}.`
  }
  const lacking: [number | null, string][] = [
    [
      difference(report.container_repositories_registry_count, report.container_repositories_synced_count),
      'repositories not synced',
    ],
    [
      difference(
        report.container_repositories_verification_total_count,
        report.container_repositories_verified_count,
      ),
      'repositories not verified',
    ],
    [report.failing_tags, 'tags failing'],
    [report.checksum_mismatches, 'repositories with another checksum'],
    [report.events_pending, 'events pending'],
  ]
  const words = lacking.flatMap(([count, what]) => (count ? [`${formatNumber(count)} ${what}`] : []))
  if (report.reconcile?.last_pass_timestamp === null) words.push('never compared with the primary as a whole')
  return `Not in step with the primary: ${words.join(', ') || 'how far is unknown'}.`
}

function reconcileText({ reconcile, ...report }: StatusReport): string {
  if (reconcile === null) return 'unknown'
  const { last_pass_timestamp: last, achieved_period_seconds: achieved, setting_seconds } = reconcile
  const period =
    achieved === null
      ? ''
      : `, the oldest comparison ${formatDuration(achieved * 1000)} (of ${formatDuration(setting_seconds * 1000)})`
  return `${last === null ? 'none yet' : ago(last, report)}${period}`
}

function brakeText({ brake, ...report }: StatusReport): string {
  if (brake === null) return 'unknown'
  if (brake.tripped_timestamp === null) return 'released'
  const { repositories, tags } = brake
  return `tripped ${ago(brake.tripped_timestamp, report)}: ${formatCount(repositories, 'repository', 'repositories')}, ${formatCount(tags, 'tag')} waiting`
}

function eventText(id: number | null, timestamp: number | null, report: StatusReport): string {
  if (id === null) return 'unknown'
  // As Geo prints it: without separators, to be searched for.
  return timestamp === null ? String(id) : `${id} (${ago(timestamp, report)})`
}

/** By the clock that wrote the report, which may be another machine's. */
function ago(timestamp: number, { updated_at }: { readonly updated_at: string }): string {
  const ageMs = Date.parse(updated_at) - timestamp * 1000
  return ageMs < 1000 ? 'just now' : `${formatDuration(ageMs)} ago`
}

/** `failed 1 / succeeded 4 / total 5 (80%)`; the share rounded down, so that 100 means all. */
function shareText(failed: number | null, succeeded: number | null, total: number | null): string {
  if (failed === null || succeeded === null || total === null) return 'unknown'
  const share = total === 0 ? 0 : Math.floor((succeeded / total) * 100)
  return `${failed > 0 ? `failed ${failed} / ` : ''}succeeded ${succeeded} / total ${total} (${share}%)`
}

function numberText(value: number | null): string {
  return value === null ? 'unknown' : formatNumber(value)
}

function difference(whole: number | null, part: number | null): number | null {
  return whole === null || part === null ? null : whole - part
}
