/**
 * Where events of the primary and hints of this site come in. An event sets no tag and removes nothing (law 8): it
 * unconfirms what it names, is stored, and wakes a job that asks the primary. It is accepted once all but the waking is
 * done; what a lost wake-up leaves is found by the poll of what is due.
 */
import type { Freshness, HeardChange } from '../src/freshness/freshness.ts'
import type { Logger } from '../src/log.ts'
import type { Metrics } from '../src/metrics.ts'
import type { Digest } from '../src/oci/digest.ts'
import { parseRepositoryName, type RepositoryName } from '../src/oci/reference.ts'
import type { ModeOf } from '../src/oci/repository-mode.ts'
import { PRIORITIES, type Queue } from '../src/queue/queue.ts'
import { forEachBounded } from '../src/store/bounded.ts'
import type { Holdings } from '../src/store/holdings.ts'
import type { RepositoryIndex } from '../src/store/repository-index.ts'
import type { Tracking } from '../src/tracking/tracking.ts'
import type { Notice } from './notification.ts'

export interface InboxDeps {
  readonly tracking: Pick<Tracking, 'accept' | 'touch' | 'find'>
  readonly queue: Pick<Queue, 'wake'>
  readonly freshness: Pick<Freshness, 'hear'>
  readonly index: Pick<RepositoryIndex, 'expireLink' | 'expireRepository'>
  readonly holdings: Pick<Holdings, 'repositories' | 'dropComplete'>
  readonly modeOf: ModeOf
  readonly log: Logger
  readonly metrics: Metrics
}

export interface InboxOptions {
  /** Wall clock in milliseconds; default `Date.now`. */
  readonly now?: (() => number) | undefined
  /** A repository's hints within so many milliseconds are one now and one at their end; default 5000. */
  readonly hintRestMs?: number | undefined
}

export interface Inbox extends Disposable {
  /**
   * Resolves when what the notices name is unconfirmed and they are stored durably, each id once. Rejects when any of it
   * failed: they must come again then.
   */
  accept(notices: readonly Notice[]): Promise<void>
  /** A client of this site met something of the repository that is not here. Best effort; never rejects. */
  hint(name: RepositoryName): Promise<void>
}

/** Repositories whose store is changed at a time for one envelope. */
const AT_ONCE = 16
/** Repositories that rest after a hint; while there are so many, others are left to the reconciliation. */
const MAX_RESTING = 10_000

/** What the notices of one envelope mean to one repository. */
interface Touched {
  readonly changes: HeardChange[]
  readonly deleted: Set<Digest>
  /** All of it may be gone. */
  everything: boolean
}

export function createInbox(deps: InboxDeps, options: InboxOptions = {}): Inbox {
  const { tracking, queue, freshness, index, holdings, modeOf, log, metrics } = deps
  const { now = Date.now, hintRestMs = 5000 } = options
  const waking = new Set<RepositoryName>()
  const again = new Set<RepositoryName>()
  const resting = new Map<RepositoryName, { again: boolean; readonly timer: NodeJS.Timeout }>()

  /**
   * A rename is told of once for all that lies under the path. Each repository held there gets an event of its own, as
   * its own job is to find that its end is no surprise.
   */
  async function withMoved(notices: readonly Notice[]): Promise<Notice[]> {
    const all: Notice[] = []
    for (const notice of notices) {
      all.push(notice)
      const { id, action, repository, renamedTo } = notice
      if (action !== 'rename') continue
      for await (const name of holdings.repositories(undefined, repository)) {
        // A listing wider than asked for must not make the whole site be asked for again.
        if (!name.startsWith(`${repository}/`)) continue
        const to = renamedTo && parseRepositoryName(renamedTo + name.slice(repository.length))
        all.push({ ...notice, id: `${id} ${name}`, repository: name, renamedTo: to })
      }
    }
    return all
  }

  function touchedBy(notices: readonly Notice[]): Map<RepositoryName, Touched> {
    const all = new Map<RepositoryName, Touched>()
    const touched = (name: RepositoryName): Touched => {
      const known = all.get(name)
      if (known) return known
      const made = { changes: [], deleted: new Set<Digest>(), everything: false }
      all.set(name, made)
      return made
    }
    for (const { action, repository, tag, digest, renamedTo } of notices) {
      const named = touched(repository)
      named.changes.push(changeOf({ action, tag, digest }))
      if (action === 'delete' && digest) named.deleted.add(digest)
      // GitLab tells of a deleted repository by its name alone.
      if (action === 'rename' || (action === 'delete' && !digest && !tag)) named.everything = true
      if (renamedTo) touched(renamedTo).changes.push({})
    }
    return all
  }

  async function unconfirm(name: RepositoryName, touched: Touched): Promise<void> {
    await holdings.dropComplete(name)
    if (touched.everything) return await index.expireRepository(name)
    for (const digest of touched.deleted) {
      await index.expireLink(name, 'manifest', digest)
      await index.expireLink(name, 'layer', digest)
    }
  }

  /** One wake-up of a path is under way at a time; those asked for meanwhile are one more. Never rejects. */
  async function wake(key: RepositoryName): Promise<void> {
    if (waking.has(key)) {
      again.add(key)
      return
    }
    waking.add(key)
    try {
      do {
        await queue.wake({ key, priority: PRIORITIES.event })
      } while (again.delete(key))
    } catch (error) {
      log.warn(
        { error, repository: key },
        'an event was stored but its job not woken: the next poll finds it',
      )
    } finally {
      waking.delete(key)
      again.delete(key)
    }
  }

  /** The mode of a renamed path says nothing about the repositories under it. */
  const modeFor = ({ action, repository }: Notice) => (action === 'rename' ? 'replicate' : modeOf(repository))

  async function hint(name: RepositoryName): Promise<void> {
    if (modeOf(name) !== 'replicate') return
    const rest = resting.get(name)
    if (rest) rest.again = true
    if (rest || resting.size >= MAX_RESTING) return
    const timer = setTimeout(() => {
      const rested = resting.get(name)
      resting.delete(name)
      if (rested?.again) void hint(name)
    }, hintRestMs).unref()
    resting.set(name, { again: false, timer })
    try {
      // The client has been served; what failed here is tried again when its time has come, not with each pull.
      if ((await tracking.find(name))?.state === 'failed') return
      await tracking.touch([name], { priority: PRIORITIES.asked, active: true })
      await queue.wake({ key: name, priority: PRIORITIES.asked })
    } catch (error) {
      log.warn({ error, repository: name }, 'hint lost: the reconciliation finds what it was about')
    }
  }

  return {
    async accept(notices) {
      const all = await withMoved(notices)
      const touched = touchedBy(all.filter((notice) => modeFor(notice) !== 'deny'))
      await forEachBounded(touched, AT_ONCE, ([name, { changes }]) => freshness.hear(name, changes))
      await forEachBounded(touched, AT_ONCE, ([name, each]) => unconfirm(name, each))
      const kept = all.filter((notice) => modeFor(notice) === 'replicate')
      const receivedAtMs = now()
      const due =
        kept.length === 0 ? [] : await tracking.accept(kept.map((notice) => ({ ...notice, receivedAtMs })))
      const counted = notices.filter((notice) => modeFor(notice) === 'replicate')
      for (const { action } of counted) metrics.events.inc({ action })
      metrics.eventsIgnored.inc({ reason: 'mode' }, notices.length - counted.length)
      // Not waited for: senders give up after half a second, and a queue that is away can take longer to say so.
      for (const path of new Set(due)) void wake(path)
    },
    hint,
    [Symbol.dispose]() {
      for (const { timer } of resting.values()) clearTimeout(timer)
      resting.clear()
    },
  }
}

/** What an event says of tags. A delete or a rename that names none may be about to take any of them. */
function changeOf({ action, tag, digest }: Pick<Notice, 'action' | 'tag' | 'digest'>): HeardChange {
  if (tag) return { tag, digest: action === 'delete' ? 'gone' : digest }
  return action === 'push' || action === 'mount' ? { digest } : {}
}
