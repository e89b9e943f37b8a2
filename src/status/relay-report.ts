/**
 * What `GET /status` of a relay answers: whether completeness is proved, by which instances, what it was that ended the
 * last proof, and how far each site has read. Timestamps are ISO 8601, ages seconds.
 */
import { formatCount, formatDuration } from './words.ts'

export interface RelayReport {
  /** What a site's report does not have. */
  readonly role: 'relay'
  readonly site: { readonly name: string; readonly primary: string }
  readonly version: string
  readonly healthy: boolean
  /** What keeps it from being healthy, a sentence each. */
  readonly health_messages: readonly string[]
  readonly log: {
    readonly id: string
    /** The first number that a site can still ask after. */
    readonly first: number
    readonly last: number
    readonly bytes: number
    /** Since the process started. */
    readonly events: number
  }
  /** Null while completeness cannot be proved; `note` then says why. */
  readonly epoch: { readonly id: string; readonly age_seconds: number } | null
  /** Of the newest proof; null while there is none in the epoch. */
  readonly watermark_age_seconds: number | null
  readonly note: string | null
  /** What ended the last epoch, the start of the relay at first; null where no instances are named. */
  readonly last_end: ReportedEnd | null
  /** What has kept the next from beginning since. */
  readonly setback: ReportedEnd | null
  /** How often each reason ended one, since the process started. */
  readonly ends: Readonly<Record<string, number>>
  /** Whether `relay.instances` is set; without it there is no watermark, and none is missed. */
  readonly instances_named: boolean
  readonly instances: readonly {
    readonly address: string
    /** The id its process gives itself; null while no canary has come back from it. */
    readonly instance_id: string | null
    readonly last_canary_age_seconds: number | null
  }[]
  readonly canaries: CanaryCounts
  readonly sites: readonly {
    readonly name: string
    readonly connected: boolean
    /** The number it has read up to; null while it is not known, as the next two. */
    readonly through: number | null
    /** Records it has not read. */
    readonly behind: number | null
    /** Age of the oldest of them; 0 without any. */
    readonly lag_seconds: number | null
    /** Null: it never asked since the process started. */
    readonly last_seen_seconds_ago: number | null
  }[]
  readonly started_at: string
  readonly updated_at: string
}

interface ReportedEnd {
  readonly reason: string
  /** An address, or the id of a process. */
  readonly instance: string | null
  readonly seconds_ago: number
  /** What happened, and what to do. */
  readonly sentence: string
}

/** `lost`: not back in time, or overtaken; `refused`: not taken by their instance. */
interface CanaryCounts {
  readonly sent: number
  readonly returned: number
  readonly lost: number
  readonly refused: number
}

/** The relay as the report, the metrics and readiness ask for it. Ages are in milliseconds. */
export interface RelayState {
  log(): { readonly id: string; readonly first: number; readonly last: number; readonly bytes: number }
  /** Since the process started. */
  events(): number
  /** Undefined: no instances are named, and there are no epochs. */
  epochs(): EpochsState | undefined
  /** Why there is no watermark. */
  note(): string | undefined
  sites(): readonly SiteState[]
}

export interface EpochsState {
  readonly epoch: string | undefined
  readonly ageMs: number | undefined
  readonly watermarkAgeMs: number | undefined
  readonly lastEnd: EndState | undefined
  readonly setback: EndState | undefined
  readonly ends: Readonly<Record<string, number>>
  readonly instances: readonly {
    readonly address: string
    readonly instanceId: string | undefined
    readonly lastCanaryAgeMs: number | undefined
  }[]
  readonly canaries: CanaryCounts
}

interface EndState {
  readonly reason: string
  readonly instance: string | undefined
  readonly agoMs: number
  readonly sentence: string
}

export interface SiteState {
  readonly name: string
  readonly connected: boolean
  readonly through: number | undefined
  readonly behind: number | undefined
  readonly lagMs: number | undefined
  /** Undefined: never. */
  readonly lastSeenMs: number | undefined
}

export interface RelayReportOptions {
  readonly name: string
  readonly primary: string
  readonly version: string
  /** Wall clock in milliseconds; default `Date.now`. */
  readonly now?: (() => number) | undefined
}

/** A site that asks at all is never silent for longer: its questions are answered after 25 s at the latest. */
const LATE_MS = 60_000

export function createRelayReport(state: RelayState, options: RelayReportOptions): () => RelayReport {
  const { name, primary, version, now = Date.now } = options
  const startedAt = new Date(now()).toISOString()

  return function report() {
    const epochs = state.epochs()
    const sites = state.sites()
    const note = state.note()
    const messages = unhealthyRelay(epochs, note, sites)
    return {
      role: 'relay',
      site: { name, primary },
      version,
      healthy: messages.length === 0,
      health_messages: messages,
      log: { ...state.log(), events: state.events() },
      epoch: epochs?.epoch ? { id: epochs.epoch, age_seconds: seconds(epochs.ageMs ?? 0) } : null,
      watermark_age_seconds: secondsOrNull(epochs?.watermarkAgeMs),
      note: note ?? null,
      last_end: endOf(epochs?.lastEnd),
      setback: endOf(epochs?.setback),
      ends: epochs?.ends ?? {},
      instances_named: epochs !== undefined,
      instances: (epochs?.instances ?? []).map(({ address, instanceId, lastCanaryAgeMs }) => ({
        address,
        instance_id: instanceId ?? null,
        last_canary_age_seconds: secondsOrNull(lastCanaryAgeMs),
      })),
      canaries: epochs?.canaries ?? { sent: 0, returned: 0, lost: 0, refused: 0 },
      sites: sites.map((site) => ({
        name: site.name,
        connected: site.connected,
        through: site.through ?? null,
        behind: site.behind ?? null,
        lag_seconds: secondsOrNull(site.lagMs),
        last_seen_seconds_ago: secondsOrNull(site.lastSeenMs),
      })),
      started_at: startedAt,
      updated_at: new Date(now()).toISOString(),
    }
  }
}

function endOf(end: EndState | undefined): ReportedEnd | null {
  if (!end) return null
  const { reason, instance, agoMs, sentence } = end
  return { reason, instance: instance ?? null, seconds_ago: seconds(agoMs), sentence }
}

/** Empty: healthy. */
function unhealthyRelay(
  epochs: EpochsState | undefined,
  note: string | undefined,
  sites: readonly SiteState[],
): string[] {
  const messages: string[] = []
  if (epochs && epochs.epoch === undefined) {
    const why = note === undefined ? '' : ` ${note}`
    messages.push(`Completeness is not proved, so sites ask the primary at each pull by tag.${why}`)
  }
  for (const site of sites) {
    const late = lateBecause(site)
    if (late !== undefined) messages.push(late)
  }
  return messages
}

function lateBecause({ name, behind, lagMs, lastSeenMs }: SiteState): string | undefined {
  if (lastSeenMs === undefined) {
    return `${name} has not asked for the log since the relay was started: see that it runs with relay.url and the token of its tokenfile, or take it out of relay.sites.`
  }
  if (lastSeenMs > LATE_MS) {
    return `${name} has not asked for the log for ${formatDuration(lastSeenMs)}: see that it runs and that its line to here is up.`
  }
  if (lagMs !== undefined && lagMs > LATE_MS) {
    return `${name} is ${formatCount(behind ?? 0, 'event')} behind, the oldest ${formatDuration(lagMs)} old: geo-registry status there says what holds it up.`
  }
  return undefined
}

/** To the millisecond. */
function seconds(durationMs: number): number {
  return Math.round(durationMs) / 1000
}

function secondsOrNull(durationMs: number | undefined): number | null {
  return durationMs === undefined ? null : seconds(durationMs)
}
