/** A reconciler over a real tracking database, between a primary and a store of which only the lists are needed. */
import { join } from 'node:path'
import type { Brake } from '../../replicator/brake.ts'
import type { Inventory } from '../../replicator/inventory.ts'
import { createReconciler, type Reconciler, type ReconcilerOptions } from '../../replicator/reconcile.ts'
import { createRemovalBrake } from '../../replicator/removal-brake.ts'
import { createLogger } from '../../src/log.ts'
import { createMetrics, type Metrics } from '../../src/metrics.ts'
import { digestOf } from '../../src/oci/digest.ts'
import type { RepositoryName } from '../../src/oci/reference.ts'
import { createModeOf, type ModeRule } from '../../src/oci/repository-mode.ts'
import type { Wake } from '../../src/queue/queue.ts'
import { openTracking } from '../../src/tracking/open-tracking.ts'
import type { Tracking } from '../../src/tracking/tracking.ts'
import { nameOf, tagOf } from '../store/store-fixture.ts'
import { tempFolder } from '../support/temp.ts'

const DIGEST = digestOf(Buffer.from('any'))
export const HOUR_MS = 3_600_000

export interface Scene extends AsyncDisposable {
  readonly tracking: Tracking
  readonly brake: Brake
  readonly metrics: Metrics
  /** The clock of everything; moved by tests. */
  nowMs: number
  /** What the primary lists, page by page; an error ends the list there. */
  pages: (readonly string[] | Error | Promise<readonly string[]>)[]
  /** In place of `pages` where set. */
  inventory: Pick<Inventory, 'repositories'> | undefined
  /** How often it was asked for its list. */
  lists: number
  /** Tags held here, by repository; none: only links. */
  readonly held: Map<string, number>
  rules: ModeRule[]
  /** Everything woken, oldest first. */
  readonly wakes: Wake[]
  /** Fails every wake-up while set. */
  queueError: Error | undefined
  /** Lines logged, as objects. */
  readonly lines: { readonly level: string; readonly msg: string }[]
  /** Keys woken, each once, in order of the alphabet. */
  woken(): string[]
  open(options?: Partial<ReconcilerOptions>): Reconciler
  /** A row whose repository was found in step by an inventory of then. */
  synced(name: string, inventoryAtMs: number, options?: { readonly active: boolean }): Promise<void>
}

export async function reconcileScene(): Promise<Scene> {
  await using starting = new AsyncDisposableStack()
  const folder = starting.use(await tempFolder('reconcile'))
  const metrics = createMetrics()
  const lines: Scene['lines'] = []
  const log = createLogger({ destination: { write: (line) => void lines.push(JSON.parse(line)) } })
  let nowMs = Date.UTC(2026, 0, 1)
  const now = () => nowMs
  const tracking = starting.use(
    await openTracking({ kind: 'sqlite', file: join(folder.path, 'tracking.db') }, { log, now }),
  )
  const brake = createRemovalBrake({ tracking, log, now })
  const reconcilers = starting.adopt([] as Reconciler[], async (all) => {
    for (const one of all) await one.close()
  })
  const owned = starting.move()
  const scene: Scene = {
    tracking,
    brake,
    metrics,
    get nowMs() {
      return nowMs
    },
    set nowMs(ms) {
      nowMs = ms
    },
    pages: [],
    inventory: undefined,
    lists: 0,
    held: new Map(),
    rules: [],
    wakes: [],
    queueError: undefined,
    lines,
    woken: () => [...new Set(scene.wakes.map(({ key }) => key))].toSorted((a, b) => (a < b ? -1 : 1)),
    open(options = {}) {
      const reconciler = createReconciler(
        {
          tracking,
          brake,
          metrics,
          log,
          now,
          modeOf: (name) => createModeOf(scene.rules)(name),
          inventory: { repositories: (signal) => (scene.inventory?.repositories ?? listed)(signal) },
          holdings: {
            async *repositories() {
              yield* [...scene.held.keys()].map(nameOf)
            },
            tags: async (name) =>
              Array.from({ length: scene.held.get(name) ?? 0 }, (_, at) => tagOf(`v${at}`)),
            links: async () => [DIGEST],
          },
          queue: {
            wake: async (wake) => {
              if (scene.queueError) throw scene.queueError
              scene.wakes.push(wake)
            },
          },
        },
        { reconcileMs: 24 * HOUR_MS, pollMs: 5, ...options },
      )
      reconcilers.push(reconciler)
      return reconciler
    },
    async synced(name, inventoryAtMs, { active } = { active: false }) {
      const path = nameOf(name)
      await tracking.touch([path], { priority: 3, active })
      const lease = await tracking.lease(path, 60_000)
      if (!lease) throw new Error(`${name} could not be leased`)
      const checksum = '0'
      await tracking.settle(lease, {
        kind: 'synced',
        tagsCount: 1,
        inventoryAtMs,
        checksum,
        primaryChecksum: checksum,
        missingOnPrimary: false,
      })
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }

  async function* listed(signal?: AbortSignal): AsyncGenerator<readonly RepositoryName[]> {
    scene.lists++
    for (const page of scene.pages) {
      if (page instanceof Error) throw page
      const { promise: given, reject } = Promise.withResolvers<never>()
      const onAbort = () => reject(signal?.reason)
      signal?.addEventListener('abort', onAbort, { once: true })
      yield (await Promise.race([given, page])).map(nameOf)
      signal?.removeEventListener('abort', onAbort)
    }
  }
  return scene
}
