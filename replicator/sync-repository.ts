/**
 * One job: a repository brought in step with the primary, under a lease, and what came of it settled. Everything it does
 * may be repeated; whatever goes wrong is an outcome, never a rejection.
 */
import type { Confirm } from '../src/fill/confirm.ts'
import type { Freshness } from '../src/freshness/freshness.ts'
import type { Logger } from '../src/log.ts'
import type { Metrics } from '../src/metrics.ts'
import type { Digest } from '../src/oci/digest.ts'
import { parseRepositoryName, type RepositoryName, type Tag } from '../src/oci/reference.ts'
import type { ModeOf, RepositoryMode } from '../src/oci/repository-mode.ts'
import { PRIORITIES, type Queue, type Run } from '../src/queue/queue.ts'
import type { BlobStore } from '../src/store/blob-store.ts'
import type { Holdings } from '../src/store/holdings.ts'
import type { RepositoryIndex } from '../src/store/repository-index.ts'
import type { Lease, SyncOutcome, Tracking } from '../src/tracking/tracking.ts'
import { UpstreamError } from '../src/upstream/errors.ts'
import type { Upstream } from '../src/upstream/upstream.ts'
import { patienceOf } from './ask-again.ts'
import type { Brake } from './brake.ts'
import { type Comparison, createCompareTags } from './compare-tags.ts'
import type { Copying } from './copying.ts'
import { appliedThrough, type Heard, readEvents } from './heard-events.ts'
import { type HeldLease, holdLease } from './held-lease.ts'
import type { Inventory } from './inventory.ts'
import { missedAtMs } from './missed.ts'
import { createRemoveExtras } from './remove-extras.ts'
import { retryInside } from './retry-policy.ts'
import { createSettleEvents } from './settle-events.ts'
import { failedAltogether, HeldBackError, outcomeOf, type Past } from './sync-outcome.ts'
import { createSyncTag } from './sync-tag.ts'
import type { WholeGraphs } from './whole-graphs.ts'

export interface SyncRepositoryDeps {
  readonly tracking: Pick<
    Tracking,
    'lease' | 'renew' | 'settle' | 'find' | 'touch' | 'pendingEvents' | 'failingTags' | 'forget' | 'cursor'
  >
  readonly inventory: Pick<Inventory, 'tags'>
  readonly copying: Copying
  readonly confirm: Confirm
  readonly upstream: Pick<Upstream, 'getManifest' | 'confirmManifest'>
  readonly index: RepositoryIndex
  readonly blobs: Pick<BlobStore, 'stat' | 'read'>
  readonly holdings: Pick<Holdings, 'tags' | 'links' | 'markComplete' | 'dropComplete'>
  readonly freshness: Pick<Freshness, 'observe' | 'observeAll' | 'stands' | 'confirm'>
  readonly brake: Pick<Brake, 'allows'>
  readonly queue: Pick<Queue, 'wake'>
  readonly whole: WholeGraphs
  readonly modeOf: ModeOf
  readonly log: Logger
  readonly metrics: Pick<Metrics, 'replicationRuns' | 'tagsRemoved'>
  /** Wall clock in milliseconds; default `Date.now`. */
  readonly now?: (() => number) | undefined
}

export interface SyncRepositoryOptions {
  /** `digests.recheck` in milliseconds. */
  readonly recheckMs: number
  /**
   * `replication.reconcile` in milliseconds: a tag that the primary confirmed within it is not asked for again because
   * of another one. Undefined: every job asks for every tag whose digest the list does not say.
   */
  readonly reconcileMs?: number | undefined
  /** A lease is renewed while its job runs, and ends so long after its process died; default 5 min. */
  readonly leaseTtlMs?: number | undefined
  /** Default 4. */
  readonly tagsAtOnce?: number | undefined
  /**
   * When what an event named is asked for again because the primary says something else: inside the job as far as that
   * is soon, by another one from the first step over a second on, until the event is as old as the last step.
   */
  readonly eventRetryMs?: readonly number[] | undefined
  /** Before a question that got no answer is asked again; default 500, growing. */
  readonly retryDelayMs?: number | undefined
}

/** How a job ended, and what follows once that is settled. */
interface Result {
  readonly outcome: SyncOutcome
  readonly appliedThrough?: number | undefined
  readonly afterwards?: (() => Promise<void>) | undefined
}

/** What a job knows of its repository before it asks anybody. */
interface Job {
  readonly name: RepositoryName
  readonly lease: HeldLease
  readonly heard: Heard
  readonly past: Past
  /** When it was last found that events may have been missed; undefined: never. */
  readonly missedAtMs: number | undefined
}

const EVENT_RETRY_MS = [100, 400, 1000, 5000, 15_000, 60_000]

export function createSyncRepository(deps: SyncRepositoryDeps, options: SyncRepositoryOptions): Run {
  const { tracking, inventory, index, holdings, freshness, queue, modeOf, log, metrics } = deps
  const { now = Date.now } = deps
  const { recheckMs, reconcileMs, leaseTtlMs = 300_000, tagsAtOnce: atOnce = 4 } = options
  const { eventRetryMs = EVENT_RETRY_MS, retryDelayMs } = options
  const patience = patienceOf(eventRetryMs)
  const syncTag = createSyncTag(deps, { recheckMs, retryDelayMs })
  const compareTags = createCompareTags(
    { ...deps, syncTag },
    { tagsAtOnce: atOnce, patience, retryDelayMs, now },
  )
  const extras = createRemoveExtras(deps, { atOnce, recheckMs, retryDelayMs, now })
  const settleEvents = createSettleEvents({ ...deps, extras }, { atOnce, patience, now })

  async function run(name: RepositoryName, signal: AbortSignal): Promise<void> {
    const given = await take(name)
    if (!given) return
    using lease = holdLease({ tracking, log }, given, { signal, ttlMs: leaseTtlMs })
    const { outcome, appliedThrough, afterwards } = await attempt(name, lease)
    if (lease.lost) {
      metrics.replicationRuns.inc({ outcome: 'lost' })
      log.warn(
        { repository: name, error: lease.signal.reason },
        'the lease was lost: nothing more is written',
      )
      return
    }
    const settled = await tracking.settle(lease.lease, outcome, appliedThrough)
    metrics.replicationRuns.inc({ outcome: settled === 'stale' ? 'lost' : outcome.kind })
    if (outcome.kind === 'failed') {
      log.warn({ repository: name, ...outcome, failingTags: undefined }, 'not in step')
    }
    if (settled === 'again') await queue.wake({ key: name, priority: PRIORITIES.event })
    if (settled === 'done') await afterwards?.()
  }

  async function take(name: RepositoryName): Promise<Lease | undefined> {
    const lease = await tracking.lease(name, leaseTtlMs)
    if (lease || reconcileMs === undefined) return lease
    // Woken to be compared once more, although nothing was heard of it.
    const row = await tracking.find(name)
    if (row?.state !== 'synced' || !isComparisonDue(row.inventoryAtMs)) return undefined
    await tracking.touch([name], { priority: PRIORITIES.reconcile })
    return tracking.lease(name, leaseTtlMs)
  }

  /** The reconciler begins at half of the period. */
  function isComparisonDue(inventoryAtMs: number | undefined): boolean {
    return (
      reconcileMs === undefined || inventoryAtMs === undefined || now() - inventoryAtMs >= reconcileMs / 2
    )
  }

  async function attempt(name: RepositoryName, lease: HeldLease): Promise<Result> {
    const { retryCount } = lease.lease
    // Before the primary is asked: what is heard of later makes the job run again.
    const heard = readEvents(await tracking.pendingEvents(name))
    const [row, failingTags, missed] = await Promise.all([
      tracking.find(name),
      tracking.failingTags(name),
      missedAtMs(tracking),
    ])
    const past = { row, failingTags, retryCount, now }
    try {
      const mode = modeOf(name)
      const job = { name, lease, heard, past, missedAtMs: missed }
      return mode === 'replicate' ? await replicate(job) : await leave(job, mode)
    } catch (error) {
      if (lease.signal.aborted) return { outcome: { kind: 'released' } }
      log.warn({ error, repository: name }, 'a job ended before its repository was compared')
      return { outcome: failedAltogether(error, past) }
    }
  }

  async function replicate(job: Job): Promise<Result> {
    const { name, lease, heard, past } = job
    const { lookAgain, trustedSinceMs } = thoroughness(job)
    const failedBefore = new Set(past.failingTags.map(({ tag }) => tag))
    const [compared, pushed] = await both(
      compareTags(name, heard, lease, { lookAgain, trustedSinceMs, failedBefore }),
      settleEvents.pushed(name, heard, lease),
    )
    const gone = await isGone(compared, job)
    const removed = gone
      ? await extras.whole(name, compared.extras, heard, compared.mark, lease)
      : await extras.tags(name, compared.extras, heard, lease)
    const deleted = await settleEvents.deleted(name, heard, lease)
    // A primary that lost this much may have lost its digests too: they wait for the same hand.
    const looks = lookAgain && !gone && removed.allowed
    const untagged = looks ? await extras.untagged(name, compared.inStep.values(), lease) : []
    const here = await heldOf(name, compared)
    const outcome = outcomeOf(
      { compared, removed, here, digestFailures: new Map([...pushed.failures, ...deleted, ...untagged]) },
      past,
    )
    const awaits = outcome.kind === 'synced' && compared.awaited.size + pushed.awaited.size > 0
    return {
      outcome: awaits ? { kind: 'released' } : outcome,
      appliedThrough: appliedThrough(heard.events, {
        digests: new Set([...pushed.failures.keys(), ...pushed.awaited, ...deleted.keys()]),
        tags: new Set([...compared.failing.keys(), ...removed.overtaken]),
        awaited: compared.awaited,
      }),
      afterwards: async () => {
        if (awaits) return queue.wake({ key: name, priority: PRIORITIES.event, delayMs: patience.laterMs })
        if (outcome.kind === 'synced' && gone) return forget(name, lease)
        if (outcome.kind === 'synced') return holdings.markComplete(name, compared.mark)
        // A tag that nobody could ask about may still be whole; one that is known to be lacking is not.
        const lacking = compared.failing.values().some(({ digest }) => digest !== undefined)
        if (lacking) await holdings.dropComplete(name)
      },
    }
  }

  /** How much is believed without asking the primary, and without looking at the disk, again. */
  function thoroughness({ past: { row, retryCount }, missedAtMs = 0 }: Job) {
    const inventoryAtMs = row?.inventoryAtMs
    // Pending at first, or after a failure, says only that; by a hand (`reverify`) it says: everything.
    const byHand = row?.verificationState === 'pending' && retryCount === 0 && inventoryAtMs !== undefined
    const lookAgain = byHand || isComparisonDue(inventoryAtMs)
    if (byHand || reconcileMs === undefined) return { lookAgain, trustedSinceMs: undefined }
    // A job that was cut short does not begin at its first tag again.
    return { lookAgain, trustedSinceMs: Math.max(missedAtMs, lookAgain ? now() - reconcileMs / 4 : 0) }
  }

  async function isGone(compared: Comparison, { name, lease }: Job): Promise<boolean> {
    const { unknown, inStep, failing, awaited } = compared
    if (!unknown || inStep.size + failing.size + awaited.size > 0) return false
    return await extras.nothingLeft(name, lease)
  }

  /** Its mode asks for nothing to be kept in step, or for nothing to be here at all. */
  async function leave({ name, lease, heard }: Job, mode: RepositoryMode): Promise<Result> {
    await holdings.dropComplete(name)
    const mark = index.mark()
    const tags = await holdings.tags(name)
    const observations = await freshness.observeAll(name, tags)
    const all = [...observations].map(([tag, observation]) => ({ tag, before: { observation, mark } }))
    const onDemand = mode === 'ondemand'
    if (!onDemand || (await isUnknown(name, lease))) {
      // What the primary did explains what it has no longer, and never what is not allowed here.
      const known = onDemand ? heard : readEvents([])
      const removed = await extras.whole(name, all, known, onDemand ? mark : { atMs: Infinity }, lease)
      if (!removed.allowed) throw new HeldBackError(`held back by the brake: ${all.length} tags`)
    }
    return {
      outcome: { kind: 'released' },
      appliedThrough: heard.events.at(-1)?.sequence,
      afterwards: () => forget(name, lease),
    }
  }

  async function isUnknown(name: RepositoryName, lease: HeldLease): Promise<boolean> {
    const { signal } = lease
    try {
      await retryInside(() => inventory.tags(name, signal), { signal, firstDelayMs: retryDelayMs })
      return false
    } catch (error) {
      if (!(error instanceof UpstreamError) || error.kind !== 'absent') throw error
      return extras.nothingLeft(name, lease)
    }
  }

  async function heldOf(name: RepositoryName, { inStep, extras: absent }: Comparison) {
    const here = new Map<Tag, Digest>()
    for (const tag of [...inStep.keys(), ...absent.map((extra) => extra.tag)]) {
      const held = await index.tag(name, tag)
      if (held) here.set(tag, held.digest)
    }
    return here
  }

  /** What was heard since the job settled must not be forgotten with the row. */
  async function forget(name: RepositoryName, { lease: { change } }: HeldLease): Promise<void> {
    if ((await tracking.pendingEvents(name)).length === 0) await tracking.forget(name, change)
  }

  return async (key, signal) => {
    const name = parseRepositoryName(key)
    if (!name) return // Another piece of work, which is somebody else's.
    try {
      await run(name, signal)
    } catch (error) {
      // The database, mostly. A lease that was given ends by itself, and the repository is due again.
      log.error({ error, repository: name }, 'a job could not be begun, or what came of it not be settled')
    }
  }
}

/** Both have ended when this resolves or rejects, so that nothing of a job goes on after it. */
async function both<A, B>(one: Promise<A>, other: Promise<B>): Promise<[A, B]> {
  await Promise.allSettled([one, other])
  return [await one, await other]
}
