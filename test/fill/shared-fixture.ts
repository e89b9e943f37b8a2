/** Several fills on one store and one primary, as several processes have them, with leases that can fail. */
import pino from 'pino'
import { type FillOptions, type OpenFill, openFill } from '../../src/fill/flights.ts'
import type { Store } from '../../src/store/store.ts'
import { createDispatcher } from '../../src/upstream/dispatcher.ts'
import { createRegistryClient } from '../../src/upstream/registry-client.ts'
import { createMintedTokenSource } from '../../src/upstream/token-source.ts'
import { storeFixture } from '../store/store-fixture.ts'
import { type FillFixture, fillFixture, landed } from './fill-fixture.ts'
import { createLeaseTable, type LeaseTable } from './memory-fill-leases.ts'

export interface SharedProcess {
  readonly fill: OpenFill
  readonly store: Store
  /** Body bytes this process received from the primary. */
  receivedBytes(): Promise<number>
}

export interface SharedFixture extends AsyncDisposable {
  readonly site: FillFixture
  readonly table: LeaseTable
  readonly processes: readonly [SharedProcess, SharedProcess, SharedProcess]
  /** Of all processes. */
  receivedBytes(): Promise<number>
  /** Resolves when no process fetches any longer. */
  allLanded(): Promise<void>
}

type ProcessOptions = Omit<FillOptions, 'folder' | 'leases'>

/** Three processes; `optionsOf` says what each is opened with, by its number. */
export async function sharedFixture(
  optionsOf: (index: number) => ProcessOptions = () => ({}),
): Promise<SharedFixture> {
  await using starting = new AsyncDisposableStack()
  const table = createLeaseTable()
  const site = starting.use(await fillFixture({ ...optionsOf(0), leases: table.leases() }))

  async function another(index: number): Promise<SharedProcess> {
    const { store, metrics, ...stored } = await storeFixture({}, site.store.paths.root)
    starting.defer(() => stored[Symbol.asyncDispose]())
    const log = pino({ level: 'silent' })
    const dispatcher = createDispatcher({ metrics, log }, { origin: site.primary.origin })
    starting.defer(() => dispatcher.close())
    const upstream = createRegistryClient({
      dispatcher,
      tokens: createMintedTokenSource(async () => 'site'),
      breaker: { failed: () => undefined, succeeded: () => undefined },
    })
    const fill = await openFill(
      { log, metrics, upstream, index: store.index, blobs: store.blobs },
      { folder: store.paths.spools, ...optionsOf(index), leases: table.leases() },
    )
    starting.defer(fill.close)
    return {
      fill,
      store,
      receivedBytes: async () => (await metrics.upstreamBytes.get()).values[0]?.value ?? 0,
    }
  }

  const processes = [site, await another(1), await another(2)] as const
  const owned = starting.move()
  return {
    site,
    table,
    processes,
    async receivedBytes() {
      const received = await Promise.all(processes.map((one) => one.receivedBytes()))
      return received.reduce((sum, bytes) => sum + bytes, 0)
    },
    async allLanded() {
      for (const { fill } of processes) await landed(fill)
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}
