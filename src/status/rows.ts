/** Rows of tracking and the rest as JSON: GitLab's names in its GraphQL API, times as ISO 8601, null for what is not there. */
import type { FailingTag, TrackedRepository } from '../tracking/tracking.ts'
import type {
  AheadContent,
  BrakeState,
  Explanation,
  ExportLoss,
  HiddenContent,
} from './replication-control.ts'

export type RepositoryRow = ReturnType<typeof repositoryRow>
export type FailingTagRow = ReturnType<typeof failingTagRow>
export type ExplanationRow = ReturnType<typeof explanationRow>
export type BrakeRow = ReturnType<typeof brakeRow>
export type HiddenRow = ReturnType<typeof hiddenRow>
export type AheadRow = ReturnType<typeof aheadRow>
export type LossRow = ReturnType<typeof lossRow>

export function repositoryRow(row: TrackedRepository) {
  return {
    id: row.id,
    path: row.path,
    state: row.state,
    retryCount: row.retryCount,
    retryAt: iso(row.retryAtMs),
    lastSyncFailure: row.lastSyncFailure ?? null,
    lastSyncedAt: iso(row.lastSyncedAtMs),
    createdAt: iso(row.createdAtMs),
    needsAttention: row.needsAttention,
    missingOnPrimary: row.missingOnPrimary,
    verificationState: row.verificationState,
    verifiedAt: iso(row.verifiedAtMs),
    verificationFailure: row.verificationFailure ?? null,
    verificationChecksum: row.verificationChecksum ?? null,
    verificationChecksumMismatched: row.verificationChecksumMismatched ?? null,
    checksumMismatch: row.checksumMismatch,
    tagsCount: row.tagsCount,
    failingTagsCount: row.failingTagsCount,
    blobsOutstanding: row.blobsOutstanding,
    bytesOutstanding: row.bytesOutstanding,
    inventoryAt: iso(row.inventoryAtMs),
    activeAt: iso(row.activeAtMs),
  }
}

export function failingTagRow({ tag, digest, kind, message, sinceMs }: FailingTag) {
  return { tag, digest: digest ?? null, kind, message, since: iso(sinceMs) }
}

export function explanationRow(explanation: Explanation) {
  const { source, why, digestHere, digestThere, sinceMs, mode } = explanation
  return {
    source,
    why,
    digestHere: digestHere ?? null,
    digestThere: digestThere ?? null,
    since: iso(sinceMs),
    mode,
  }
}

export function brakeRow({ trippedAtMs, repositories, tags, examples }: BrakeState) {
  const tripped = trippedAtMs !== undefined
  return { tripped, trippedAt: iso(trippedAtMs), repositories, tags, examples }
}

export function hiddenRow({ id, hiddenAtMs, repository, tags, links }: HiddenContent) {
  return { id, hiddenAt: iso(hiddenAtMs), repository, tags, links }
}

export function aheadRow({ repository, tag, digest }: AheadContent) {
  return { repository, tag: tag ?? null, digest }
}

export function lossRow({ repository, tag, kind, digestHere, digestThere, missing }: ExportLoss) {
  return {
    repository,
    tag: tag ?? null,
    kind,
    digestHere: digestHere ?? null,
    digestThere: digestThere ?? null,
    missing: missing ?? null,
  }
}

function iso(timeMs: number | undefined): string | null {
  return timeMs === undefined ? null : new Date(timeMs).toISOString()
}
