/**
 * The proof that a relay's log is complete: the instances of the registry, the canaries to each of them, and the epochs
 * they make. Without named instances there is none, and this says so.
 */
import { readFileSync } from 'node:fs'
import { getCACertificates } from 'node:tls'
import { createCanaries } from '../replicator/relay/canaries.ts'
import { createEpochs, type Epochs } from '../replicator/relay/epochs.ts'
import type { InstanceTls } from '../replicator/relay/instance-connection.ts'
import { followInstances, type InstanceAddress } from '../replicator/relay/instances.ts'
import type { RelayConfig, UpstreamConfig } from './config.ts'
import type { Lifecycle } from './lifecycle.ts'
import type { Logger } from './log.ts'
import type { TokenSource } from './upstream/token-source.ts'

export interface CanaryDeps {
  readonly tokens: TokenSource
  readonly log: Logger
  readonly lifecycle: Lifecycle
}

/** What the relay's listeners need of it, with epochs or without. */
export interface Proof
  extends Pick<Epochs, 'heard' | 'receiverFailed' | 'logFailed' | 'watermark' | 'note' | 'onChange'> {
  /** Undefined where no instances are named. */
  state(): ReturnType<Epochs['state']> | undefined
}

const NO_INSTANCES =
  'No watermark: relay.instances is not set, so sites ask the primary at each pull by tag; name every process of the registry there.'

/** `log`: told why each epoch ends, and when the next begins. */
export function createProof(
  { instances, queueSize }: RelayConfig,
  log: Logger,
): Proof & { epochs: Epochs | undefined } {
  if (instances.length === 0) {
    const nothing = () => undefined
    return {
      epochs: undefined,
      heard: nothing,
      receiverFailed: nothing,
      logFailed: nothing,
      watermark: nothing,
      note: () => NO_INSTANCES,
      onChange: () => nothing,
      state: nothing,
    }
  }
  const epochs = createEpochs({ queueSize })
  let said = epochs.note()
  epochs.onChange(() => {
    const note = epochs.note()
    if (note === said) return
    if (note === undefined)
      log.info({ epoch: epochs.watermark()?.epoch }, 'completeness is proved: an epoch has begun')
    else log.warn(note)
    said = note
  })
  return { ...epochs, epochs }
}

/** Canaries are sent from now on; their end is the lifecycle's. */
export function startCanaries(
  epochs: Epochs,
  { relay, upstream }: { readonly relay: RelayConfig; readonly upstream: UpstreamConfig },
  { tokens, log, lifecycle }: CanaryDeps,
): void {
  const { repository, kind } = relay.canary
  let tls = readInstanceTls(upstream)
  let addresses: readonly InstanceAddress[] = []
  const send = () => createCanaries({ epochs, tokens, log }, { repository, kind, tls })
  let canaries = send()
  lifecycle.own('canaries', async () => await canaries[Symbol.asyncDispose]())
  lifecycle.onReload('upstream.tls of the canaries', async () => {
    const renewed = readInstanceTls(upstream)
    if (JSON.stringify(renewed) === JSON.stringify(tls)) return
    await canaries[Symbol.asyncDispose]()
    tls = renewed
    canaries = send()
    canaries.set(addresses)
  })
  const following = followInstances(
    {
      onResolved(found, askedAtMs) {
        addresses = found
        epochs.instances(
          found.map(({ key }) => key),
          askedAtMs,
        )
        canaries.set(found)
      },
      onUnresolved: (error) => epochs.unresolved(error),
    },
    { origins: relay.instances },
  )
  lifecycle.own('instances', following)
}

function readInstanceTls({ tls: { caFile, client } }: UpstreamConfig): InstanceTls {
  return {
    ...(caFile !== undefined && { ca: [...getCACertificates('default'), readFileSync(caFile, 'utf8')] }),
    ...(client && {
      cert: readFileSync(client.certificateFile, 'utf8'),
      key: readFileSync(client.keyFile, 'utf8'),
    }),
  }
}
