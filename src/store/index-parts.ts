/** What links and tags are made of alike. */
import type { Logger } from '../log.ts'
import type { Digest } from '../oci/digest.ts'
import type { RepositoryName } from '../oci/reference.ts'
import type { Change } from './changes.ts'
import type { Confirmations } from './confirmations.ts'
import { type Coordination, CoordinationUnavailableError, mayStay } from './coordination.ts'
import type { DurableFiles } from './durable-files.ts'
import type { Guard } from './failures.ts'
import type { Hiding } from './hiding.ts'
import type { Entry, StorePaths } from './paths.ts'
import type { Mark } from './repository-index.ts'
import type { Skipping } from './skipping.ts'

export interface IndexParts {
  readonly paths: StorePaths
  readonly files: DurableFiles
  readonly coordination: Coordination
  readonly confirmations: Confirmations
  readonly hiding: Hiding
  readonly change: Change
  readonly skipping: Skipping
  readonly guard: Guard
  readonly log: Logger
}

export interface Word {
  readonly name: RepositoryName
  readonly entry: Entry
  readonly digest: Digest
  /** Taken before the primary was asked. */
  readonly mark: Mark
  /** What overrules it when it was removed since. */
  readonly keys: readonly string[]
  /** When it was confirmed before; undefined: it was not. */
  readonly confirmedAtMs: number | undefined
  /** As when it counts where nobody can say whether it was removed meanwhile; default `confirmedAtMs`. */
  readonly inDoubtMs?: number
}

/**
 * Writes down the primary's word for a link or tag that is here; false: it was overruled meanwhile. In doubt nothing is
 * lost that was confirmed before, for an outage takes nothing away (law 10).
 */
export async function keepWord(
  { coordination, confirmations }: Pick<IndexParts, 'coordination' | 'confirmations'>,
  { name, entry, digest, mark, keys, confirmedAtMs, inDoubtMs = confirmedAtMs }: Word,
  undo: () => Promise<void>,
): Promise<boolean> {
  if (confirmedAtMs === undefined || inDoubtMs === undefined) {
    await confirmations.write(name, entry, digest, mark.atMs)
    return await mayStay(coordination, mark, keys, undo)
  }
  const renew = (atMs: number) => confirmations.renew(name, entry, digest, atMs)
  if (!(await renew(Math.max(mark.atMs, confirmedAtMs)))) return false
  return await mayStay(coordination, mark, keys, undo, async () => void (await renew(inDoubtMs)))
}

/** What must not be served is unconfirmed where the others cannot be told, and the work rejects all the same. */
export async function orUnconfirm(
  { coordination, hiding, guard }: Pick<IndexParts, 'coordination' | 'hiding' | 'guard'>,
  name: RepositoryName,
  entries: () => Promise<readonly Entry[]>,
  work: Promise<void>,
): Promise<void> {
  try {
    await work
  } catch (error) {
    if (error instanceof CoordinationUnavailableError) {
      coordination.overruleAll()
      await guard(`unconfirming in ${name}`, async () => hiding.unconfirm(name, await entries()))
    }
    throw error
  }
}
