/** A relay's report for a person, in the shape of a site's. */
import type { RelayReport } from '../status/relay-report.ts'
import { formatBytes, formatCount, formatDuration, formatNumber } from '../status/words.ts'
import { type Line, sectionsText } from './status-text.ts'

export function relayText(report: RelayReport): string {
  const blocks = [
    sectionsText([
      ['Relay Information', relayLines(report)],
      ['Proof of Completeness', proofLines(report)],
      ['Instances', instanceLines(report)],
      ['Sites', siteLines(report)],
    ]),
  ]
  const unhealthy = report.health_messages.map((message) => `- ${message}`)
  if (unhealthy.length > 0) blocks.push(['Unhealthy:', ...unhealthy].join('\n'))
  return `${blocks.join('\n\n')}\n`
}

function relayLines({ site, healthy, version, log, started_at }: RelayReport): Line[] {
  return [
    ['Name', site.name],
    ['Primary', site.primary],
    ['Geo Role', 'Relay'],
    ['Health Status', healthy ? 'Healthy' : 'Unhealthy'],
    ["This Relay's geo-registry Version", version],
    // Without separators, to be searched for.
    ['Log', `${log.first} to ${log.last}, ${formatBytes(log.bytes)}`],
    ['Events taken', `${formatNumber(log.events)} (since ${started_at})`],
  ]
}

function proofLines(report: RelayReport): Line[] {
  const { epoch, watermark_age_seconds: age, canaries, instances_named } = report
  if (!instances_named) return [['Epoch', 'none: relay.instances is not set, so sites ask the primary']]
  return [
    ['Epoch', epoch === null ? 'none' : `for ${duration(epoch.age_seconds)}`],
    ['Watermark', age === null ? 'none' : `${duration(age)} old`],
    [
      'Canaries',
      `${formatNumber(canaries.sent)} sent, ${formatNumber(canaries.returned)} returned, ${formatNumber(canaries.lost)} lost, ${formatNumber(canaries.refused)} refused`,
    ],
    ['Last end of an epoch', endText(report.last_end)],
    ...(report.setback === null ? [] : [['And since', endText(report.setback)] as const]),
  ]
}

function endText(end: RelayReport['last_end']): string {
  return end === null ? 'none' : `${duration(end.seconds_ago)} ago: ${end.sentence}`
}

function instanceLines({ instances, instances_named }: RelayReport): Line[] {
  if (instances.length === 0)
    return [['None', instances_named ? 'no name could be resolved yet' : 'not named']]
  return instances.map(({ address, instance_id: id, last_canary_age_seconds: age }) => [
    address,
    id === null || age === null ? 'no canary has come back' : `canary ${duration(age)} ago, process ${id}`,
  ])
}

function siteLines({ sites }: RelayReport): Line[] {
  return sites.map(({ name, connected, through, behind, lag_seconds: lag, last_seen_seconds_ago: seen }) => {
    if (seen === null) return [name, 'never connected']
    const where = connected ? 'connected' : `last seen ${duration(seen)} ago`
    if (through === null || behind === null || lag === null)
      return [name, `${where}, place in the log unknown`]
    const lagging =
      behind === 0 ? 'in step' : `${formatCount(behind, 'event')} behind, the oldest ${duration(lag)} old`
    return [name, `${where}, read up to ${through}, ${lagging}`]
  })
}

function duration(seconds: number): string {
  return formatDuration(seconds * 1000)
}
