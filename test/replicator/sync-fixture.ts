/** Jobs over the real store, tracking database, copying and client, against whatever primary a test starts. */
import { join } from 'node:path'
import pino from 'pino'
import type { Brake } from '../../replicator/brake.ts'
import { createCopying } from '../../replicator/copy-graph.ts'
import type { Copying } from '../../replicator/copying.ts'
import type { Inventory } from '../../replicator/inventory.ts'
import { createInventory } from '../../replicator/open-inventory.ts'
import { createRemovalBrake } from '../../replicator/removal-brake.ts'
import { createSyncRepository, type SyncRepositoryOptions } from '../../replicator/sync-repository.ts'
import { createWholeGraphs, type WholeGraphs } from '../../replicator/whole-graphs.ts'
import { createConfirm } from '../../src/fill/confirm.ts'
import { openFill } from '../../src/fill/flights.ts'
import type { Freshness } from '../../src/freshness/freshness.ts'
import { createMemoryFreshness } from '../../src/freshness/memory-freshness.ts'
import type { Metrics } from '../../src/metrics.ts'
import type { Digest } from '../../src/oci/digest.ts'
import type { RepositoryName, Tag } from '../../src/oci/reference.ts'
import type { RepositoryMode } from '../../src/oci/repository-mode.ts'
import type { Wake } from '../../src/queue/queue.ts'
import type { RepositoryIndex } from '../../src/store/repository-index.ts'
import type { Store } from '../../src/store/store.ts'
import { openTracking } from '../../src/tracking/open-tracking.ts'
import type { InboxEvent, TrackedRepository, Tracking } from '../../src/tracking/tracking.ts'
import { createDispatcher } from '../../src/upstream/dispatcher.ts'
import { createRegistryClient } from '../../src/upstream/registry-client.ts'
import { createNoTokenSource } from '../../src/upstream/token-source.ts'
import type { Upstream } from '../../src/upstream/upstream.ts'
import { nameOf, storeFixture, tagOf } from '../store/store-fixture.ts'

export const APP: RepositoryName = nameOf('group/app')

export interface SyncFixtureOptions extends Partial<SyncRepositoryOptions> {
  /** Parts that a test replaces, made of the real ones. */
  readonly inventory?: (real: Inventory) => Inventory
  readonly upstream?: (real: Upstream) => Upstream
  readonly tracking?: (real: Tracking) => Tracking
  readonly index?: (real: RepositoryIndex) => RepositoryIndex
  readonly copying?: (real: Copying) => Copying
  readonly brake?: (real: Brake) => Brake
  readonly mode?: () => RepositoryMode
  /** Wall clock in milliseconds. */
  readonly now?: () => number
}

export interface SyncFixture extends AsyncDisposable {
  readonly root: string
  readonly store: Store
  readonly tracking: Tracking
  readonly freshness: Freshness
  readonly brake: Brake
  readonly whole: WholeGraphs
  readonly metrics: Metrics
  readonly wakes: readonly Wake[]
  /** Runs the job of a repository as if it was dirty. */
  sync(name?: RepositoryName, signal?: AbortSignal): Promise<void>
  /** Runs it as it stands: nothing happens when nothing is due. */
  run(name?: RepositoryName, signal?: AbortSignal): Promise<void>
  /** Stores events as the inbox does; those without an id get one. */
  hear(...events: readonly Heard[]): Promise<void>
  row(name?: RepositoryName): Promise<TrackedRepository>
  /** What is held, tag by tag. */
  tags(name?: RepositoryName): Promise<Record<string, Digest>>
  /** Requests to the primary so far, by operation. */
  asked(): Promise<Record<'manifest' | 'blob' | 'confirm', number>>
}

export type Heard = Partial<Omit<InboxEvent, 'tag'>> & {
  readonly action: InboxEvent['action']
  readonly tag?: string
}

const NEVER = new AbortController().signal
/** Long enough for everything that a test does with its own clock. */
const HOUR_MS = 3_600_000

export async function syncFixture(
  primaryUrl: string,
  options: SyncFixtureOptions = {},
): Promise<SyncFixture> {
  await using starting = new AsyncDisposableStack()
  const log = pino({ level: 'silent' })
  const { now = Date.now, mode = () => 'replicate' as const } = options
  const same = <T>(part: T) => part
  const stored = starting.use(await storeFixture({ now }))
  const { store, metrics } = stored
  const dispatcher = createDispatcher({ metrics, log }, { origin: primaryUrl })
  starting.defer(() => dispatcher.close())
  const breaker = { failed: () => undefined, succeeded: () => undefined }
  const client = createRegistryClient({ dispatcher, tokens: createNoTokenSource(), breaker })
  const upstream = (options.upstream ?? same)(client)
  const index = (options.index ?? same)(store.index)
  const { blobs, holdings } = store
  const fill = await openFill(
    { log, metrics, upstream, index, blobs },
    { folder: store.paths.spools, siteCredential: { kind: 'site' } },
  )
  starting.defer(() => fill.close())
  const file = join(stored.root, 'geo-registry', 'tracking.db')
  const database = starting.use(await openTracking({ kind: 'sqlite', file }, { log, now }))
  const tracking = (options.tracking ?? same)(database)
  const { recheckMs = HOUR_MS, retryDelayMs = 1 } = options
  const confirm = createConfirm({ upstream, index, blobs })
  const copying = (options.copying ?? same)(
    createCopying({ upstream, fill, blobs, index, confirm, log }, { recheckMs, retryDelayMs, now }),
  )
  const whole = createWholeGraphs(copying)
  const freshness = createMemoryFreshness({ trustMs: HOUR_MS })
  const brake = (options.brake ?? same)(createRemovalBrake({ tracking: database, log, now }))
  const wakes: Wake[] = []
  const run = createSyncRepository(
    {
      tracking,
      inventory: (options.inventory ?? same)(createInventory({ upstream, log })),
      copying,
      confirm,
      upstream,
      index,
      blobs,
      holdings,
      freshness,
      brake,
      queue: { wake: async (wake) => void wakes.push(wake) },
      whole,
      modeOf: mode,
      log,
      metrics,
      now,
    },
    { eventRetryMs: [1, 5, 20], ...options, recheckMs, retryDelayMs },
  )
  const owned = starting.move()
  let ids = 0

  return {
    root: stored.root,
    store,
    tracking: database,
    freshness,
    brake,
    whole,
    metrics,
    wakes,
    run: (name = APP, signal = NEVER) => run(name, signal),
    async sync(name = APP, signal = NEVER) {
      await database.touch([name], { priority: 2 })
      await run(name, signal)
    },
    async hear(...events) {
      await database.accept(
        events.map(({ tag, ...event }) => ({
          id: `event-${++ids}`,
          repository: APP,
          digest: undefined,
          renamedTo: undefined,
          receivedAtMs: now(),
          ...event,
          tag: tag === undefined ? undefined : tagOf(tag),
        })),
      )
    },
    async row(name = APP) {
      const row = await database.find(name)
      if (!row) throw new Error(`${name} is not tracked`)
      return row
    },
    async tags(name = APP) {
      const held = await Promise.all(
        (await holdings.tags(name)).map(async (tag: Tag) => [tag, (await index.tag(name, tag))?.digest]),
      )
      return Object.fromEntries(held)
    },
    async asked() {
      const { values } = await metrics.upstreamRequests.get()
      const sum = (operation: string) =>
        values.reduce((all, { labels, value }) => all + (labels.operation === operation ? value : 0), 0)
      return { manifest: sum('manifest'), blob: sum('blob'), confirm: sum('confirm') }
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}
