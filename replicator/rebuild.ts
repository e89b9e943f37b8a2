/**
 * Makes the tracking database again from the primary and the store. The primary's list comes first: what is here and no
 * longer there is put before the brake at once (law 12), before it is tracked and a job may ask about one of it.
 */
import type { RepositoryName } from '../src/oci/reference.ts'
import type { ModeOf } from '../src/oci/repository-mode.ts'
import type { Holdings } from '../src/store/holdings.ts'
import type { Tracking } from '../src/tracking/tracking.ts'
import type { Reconciler } from './reconcile.ts'

export interface RebuildDeps {
  readonly tracking: Pick<Tracking, 'clear' | 'discover'>
  readonly holdings: Pick<Holdings, 'repositories'>
  readonly reconciler: Pick<Reconciler, 'passNow'>
  readonly modeOf: ModeOf
}

export interface RebuildOptions {
  readonly signal: AbortSignal
  /** Repositories of the store that were read so far. */
  readonly onProgress: (read: number) => void
}

export interface RebuildReport {
  readonly foundAtPrimary: number
  /** Tagged here, and not in the primary's list. */
  readonly foundHereOnly: number
  /** What would have to go, and waits for a hand at the brake. */
  readonly heldBack: number
}

/** Rows made at a time. */
const PAGE = 1000

/** Rejects as `passNow`, once what is here is tracked all the same, or with the signal's reason. */
export async function rebuild(deps: RebuildDeps, options: RebuildOptions): Promise<RebuildReport> {
  const { tracking, reconciler } = deps
  await tracking.clear()
  const [comparison] = await Promise.allSettled([reconciler.passNow()])
  await trackStored(deps, options)
  if (comparison.status === 'rejected') throw comparison.reason
  const { discovered, gone, heldBack } = comparison.value
  return { foundAtPrimary: discovered, foundHereOnly: gone, heldBack }
}

async function trackStored(
  { tracking, holdings, modeOf }: RebuildDeps,
  { signal, onProgress }: RebuildOptions,
): Promise<void> {
  let read = 0
  let page: RepositoryName[] = []
  const flush = async () => {
    await tracking.discover(page)
    read += page.length
    page = []
    onProgress(read)
  }
  for await (const name of holdings.repositories(signal)) {
    if (modeOf(name) !== 'replicate') continue
    page.push(name)
    if (page.length === PAGE) await flush()
  }
  await flush()
}
