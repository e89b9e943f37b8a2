/**
 * What a failover to this copy would lose: every tag of the primary that is not here, names something else here, or
 * whose image is not here whole. By the primary's own lists where it can be asked, else by what was last known of it;
 * what cannot be told is said to be unknown, never counted as safe.
 */
import type { Digest } from '../src/oci/digest.ts'
import type { RepositoryName, Tag } from '../src/oci/reference.ts'
import type { Holdings } from '../src/store/holdings.ts'
import type { RepositoryIndex } from '../src/store/repository-index.ts'
import type { Tracking } from '../src/tracking/tracking.ts'
import { UpstreamError } from '../src/upstream/errors.ts'
import type { Copying, Missing } from './copying.ts'
import type { Inventory, ListedTag } from './inventory.ts'

/**
 * `absent`: not here. `older`: another digest is here. `incomplete`: the digest is right, but not all under it is here.
 * `unchecked`: here whole, but nobody says whether the primary's is still the same. `unlisted`: nobody says which tags
 * the primary has in this repository, for it was never listed, or something was heard of since.
 */
export type LossKind = 'absent' | 'older' | 'incomplete' | 'unchecked' | 'unlisted'

export interface Loss {
  readonly repository: RepositoryName
  /** Undefined only when `unlisted`. */
  readonly tag: Tag | undefined
  readonly kind: LossKind
  readonly digestHere: Digest | undefined
  /** Undefined when it is not known. */
  readonly digestThere: Digest | undefined
  /** Of what is here; undefined when it is whole, or nothing is here. */
  readonly missing: Missing | undefined
}

export interface ExportReport {
  readonly repositories: number
  /** Of them, those whose tags the primary listed just now; the others are compared with what was last known. */
  readonly repositoriesAsked: number
  /** Whether the primary's list of repositories was read to its end: else a new one may be missing from the report. */
  readonly allRepositoriesAsked: boolean
  readonly tags: number
  readonly losses: Readonly<Record<LossKind, number>>
  /** Under `incomplete` tags; what several share in one repository counts once for each. */
  readonly missing: Missing
}

export interface ExportCheckDeps {
  readonly inventory: Inventory
  readonly holdings: Pick<Holdings, 'repositories' | 'tags' | 'completeSince'>
  readonly index: Pick<RepositoryIndex, 'tag'>
  readonly copying: Pick<Copying, 'missing'>
  /** Where there is one: what the last jobs saw, of repositories that are not here, too. */
  readonly tracking?: Pick<Tracking, 'list' | 'find' | 'failingTags'> | undefined
  /** Asks the primary for a tag that its list gave no digest for; without it such tags are `unchecked`. */
  readonly digestThere?:
    | ((name: RepositoryName, tag: Tag, signal?: AbortSignal) => Promise<Digest | undefined>)
    | undefined
}

export interface ExportCheckOptions {
  readonly signal?: AbortSignal | undefined
  /** Told each loss as it is found; nothing more is looked at until it resolves. */
  readonly onLoss: (loss: Loss) => void | Promise<void>
}

/** Tags to compare with what is here, and whose word they are. */
interface Known {
  readonly tags: readonly ListedTag[]
  /** `asked`: the primary's of now. `last`: its last one. `unlisted`: what is here, for want of it. */
  readonly source: 'asked' | 'last' | 'unlisted'
}

/** Failures in a row behind which the primary counts as away, so that the rest is not held up by time-outs. */
const FAILURES_UNTIL_AWAY = 3
const PAGE = 1000

/** Throws what store and tracking throw, or the signal's reason; a primary that cannot be asked is no error. */
export async function exportCheck(
  deps: ExportCheckDeps,
  { signal, onLoss }: ExportCheckOptions,
): Promise<ExportReport> {
  const primary = createPatience(signal)
  const losses: Record<LossKind, number> = { absent: 0, older: 0, incomplete: 0, unchecked: 0, unlisted: 0 }
  const counts = { repositories: 0, repositoriesAsked: 0, tags: 0 }
  const missing = { blobs: 0, bytes: 0 }

  async function report(loss: Loss): Promise<void> {
    losses[loss.kind] += 1
    if (loss.kind === 'incomplete') {
      missing.blobs += loss.missing?.blobs ?? 0
      missing.bytes += loss.missing?.bytes ?? 0
    }
    await onLoss(loss)
  }

  async function checkRepository(repository: RepositoryName): Promise<void> {
    const known = await knownTags(repository, deps, primary, signal)
    if (!known) return
    counts.repositories += 1
    if (known.source === 'asked') counts.repositoriesAsked += 1
    if (known.source === 'unlisted') {
      const nothing = { tag: undefined, digestHere: undefined, digestThere: undefined, missing: undefined }
      await report({ repository, kind: 'unlisted', ...nothing })
    }
    const missingUnder = remembering((digest: Digest) => deps.copying.missing(repository, digest))
    for (const listed of known.tags) {
      signal?.throwIfAborted()
      counts.tags += 1
      const loss = await lossOf(repository, listed, known.source === 'asked', missingUnder)
      if (loss) await report(loss)
    }
  }

  async function lossOf(
    repository: RepositoryName,
    { tag, digest }: ListedTag,
    mayAsk: boolean,
    missingUnder: (digest: Digest) => Promise<Missing>,
  ): Promise<Loss | undefined> {
    const digestHere = (await deps.index.tag(repository, tag))?.digest
    const ask = mayAsk && digestHere && !digest ? deps.digestThere : undefined
    const answer = ask && (await primary.ask(() => ask(repository, tag, signal)))
    if (answer === 'absent') return undefined // Deleted since it was listed.
    const digestThere = digest ?? (answer === 'unknown' ? undefined : answer)
    const loss = { repository, tag, digestHere, digestThere }
    if (!digestHere) return { ...loss, kind: 'absent', missing: undefined }
    const gap = await missingUnder(digestHere)
    const missing = gap.blobs > 0 ? gap : undefined
    if (digestThere && digestThere !== digestHere) return { ...loss, kind: 'older', missing }
    if (missing) return { ...loss, kind: 'incomplete', missing }
    return digestThere ? undefined : { ...loss, kind: 'unchecked', missing }
  }

  const seen = new Set<RepositoryName>()
  const allRepositoriesAsked = await primary.ask(async () => {
    for await (const page of deps.inventory.repositories(signal)) {
      for (const name of page) {
        if (seen.has(name)) continue
        seen.add(name)
        await checkRepository(name)
      }
    }
    return true
  })
  if (allRepositoriesAsked !== true) {
    for await (const name of lastKnownRepositories(deps, signal)) {
      if (seen.has(name)) continue
      seen.add(name)
      await checkRepository(name)
    }
  }
  return { ...counts, allRepositoriesAsked: allRepositoriesAsked === true, losses, missing }
}

/** Undefined when the primary has, or last had, no such repository: nothing of it can be lost. */
async function knownTags(
  name: RepositoryName,
  deps: ExportCheckDeps,
  primary: Patience,
  signal: AbortSignal | undefined,
): Promise<Known | undefined> {
  const asked = await primary.ask(() => deps.inventory.tags(name, signal))
  if (asked === 'absent') return undefined
  if (asked !== 'unknown') return { tags: asked, source: 'asked' }
  const tracked = await deps.tracking?.find(name)
  if (tracked?.missingOnPrimary) return undefined
  const settled = tracked?.state === 'synced' || tracked?.state === 'failed'
  const isLast =
    (settled && tracked.inventoryAtMs !== undefined) ||
    (await deps.holdings.completeSince(name)) !== undefined
  const tags = new Map<Tag, Digest | undefined>()
  for (const tag of await deps.holdings.tags(name)) {
    tags.set(tag, (await deps.index.tag(name, tag))?.digest)
  }
  for (const { tag, digest } of (await deps.tracking?.failingTags(name)) ?? []) tags.set(tag, digest)
  return {
    tags: [...tags].map(([tag, digest]) => ({ tag, digest })),
    source: isLast ? 'last' : 'unlisted',
  }
}

async function* lastKnownRepositories(
  { tracking, holdings }: ExportCheckDeps,
  signal: AbortSignal | undefined,
): AsyncGenerator<RepositoryName> {
  let after: string | undefined
  while (tracking) {
    const page = await tracking.list({ after, limit: PAGE })
    for (const { path } of page) yield path
    after = page.at(-1)?.path
    if (page.length < PAGE) break
  }
  yield* holdings.repositories(signal)
}

interface Patience {
  /** The primary's answer; `absent` is one, and `unknown` stands for none. */
  ask<T>(question: () => Promise<T>): Promise<T | 'absent' | 'unknown'>
}

function createPatience(signal: AbortSignal | undefined): Patience {
  let failuresInRow = 0
  return {
    ask: async (question) => {
      if (failuresInRow >= FAILURES_UNTIL_AWAY) return 'unknown'
      try {
        const answer = await question()
        failuresInRow = 0
        return answer
      } catch (error) {
        signal?.throwIfAborted()
        if (!(error instanceof UpstreamError)) throw error
        if (error.kind === 'absent') return 'absent'
        // A no, or nonsense, says nothing about the next question.
        if (error.kind === 'unavailable') failuresInRow += 1
        return 'unknown'
      }
    },
  }
}

function remembering<K, V>(load: (key: K) => Promise<V>): (key: K) => Promise<V> {
  const known = new Map<K, V>()
  return async (key) => {
    const value = known.get(key) ?? (await load(key))
    known.set(key, value)
    return value
  }
}
