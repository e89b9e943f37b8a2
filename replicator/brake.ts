/**
 * Law 12: removals that no delete event explains are counted, and when a reconciliation would remove too much, none of
 * the rest takes effect until a hand releases the brake. What it let through before is hidden, and restorable.
 */
import type { RepositoryName } from '../src/oci/reference.ts'

export interface Removal {
  readonly repository: RepositoryName
  /** Tags that would be hidden with it. */
  readonly tags: number
  /** The repository as a whole is gone from the primary. */
  readonly whole: boolean
}

export interface BrakeStatus {
  /** Undefined while it is not tripped. */
  readonly trippedAtMs: number | undefined
  /** Since when a hand lets everything through; ends when the next pass begins. */
  readonly releasedAtMs?: number | undefined
  /** What waits for a hand, as far as it is known: counts, and the first 100 repositories. */
  readonly repositories: number
  readonly tags: number
  readonly examples: readonly RepositoryName[]
}

export interface Brake {
  /**
   * Whether all of these removals may take effect now. Trips at 100 repositories, or at 100 tags that are more than 1 %
   * of the site's tags, summed since the pass began (`beginPass`); nothing of the removals that tripped it takes effect.
   * A repeated question about the same repository is counted once a pass.
   */
  allows(removals: readonly Removal[]): Promise<boolean>
  /** A reconciliation begins: what the last one removed no longer counts. A tripped brake stays so. */
  beginPass(): Promise<void>
  status(): Promise<BrakeStatus>
  /** By a hand: what waits may take effect, until the next pass begins. Survives restarts, as a trip does. */
  release(): Promise<void>
}
