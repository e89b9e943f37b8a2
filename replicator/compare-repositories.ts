/**
 * One pass over the primary's list of repositories: what is new there is tracked, and what is here without being there
 * (or without being allowed here) is put before the brake, all of it at once, before the first job may act on it. Nothing
 * is removed here: each repository's own job asks the primary about it again.
 */
import type { RepositoryName } from '../src/oci/reference.ts'
import type { ModeOf, RepositoryMode } from '../src/oci/repository-mode.ts'
import { PRIORITIES, type Queue } from '../src/queue/queue.ts'
import type { Holdings } from '../src/store/holdings.ts'
import type { Tracking } from '../src/tracking/tracking.ts'
import type { Brake, Removal } from './brake.ts'
import type { Inventory } from './inventory.ts'
import { createNameSet, type NameSet } from './name-set.ts'

export interface CompareDeps {
  readonly inventory: Pick<Inventory, 'repositories'>
  readonly tracking: Pick<Tracking, 'discover' | 'touch' | 'find' | 'list' | 'forget'>
  readonly holdings: Pick<Holdings, 'repositories' | 'tags' | 'links'>
  readonly queue: Pick<Queue, 'wake'>
  readonly brake: Pick<Brake, 'allows'>
  readonly modeOf: ModeOf
}

export interface Comparison {
  /** Repositories the primary listed, of whatever mode. */
  readonly listed: number
  /** Of them, new to the tracking database. */
  readonly discovered: number
  /** Held here with tags and not listed: their jobs ask the primary. */
  readonly gone: number
  /** Held here although their mode is now `passthrough` or `deny`. */
  readonly disallowed: number
  /** Of both, those whose jobs are not woken because the brake says no. */
  readonly heldBack: number
  /** The first few of both. */
  readonly examples: readonly RepositoryName[]
}

const PAGE = 1000
const EXAMPLES = 5
const NOT_KEPT: readonly RepositoryMode[] = ['passthrough', 'deny']

/** Throws `UpstreamError` when the list could not be had whole: nothing is taken for gone then. */
export async function compareRepositories(
  deps: CompareDeps,
  startedAtMs: number,
  signal: AbortSignal,
): Promise<Comparison> {
  const { inventory, tracking, queue, brake, modeOf } = deps
  const listed = createNameSet()
  let discovered = 0
  for await (const page of inventory.repositories(signal)) {
    listed.add(page)
    discovered += await tracking.discover(page.filter((name) => modeOf(name) === 'replicate'))
  }
  const { gone, disallowed, unread } = await heldHere(deps, listed, startedAtMs, signal)
  let allowed: Removal[] = []
  for (const removals of [gone, disallowed]) {
    if (await brake.allows(removals)) allowed = allowed.concat(removals)
  }
  const asked = [...allowed, ...unread].map(nameOf)
  const held = new Set([...gone, ...disallowed, ...unread].map(nameOf))
  for await (const name of trackedOnly(deps, listed, held, startedAtMs, signal)) asked.push(name)
  for (let at = 0; at < asked.length; at += PAGE) {
    const some = asked.slice(at, at + PAGE)
    signal.throwIfAborted()
    await tracking.touch(some, { priority: PRIORITIES.reconcile })
    await Promise.all(some.map((key) => queue.wake({ key, priority: PRIORITIES.reconcile })))
  }
  return {
    listed: listed.size,
    discovered,
    gone: gone.length,
    disallowed: disallowed.length,
    heldBack: gone.length + disallowed.length - allowed.length,
    examples: [...gone.slice(0, EXAMPLES), ...disallowed.slice(0, EXAMPLES)].map(nameOf),
  }
}

/** `unread`: nothing of them can be pulled by tag, as of a repository that GitLab empties and then no longer lists. */
async function heldHere(
  { holdings, tracking, modeOf }: CompareDeps,
  listed: NameSet,
  startedAtMs: number,
  signal: AbortSignal,
) {
  const gone: Removal[] = []
  const disallowed: Removal[] = []
  const unread: Removal[] = []
  for await (const repository of holdings.repositories(signal)) {
    const kept = !NOT_KEPT.includes(modeOf(repository))
    if (kept && listed.has(repository)) continue
    const tags = (await holdings.tags(repository)).length
    if (tags === 0 && !(await hasLinks(holdings, repository))) continue
    const row = kept ? await tracking.find(repository) : undefined
    // Pushed while the list was being read: it may have come too late for its page.
    if (row && row.createdAtMs >= startedAtMs) continue
    const removal = { repository, tags, whole: true }
    if (tags === 0) unread.push(removal)
    else (kept ? gone : disallowed).push(removal)
  }
  return { gone, disallowed, unread }
}

function nameOf({ repository }: Removal): RepositoryName {
  return repository
}

async function hasLinks(holdings: CompareDeps['holdings'], name: RepositoryName): Promise<boolean> {
  for (const kind of ['manifest', 'layer'] as const) {
    if ((await holdings.links(name, kind)).length > 0) return true
  }
  return false
}

/** Tracked, not listed, and nothing of it here: to be asked once more; what may not be here is no longer tracked. */
async function* trackedOnly(
  { tracking, modeOf }: CompareDeps,
  listed: NameSet,
  held: ReadonlySet<RepositoryName>,
  startedAtMs: number,
  signal: AbortSignal,
): AsyncGenerator<RepositoryName> {
  for (let after: RepositoryName | undefined; ; ) {
    signal.throwIfAborted()
    const rows = await tracking.list({ after, limit: PAGE })
    for (const { path, state, missingOnPrimary, createdAtMs } of rows) {
      if (held.has(path)) continue
      if (NOT_KEPT.includes(modeOf(path))) await tracking.forget(path)
      else if (state === 'synced' && !missingOnPrimary && createdAtMs < startedAtMs && !listed.has(path))
        yield path
    }
    after = rows.at(-1)?.path
    if (after === undefined) return
  }
}
