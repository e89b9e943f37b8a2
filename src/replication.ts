/**
 * Keeping a site in step: inbox, jobs, reconciliation and scrub are made here and given back in reverse order. Nothing of
 * it is needed to answer a pull (law 10): it starts without its database, without Redis and without the primary.
 */
import { join } from 'node:path'
import { createBudgetedUpstream } from '../replicator/budgeted-upstream.ts'
import { createCopying } from '../replicator/copy-graph.ts'
import { createCourtesy } from '../replicator/courtesy.ts'
import { startEventsListener } from '../replicator/events-listener.ts'
import { createFollower, type Follower } from '../replicator/follower.ts'
import { createInbox, type Inbox } from '../replicator/inbox.ts'
import { createInventory } from '../replicator/open-inventory.ts'
import { createReconciler, type Reconciler } from '../replicator/reconcile.ts'
import { createRelayClient } from '../replicator/relay-client.ts'
import { createRemovalBrake } from '../replicator/removal-brake.ts'
import { createBudget } from '../replicator/request-budget.ts'
import { createScrub } from '../replicator/scrub.ts'
import { createSyncRepository } from '../replicator/sync-repository.ts'
import { createWholeGraphs } from '../replicator/whole-graphs.ts'
import type { Config } from './config.ts'
import { createConfirm } from './fill/confirm.ts'
import type { Fill } from './fill/fill.ts'
import type { Epochs, Freshness } from './freshness/freshness.ts'
import type { Lifecycle } from './lifecycle.ts'
import type { Logger } from './log.ts'
import type { Metrics } from './metrics.ts'
import type { RepositoryName } from './oci/reference.ts'
import { createModeOf } from './oci/repository-mode.ts'
import type { Primary } from './primary.ts'
import { createBullmqQueue } from './queue/bullmq-queue.ts'
import { createMemoryQueue } from './queue/memory-queue.ts'
import { createReplicationControl } from './replication-control.ts'
import type { ReplicationControl } from './status/replication-control.ts'
import type { Store } from './store/store.ts'
import { deferTracking } from './tracking/deferred-tracking.ts'
import { openTracking } from './tracking/open-tracking.ts'
import type { Tracking } from './tracking/tracking.ts'

export interface ReplicationDeps {
  readonly log: Logger
  readonly metrics: Metrics
  readonly lifecycle: Lifecycle
  readonly store: Store
  readonly fill: Fill
  readonly freshness: Freshness & Epochs
  readonly primary: Primary
}

export interface Replication {
  readonly control: ReplicationControl
  /** A client met something of the repository that was not here, or wrote to it. Never throws. */
  hint(name: RepositoryName): void
  /** Bytes that clients got from here: copying stands back for them. */
  served(bytes: number): void
}

/** What a killed process was at work on waits so long for the next one. */
const LEASE_TTL_MS = 15_000

/** Resolves when events are taken and jobs run. Throws when the events listener cannot listen. */
export async function startReplication(config: Config, deps: ReplicationDeps): Promise<Replication> {
  const { log, metrics, lifecycle, store, fill, freshness, primary } = deps
  const { blobs, index, holdings } = store
  const { replication, digests } = config
  const { postgres, redis } = config

  const tracking = deferTracking(() =>
    openTracking(
      postgres
        ? { kind: 'postgres', url: () => postgres.url.reveal() }
        : { kind: 'sqlite', file: join(store.paths.root, 'geo-registry/tracking.db') },
      { log },
    ),
  )
  lifecycle.own('tracking database', tracking)
  const queue = redis
    ? createBullmqQueue(
        { log },
        {
          url: () => redis.url.reveal(),
          // The queue's keys are its parts, with colons between them.
          name: config.site.name.replaceAll(':', '-'),
        },
      )
    : createMemoryQueue({ log })

  const budget = createBudget(replication)
  // Bytes are counted where they arrive, clients' and copies' alike; a copy only waits until there is room again.
  primary.onTraffic((bytes, requests) => budget.spend(bytes, requests))
  const courtesy = createCourtesy()
  const pace = async (bytes: number, signal: AbortSignal) => {
    await courtesy.pace(bytes, signal)
    await budget.receive(0, signal)
  }
  const upstream = createBudgetedUpstream(primary.budgeted, budget)

  const inventory = createInventory({ upstream, log })
  const confirm = createConfirm({ upstream, index, blobs })
  const { connections, parallelAboveBytes, concurrency } = replication
  const { recheckMs } = digests
  const copying = createCopying(
    { upstream, fill, blobs, index, confirm, log },
    { recheckMs, connections, parallelAboveBytes, pace, request: (signal) => budget.request(signal) },
  )
  const whole = createWholeGraphs(copying)
  const modeOf = createModeOf(replication.modes)
  const brake = createRemovalBrake({ tracking, log })
  const parts = { log, metrics, tracking, queue, inventory, holdings, index, blobs, brake, modeOf, freshness }

  const inbox = createInbox(parts)
  lifecycle.own('inbox', inbox)
  const { reconcileMs } = replication
  const reconciler = createReconciler(parts, { reconcileMs })
  const sync = createSyncRepository(
    { ...parts, copying, confirm, upstream, whole },
    { recheckMs, reconcileMs, leaseTtlMs: LEASE_TTL_MS },
  )
  queue.work(sync, { concurrency })
  lifecycle.own('jobs', queue)
  reconciler.start()
  lifecycle.own('reconciliation', reconciler.close)
  if (replication.scrubMs > 0) {
    const scrub = createScrub({ ...parts, whole }, { periodMs: replication.scrubMs })
    scrub.start()
    lifecycle.own('scrub', scrub.close)
  }

  const { events } = replication
  if (events) {
    const listener = await startEventsListener(
      { accept: ({ notices }) => inbox.accept(notices), log, metrics },
      { ...events.listen, secret: () => events.secret.reveal() },
    )
    lifecycle.own('events listener', listener)
    log.info({ address: listener.address }, 'events are taken')
  }

  const follower = followRelay(config, { ...deps, tracking, inbox, reconciler })
  const control = createReplicationControl(config, {
    ...parts,
    follower,
    store,
    upstream,
    copying,
    reconciler,
    primary,
  })
  return { control, hint: (name) => void inbox.hint(name), served: courtesy.served }
}

interface FollowDeps extends Pick<ReplicationDeps, 'log' | 'lifecycle' | 'freshness'> {
  readonly tracking: Tracking
  readonly inbox: Inbox
  readonly reconciler: Reconciler
}

/** Throws when `relay.cafile` cannot be read; a relay that is away keeps nothing from starting. */
function followRelay({ follow }: Config, deps: FollowDeps): Follower | undefined {
  if (!follow) return undefined
  const { url, token, caFile } = follow
  const client = createRelayClient({ url, token: () => token.reveal(), caFile })
  deps.lifecycle.own('connection to the relay', client)
  deps.lifecycle.onReload('relay.cafile', client.renew)
  const follower = createFollower({ ...deps, client })
  follower.start()
  deps.lifecycle.own('relay', follower.close)
  return follower
}
