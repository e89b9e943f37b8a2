/**
 * The composition root of `geo-registry relay`, beside the primary: events are taken, numbered, kept, and read by the
 * sites; canaries prove that none is missing.
 */
import { readFileSync } from 'node:fs'
import { access, constants } from 'node:fs/promises'
import { join } from 'node:path'
import packageJson from '../package.json' with { type: 'json' }
import { startEventsListener } from '../replicator/events-listener.ts'
import type { ReadNotification } from '../replicator/notification.ts'
import { openRelayLog, type RelayLog } from '../replicator/relay/log.ts'
import { startSitesListener } from '../replicator/relay/sites-listener.ts'
import { createCanaryEcho } from './canary-echo.ts'
import { isLoopback } from './config/addresses.ts'
import type { Config, RelayConfig } from './config.ts'
import { watchFiles } from './lifecycle.ts'
import { connectPrimary } from './primary.ts'
import { createProof, type Proof, startCanaries } from './relay-proof.ts'
import type { SiteDeps } from './site.ts'
import { startAdmin } from './status/admin.ts'
import { createRelayCounters, registerRelayMetrics } from './status/relay-metrics.ts'
import { createRelayReport, type RelayState } from './status/relay-report.ts'

/** A registry of many processes sends in bursts, and a refusal ends the epoch. */
const EVENTS_PER_SECOND = 5_000
const EVENTS_AT_ONCE = 20_000

/** Resolves when events are taken. Throws what keeps it from that; what was made by then is the lifecycle's. */
export async function startRelay(config: Config, deps: SiteDeps): Promise<void> {
  const { log, metrics, lifecycle } = deps
  const { relay, storage } = config
  if (!relay) throw new Error('expected the configuration of a relay')
  const folder = join(storage.rootDirectory, 'geo-registry/relay')
  const counters = createRelayCounters(metrics.registry)
  let report: (() => object) | undefined

  // First of all, since its address can be had once: a second relay on the same log ends here, and harms nothing.
  const admin = await startAdmin(
    config.admin.listen,
    {
      ready: () => (report ? unwritable(folder) : Promise.resolve('the relay is starting')),
      metrics: () => metrics.registry.metrics(),
      status: () => report?.(),
    },
    { log, token: () => config.admin.token?.reveal() },
  )
  lifecycle.own('admin listener', admin)

  const proof = createProof(relay, log)
  let events = 0
  const relayLog = await openRelayLog(
    folder,
    { retentionAgeMs: relay.retention.ageMs, retentionBytes: relay.retention.bytes },
    {
      log,
      metrics: {
        recorded(count) {
          events += count
          counters.events.inc(count)
        },
      },
      onFailure: proof.logFailed,
    },
  )
  lifecycle.own("the relay's log", relayLog)

  const sites = await startSites(relay, relayLog, proof, deps)
  const taken = await startEventsListener(
    {
      accept: createAccept(relay, relayLog, proof),
      onRefused: proof.receiverFailed,
      log,
      metrics,
    },
    {
      ...relay.events.listen,
      secret: () => relay.events.secret.reveal(),
      requestsPerSecond: EVENTS_PER_SECOND,
      burst: EVENTS_AT_ONCE,
    },
  )
  lifecycle.own('events listener', taken)
  // After the listener that they come back to.
  if (proof.epochs) {
    const { tokens } = await connectPrimary(config.upstream, deps)
    startCanaries(proof.epochs, { relay, upstream: config.upstream }, { tokens, log, lifecycle })
  }

  const state: RelayState = {
    log: () => ({ id: relayLog.id, first: relayLog.first, last: relayLog.last, bytes: relayLog.bytes }),
    events: () => events,
    epochs: proof.state,
    note: proof.note,
    sites: sites.sites,
  }
  registerRelayMetrics(metrics.registry, state)
  report = createRelayReport(state, {
    name: config.site.name,
    primary: config.upstream.origin,
    version: packageJson.version,
  })
  for (const secret of config.secrets) lifecycle.onReload(`secret ${secret.file}`, () => secret.refresh())
  lifecycle.own(
    'watched files',
    watchFiles(config.files, () => void lifecycle.reload('a file has changed')),
  )
  log.info(
    {
      role: 'relay',
      events: taken.address,
      sites: sites.address,
      admin: admin.address,
      instances: relay.instances,
      relayLog: relayLog.id,
    },
    'serving',
  )
}

async function startSites(
  relay: RelayConfig,
  relayLog: RelayLog,
  proof: Proof,
  { log, lifecycle }: SiteDeps,
) {
  if (!relay.tls && !isLoopback(relay.listen)) {
    log.warn(
      { address: relay.listen },
      'relay.tls is not set: whoever sees the line sees the tokens of the sites; set it, or put NGINX in front',
    )
  }
  const listener = await startSitesListener(
    { relayLog, watermark: proof.watermark, note: proof.note, onChange: proof.onChange, log },
    {
      ...relay.listen,
      sites: relay.sites.map(({ name, token }) => ({ name, token: () => token.reveal() })),
      tls: readTls(relay),
    },
  )
  lifecycle.own('sites listener', listener)
  lifecycle.onReload('relay.tls', () => {
    const tls = readTls(relay)
    if (tls) listener.renewTls(tls)
  })
  return listener
}

/**
 * Durable first, then heard, then answered 204. The log resolves appends in the order of its numbers, so that what is
 * heard follows the log, whatever requests arrive at once.
 */
function createAccept(
  { canary }: RelayConfig,
  relayLog: Pick<RelayLog, 'append'>,
  proof: Pick<Proof, 'heard'>,
): (read: ReadNotification) => Promise<void> {
  const echo = createCanaryEcho(canary.repository)
  return async function accept({ notices, arrivals }) {
    try {
      const through = await relayLog.append(echo.without(notices))
      proof.heard(arrivals, through)
    } catch (error) {
      echo.forget()
      throw error
    }
  }
}

function readTls({ tls }: RelayConfig) {
  return tls && { cert: readFileSync(tls.certificateFile), key: readFileSync(tls.keyFile) }
}

/** Ready: what arrives can be kept. */
async function unwritable(folder: string): Promise<string | undefined> {
  try {
    await access(folder, constants.R_OK | constants.W_OK)
    return undefined
  } catch (error) {
    return `the log cannot be written: ${error instanceof Error ? error.message : String(error)}`
  }
}
