/** What came of one job, in the words that the tracking database keeps (law 9). */
import { FillLimitError } from '../src/fill/fill.ts'
import type { Digest } from '../src/oci/digest.ts'
import type { Tag } from '../src/oci/reference.ts'
import { StoreError } from '../src/store/blob-store.ts'
import type { FailedOutcome, FailingTag, SyncedOutcome, TrackedRepository } from '../src/tracking/tracking.ts'
import { isOutage, UpstreamError } from '../src/upstream/errors.ts'
import type { Comparison } from './compare-tags.ts'
import { CopyError } from './copying.ts'
import { ManifestError } from './manifest-children.ts'
import type { DigestFailures, RemovedTags } from './remove-extras.ts'
import { nextAttempt } from './retry-policy.ts'
import { NotKeptError, OvertakenError, TagError } from './sync-tag.ts'
import { tagListDigest } from './tag-list-digest.ts'

/** Nothing is removed until a hand releases the brake. */
export class HeldBackError extends Error {
  override readonly name = 'HeldBackError'
}

export interface Findings {
  readonly compared: Comparison
  readonly removed: RemovedTags
  /** What is here in the end, of the tags that were compared. */
  readonly here: ReadonlyMap<Tag, Digest>
  /** Digests that events named, or that are held without a tag, and that could not be settled. */
  readonly digestFailures: DigestFailures
}

const STANDS_ALONE = [StoreError, HeldBackError]

/** What was known before. */
export interface Past {
  readonly row: TrackedRepository | undefined
  readonly failingTags: readonly FailingTag[]
  /** Failed attempts before this one. */
  readonly retryCount: number
  /** Wall clock in milliseconds. */
  readonly now: () => number
}

export function outcomeOf(findings: Findings, past: Past): SyncedOutcome | FailedOutcome {
  const { compared, removed, here, digestFailures } = findings
  const { inStep, failing, inventoryAtMs } = compared
  const checksum = tagListDigest(here)
  const primaryChecksum = tagListDigest(inStep)
  const problems = problemsOf(findings, checksum !== primaryChecksum)
  if (problems.length === 0) {
    const missingOnPrimary = compared.unknown && inStep.size === 0
    return {
      kind: 'synced',
      tagsCount: inStep.size,
      inventoryAtMs,
      checksum,
      primaryChecksum,
      missingOnPrimary,
    }
  }
  const failingTags = failingTagsOf(failing, removed.overtaken, past)
  const missing = missingUnder(failing.values())
  // What only waits for the brake is let through as soon as it is released, so it is tried for as long as it takes.
  const persistent = failingTags.length > 0 || digestFailures.size > 0
  return {
    ...failure(problems.join('; '), past, persistent),
    failingTags,
    blobsOutstanding: missing.blobs,
    bytesOutstanding: missing.bytes,
    tagsCount: inStep.size + failing.size,
    inventoryAtMs,
  }
}

/** The job failed before or while it compared: what was known to fail still does. */
export function failedAltogether(error: unknown, past: Past): FailedOutcome {
  const { kind } = error instanceof UpstreamError ? error : {}
  const passes = isOutage(error) || kind === 'limited' || kind === 'unauthorized'
  return {
    // An outage, a wrong credential, a full disk or the brake is nobody's to mend in each of the repositories.
    ...failure(messageOf(error), past, !passes && !STANDS_ALONE.some((kind) => error instanceof kind)),
    failingTags: past.failingTags,
    blobsOutstanding: past.row?.blobsOutstanding ?? 0,
    bytesOutstanding: past.row?.bytesOutstanding ?? 0,
  }
}

function failure(message: string, { retryCount, now }: Past, persistent: boolean) {
  const { delayMs, needsAttention } = nextAttempt(retryCount + 1)
  return {
    kind: 'failed' as const,
    message,
    retryAtMs: now() + delayMs,
    needsAttention: needsAttention && persistent,
  }
}

function problemsOf({ compared, removed, digestFailures }: Findings, differs: boolean): string[] {
  const { inStep, failing } = compared
  const problems: string[] = []
  const [tag] = failing
  if (tag) {
    problems.push(`${failing.size} of ${inStep.size + failing.size} tags: ${tag[0]}: ${tag[1].message}`)
  }
  const [digest] = digestFailures
  if (digest) problems.push(`${digestFailures.size} without a tag: ${digest[0]}: ${messageOf(digest[1])}`)
  const { allowed, waiting, overtaken } = removed
  if (!allowed) problems.push(`gone from the primary, held back by the brake: ${waiting.length} tags`)
  if (overtaken.length > 0) problems.push(`written while they were to be removed: ${overtaken.length} tags`)
  if (problems.length === 0 && differs) problems.push('Checksum does not match the primary checksum')
  return problems
}

function failingTagsOf(
  failing: ReadonlyMap<Tag, TagError>,
  overtaken: readonly Tag[],
  { failingTags, now }: Past,
): FailingTag[] {
  const since = new Map(failingTags.map(({ tag, sinceMs }) => [tag, sinceMs]))
  const sinceMsOf = (tag: Tag) => since.get(tag) ?? now()
  return [
    ...[...failing].map(([tag, error]) => ({
      tag,
      digest: error.digest,
      kind: kindOf(error),
      message: error.message,
      sinceMs: sinceMsOf(tag),
    })),
    ...overtaken.map((tag) => ({
      tag,
      digest: undefined,
      kind: 'overtaken',
      message: 'written while it was to be removed',
      sinceMs: sinceMsOf(tag),
    })),
  ]
}

/** Two tags of one image miss the same. */
function missingUnder(errors: Iterable<TagError>): { blobs: number; bytes: number } {
  const missing = new Map<Digest | undefined, { blobs: number; bytes: number }>()
  for (const { digest, cause } of errors) if (cause instanceof CopyError) missing.set(digest, cause.missing)
  let blobs = 0
  let bytes = 0
  for (const each of missing.values()) {
    blobs += each.blobs
    bytes += each.bytes
  }
  return { blobs, bytes }
}

/** Short and stable: what a list of failing tags is sorted and searched by. */
function kindOf(error: unknown): string {
  if (error instanceof TagError || error instanceof CopyError) return kindOf(error.cause)
  if (error instanceof UpstreamError) return error.kind
  if (error instanceof StoreError) return `store-${error.kind}`
  if (error instanceof NotKeptError || error instanceof ManifestError) return 'not-kept'
  if (error instanceof OvertakenError) return 'overtaken'
  if (error instanceof FillLimitError) return 'limited'
  return 'error'
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
