/**
 * Every tag of one repository brought in step: those the primary lists, those held here, those that events name. One
 * that fails is recorded and stops no other (law 9); a primary that is away ends the whole comparison.
 */
import type { Freshness } from '../src/freshness/freshness.ts'
import type { Digest } from '../src/oci/digest.ts'
import type { RepositoryName, Tag } from '../src/oci/reference.ts'
import { forEachBounded } from '../src/store/bounded.ts'
import type { Holdings } from '../src/store/holdings.ts'
import type { Mark, RepositoryIndex } from '../src/store/repository-index.ts'
import { UpstreamError } from '../src/upstream/errors.ts'
import { askAgain, type Patience } from './ask-again.ts'
import type { Heard } from './heard-events.ts'
import type { HeldLease } from './held-lease.ts'
import type { Inventory } from './inventory.ts'
import type { ExtraTag } from './remove-extras.ts'
import { retryInside } from './retry-policy.ts'
import { type SyncTag, type TagAnswer, TagError, type TagQuestion } from './sync-tag.ts'

export interface Comparison {
  /** Before the list of tags was asked for. */
  readonly mark: Mark
  /** The oldest question to the primary that the comparison rests on, wall-clock milliseconds. */
  readonly inventoryAtMs: number
  /** The primary says that it has no such repository. */
  readonly unknown: boolean
  /** What the primary has, as it was put or found here, whole. */
  readonly inStep: ReadonlyMap<Tag, Digest>
  readonly extras: readonly ExtraTag[]
  readonly failing: ReadonlyMap<Tag, TagError>
  /** Tags of which the primary says something else than their events announced, and may yet come to say that. */
  readonly awaited: ReadonlySet<Tag>
}

export interface CompareOptions {
  /** What the primary confirmed at this time or later is believed without another question. */
  readonly trustedSinceMs: number | undefined
  /** Those that failed in the last job: an older word for them is no longer believed. */
  readonly failedBefore: ReadonlySet<Tag>
  /** Look through the store whatever was seen of it before. */
  readonly lookAgain: boolean
}

export type CompareTags = (
  name: RepositoryName,
  heard: Heard,
  lease: HeldLease,
  options: CompareOptions,
) => Promise<Comparison>

export interface CompareTagsDeps {
  readonly inventory: Pick<Inventory, 'tags'>
  readonly holdings: Pick<Holdings, 'tags'>
  readonly index: Pick<RepositoryIndex, 'mark'>
  readonly freshness: Pick<Freshness, 'observeAll'>
  readonly syncTag: SyncTag
}

export interface CompareTagsOptions {
  /** Tags worked at at a time; those that events name have as many places of their own. */
  readonly tagsAtOnce: number
  readonly patience: Patience
  /** Before a question is asked again; default as `retryInside` has it. */
  readonly retryDelayMs?: number | undefined
  /** Wall clock in milliseconds. */
  readonly now: () => number
}

/** So many failures in a row that the primary may be away: the list of tags then tells. */
const FAILURES_IN_A_ROW = 8

/** Throws `UpstreamError` where the tags could not be listed or the primary went away, or the lease's signal's reason. */
export function createCompareTags(deps: CompareTagsDeps, options: CompareTagsOptions): CompareTags {
  const { inventory, holdings, index, freshness, syncTag } = deps
  const { tagsAtOnce, patience, retryDelayMs: firstDelayMs, now } = options
  const { stepsMs, laterMs, settledMs } = patience

  async function list(name: RepositoryName, signal: AbortSignal) {
    try {
      return await retryInside(() => inventory.tags(name, signal), { signal, firstDelayMs })
    } catch (error) {
      if (error instanceof UpstreamError && error.kind === 'absent') return undefined
      throw error
    }
  }

  return async (name, heard, lease, { trustedSinceMs, failedBefore, lookAgain }) => {
    const held = await holdings.tags(name)
    const mark = index.mark()
    // Taken before the question is sent: only then may its answer confirm what it says.
    const observations = await freshness.observeAll(name, held)
    const before = new Map([...observations].map(([tag, observation]) => [tag, { observation, mark }]))
    const answers = new Map<Tag, TagAnswer | TagError>()
    const awaited = new Set<Tag>()
    const away = new AbortController()
    const signal = AbortSignal.any([lease.signal, away.signal])
    let listed: ReadonlyMap<Tag, Digest | undefined> = new Map()
    let unknown = false
    let failures = 0

    function question(tag: Tag, last: boolean): TagQuestion {
      const digest = listed.get(tag)
      const seen = before.get(tag)
      const said = heard.expected.get(tag)
      const stands = last && laterMs === undefined
      const settled = stands || said === undefined || Math.abs(now() - said.heardAtMs) >= settledMs
      return {
        tag,
        listed: digest && seen && { digest, before: seen },
        expected: settled ? undefined : said.digest,
        trustedSinceMs: mustBeAsked(tag) ? undefined : trustedSinceMs,
        suspects: heard.deleted,
        lookAgain,
      }
    }

    /** However lately it was confirmed: an event names it, it is not listed, or it could not be asked for last time. */
    function mustBeAsked(tag: Tag): boolean {
      return heard.removed || heard.expected.has(tag) || !listed.has(tag) || failedBefore.has(tag)
    }

    async function one(tag: Tag, last: boolean): Promise<boolean> {
      lease.signal.throwIfAborted()
      if (away.signal.aborted) return true
      try {
        const answer = await syncTag(name, question(tag, last), lease)
        answers.set(tag, answer)
        if (last && !answer.agrees) awaited.add(tag)
        failures = 0
        return answer.agrees
      } catch (error) {
        if (!(error instanceof TagError)) throw error
        answers.set(tag, error)
        if (++failures % FAILURES_IN_A_ROW === 0) {
          await list(name, lease.signal).catch((reason: unknown) => away.abort(reason))
        }
        return true
      }
    }

    const named = [...heard.expected]
      .filter(([tag, { digest }]) => before.has(tag) || digest !== 'gone')
      .map(([tag]) => tag)

    async function others(): Promise<void> {
      const tags = await list(name, lease.signal).catch((error: unknown) => {
        away.abort(error)
        throw error
      })
      unknown = tags === undefined
      listed = new Map(tags?.map(({ tag, digest }) => [tag, digest]))
      const rest = new Set([...listed.keys(), ...held])
      for (const tag of named) rest.delete(tag)
      if (!unknown) return forEachBounded(rest, tagsAtOnce, async (tag) => void (await one(tag, true)))
      for (const tag of rest) {
        const seen = before.get(tag)
        if (seen) answers.set(tag, { kind: 'absent', before: seen, agrees: true })
      }
    }

    // What events name does not wait for a list that may be long.
    const ends = await Promise.allSettled([
      askAgain(named, { stepsMs, atOnce: tagsAtOnce, signal }, one),
      others(),
    ])
    signal.throwIfAborted()
    for (const end of ends) if (end.status === 'rejected') throw end.reason
    return { ...summary(answers, awaited, mark), awaited, mark, unknown }
  }
}

function summary(answers: ReadonlyMap<Tag, TagAnswer | TagError>, awaited: ReadonlySet<Tag>, { atMs }: Mark) {
  const inStep = new Map<Tag, Digest>()
  const extras: ExtraTag[] = []
  const failing = new Map<Tag, TagError>()
  let inventoryAtMs = atMs
  for (const [tag, answer] of answers) {
    if (answer instanceof TagError) failing.set(tag, answer)
    else if (answer.kind === 'absent') {
      if (!awaited.has(tag)) extras.push({ tag, before: answer.before })
    } else {
      inStep.set(tag, answer.digest)
      inventoryAtMs = Math.min(inventoryAtMs, answer.askedAtMs ?? atMs)
    }
  }
  return { inventoryAtMs, inStep, extras, failing }
}
