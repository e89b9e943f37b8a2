/** What a hand may ask of the replicator, put together from its parts: the one implementation of that port. */
import { statfs } from 'node:fs/promises'
import packageJson from '../package.json' with { type: 'json' }
import { adopt } from '../replicator/adopt.ts'
import { AdoptError } from '../replicator/adopt-source.ts'
import { ahead } from '../replicator/ahead.ts'
import type { Brake } from '../replicator/brake.ts'
import type { Copying } from '../replicator/copying.ts'
import { exportCheck } from '../replicator/export-check.ts'
import type { Follower } from '../replicator/follower.ts'
import type { Inventory } from '../replicator/inventory.ts'
import { plan } from '../replicator/plan.ts'
import { rebuild } from '../replicator/rebuild.ts'
import type { Reconciler } from '../replicator/reconcile.ts'
import type { Config } from './config.ts'
import { createExplain } from './explain.ts'
import type { Freshness } from './freshness/freshness.ts'
import type { Metrics } from './metrics.ts'
import type { RepositoryName, Tag } from './oci/reference.ts'
import type { ModeOf } from './oci/repository-mode.ts'
import type { Primary } from './primary.ts'
import type { Queue } from './queue/queue.ts'
import { PRIORITIES } from './queue/queue.ts'
import { singleFlight } from './single-flight.ts'
import type { StoreState } from './status/health.ts'
import {
  ControlRefused,
  type ReplicationControl,
  type RepositoryFilter,
} from './status/replication-control.ts'
import { createReport } from './status/report.ts'
import { registerStatusMetrics } from './status/status-metrics.ts'
import { readTraffic } from './status/traffic.ts'
import { StoreError } from './store/blob-store.ts'
import type { Store } from './store/store.ts'
import type { Tracking } from './tracking/tracking.ts'
import { UpstreamError } from './upstream/errors.ts'
import type { Upstream } from './upstream/upstream.ts'

export interface ReplicationControlDeps {
  readonly metrics: Metrics
  readonly store: Store
  readonly tracking: Tracking
  readonly queue: Queue
  readonly inventory: Inventory
  readonly copying: Copying
  readonly freshness: Freshness
  readonly brake: Brake
  readonly reconciler: Reconciler
  /** Undefined where no relay is followed. */
  readonly follower: Pick<Follower, 'status'> | undefined
  readonly modeOf: ModeOf
  /** Within the budget. */
  readonly upstream: Upstream
  readonly primary: Primary
}

/** Rows read at a time where all of them are gone through. */
const PAGE = 1000

export function createReplicationControl(config: Config, deps: ReplicationControlDeps): ReplicationControl {
  const { metrics, store, tracking, queue, inventory, copying, brake, reconciler, modeOf, upstream } = deps
  const { follower, freshness } = deps
  const { blobs, index, holdings } = store
  const { replication } = config

  registerStatusMetrics(
    {
      registry: metrics.registry,
      counts: () => tracking.counts(),
      watermark: follower && (() => freshness.watermark()),
    },
    { siteName: config.site.name },
  )
  const report = createReport(
    {
      counts: () => tracking.counts(),
      brake: () => brake.status(),
      queue: async () => ({ ...(await queue.depth()), paused: await queue.isPaused() }),
      async reconcile() {
        const { lastPass, failure } = reconciler.status()
        // The reconciler measures it once a minute, for itself. Where this is not told, `counts` says why.
        const oldestAtMs = await tracking.counts().then(
          ({ oldestInventoryAtMs }) => oldestInventoryAtMs,
          () => undefined,
        )
        return {
          lastPassAtMs: lastPass?.endedAtMs,
          achievedPeriodMs: oldestAtMs === undefined ? undefined : Math.max(0, Date.now() - oldestAtMs),
          settingMs: replication.reconcileMs,
          error: failure?.message,
          refused: failure?.refused,
        }
      },
      store: createStoreState(store, config.storage.minFreeFraction),
      relay:
        follower &&
        (async () => ({ ...follower.status(), watermarkAgeMs: (await freshness.watermark())?.ageMs })),
      traffic: () => readTraffic(metrics),
      breakerIsOpen: () => deps.primary.breaker.isOpen,
    },
    {
      site: { name: config.site.name, url: config.http.host, primary: upstream.origin },
      version: packageJson.version,
      selective: replication.modes.length > 0,
    },
  )
  const explain = createExplain({ ...deps, index }, { ...config.tags, ...config.outage })

  /** One by its whole name, or those of a filter; woken now, as far as the first page goes, and by the poll after it. */
  async function byHand(
    which: RepositoryFilter | RepositoryName,
    dryRun: boolean,
    act: Tracking['resync'],
  ): Promise<number> {
    const one = typeof which === 'string' ? await tracking.find(which) : undefined
    if (typeof which === 'string' && !one) return 0
    const filter = typeof which === 'string' ? { only: which } : which
    const count = await act(filter, { dryRun })
    if (dryRun) return count
    const due = one ? [one] : await tracking.due(Date.now(), PAGE)
    await Promise.all(due.map(({ path }) => queue.wake({ key: path, priority: PRIORITIES.asked })))
    return count
  }

  /** What it held back failed for that, and would be tried again within the hour only. */
  async function releaseBrake(): Promise<void> {
    await brake.release()
    await byHand({ state: 'failed', needsAttention: false }, false, tracking.resync)
  }

  async function digestThere(name: RepositoryName, tag: Tag, signal?: AbortSignal) {
    const held = await index.tag(name, tag)
    const ask = { credential: { kind: 'site' }, heldDigest: held?.digest, signal } as const
    const answer = await upstream.getManifest(name, { kind: 'tag', tag }, ask)
    if (answer === 'not-kept') return undefined
    return answer === 'not-modified' ? held?.digest : answer.digest
  }

  return {
    status: report,
    list: (options) => tracking.list(options),
    find: (path) => tracking.find(path),
    failingTags: (path) => tracking.failingTags(path),
    explain,
    resync: (which, { dryRun }) => byHand(which, dryRun, tracking.resync),
    reverify: (which, { dryRun }) => byHand(which, dryRun, tracking.reverify),
    pause: () => queue.pause(),
    resume: () => queue.resume(),
    brake: () => brake.status(),
    releaseBrake,
    hidden: (under) => holdings.hidden(under),
    restore: (id) => holdings.restore(id),

    ahead: (options) =>
      saying(async () => {
        let found = 0
        let unknown = 0
        const listing = ahead(
          { holdings, index, inventory, upstream },
          { signal: options.signal, onUnknown: () => void unknown++ },
        )
        for await (const content of listing) {
          found++
          await options.onItem(content)
        }
        return { found, repositoriesUnknown: unknown }
      }),

    exportCheck: ({ signal, onItem }) =>
      saying(() =>
        exportCheck(
          { inventory, holdings, index, copying, tracking, digestThere },
          { signal, onLoss: onItem },
        ),
      ),

    plan: ({ signal, onProgress }) =>
      saying(async () => {
        return await plan(
          { inventory, upstream, blobs, index, modeOf },
          {
            bytesPerSecond: replication.bytesPerSecond,
            signal,
            onProgress: ({ tags }) =>
              onProgress({ phase: 'looking at tags', done: tags, total: undefined, unit: 'tags' }),
          },
        )
      }),

    adopt: (folder, { signal, onProgress, dryRun }) =>
      saying(async () => {
        return await adopt(folder, store, {
          dryRun,
          signal,
          onProgress: ({ done, total }) =>
            onProgress({ phase: 'verifying blobs', done: done.bytes, total: total.bytes, unit: 'bytes' }),
        })
      }),

    rebuild: ({ dryRun, signal, onProgress }) =>
      saying(async () => {
        const before = (await tracking.counts()).total
        if (dryRun) return { forgotten: before }
        const found = await rebuild(
          { tracking, holdings, reconciler, modeOf },
          {
            signal,
            onProgress: (done) =>
              onProgress({ phase: 'reading the store', done, total: undefined, unit: 'repositories' }),
          },
        )
        return { forgotten: before, ...found }
      }),
  }
}

/** What the parts throw on purpose is told to whoever asked; anything else is for the log. */
async function saying<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof UpstreamError && error.kind !== 'aborted') {
      throw new ControlRefused(`the primary could not be asked: ${error.message}`, { cause: error })
    }
    if (error instanceof StoreError || error instanceof AdoptError) {
      throw new ControlRefused(error.message, { cause: error })
    }
    throw error
  }
}

const MEASURED_FOR_MS = 60 * 60 * 1000

/** Free space at each question; the size of all blobs is a walk, made once an hour and only while somebody asks. */
function createStoreState({ paths, holdings, blobs }: Store, minFreeFraction: number) {
  const measuring = singleFlight<'store', void>()
  let measured: { readonly bytes: number; readonly atMs: number } | undefined

  async function measure(): Promise<void> {
    let bytes = 0
    for await (const digest of holdings.blobs(undefined)) bytes += (await blobs.stat(digest)) ?? 0
    measured = { bytes, atMs: performance.now() }
  }

  return async function storeState(): Promise<StoreState> {
    const { bsize, bavail, blocks } = await statfs(paths.root)
    if (!measured || performance.now() - measured.atMs > MEASURED_FOR_MS) {
      // Known at the next question; a store that cannot be walked says so elsewhere.
      void measuring('store', measure).catch(() => undefined)
    }
    return {
      bytes: measured?.bytes,
      freeBytes: bavail * bsize,
      totalBytes: blocks * bsize,
      minFreeFraction,
    }
  }
}
