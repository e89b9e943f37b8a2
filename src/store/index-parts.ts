/** What links and tags are made of alike. */
import type { Logger } from '../log.ts'
import type { RepositoryName } from '../oci/reference.ts'
import type { Change } from './changes.ts'
import type { Confirmations } from './confirmations.ts'
import { type Coordination, CoordinationUnavailableError } from './coordination.ts'
import type { DurableFiles } from './durable-files.ts'
import type { Guard } from './failures.ts'
import type { Hiding } from './hiding.ts'
import type { Entry, StorePaths } from './paths.ts'
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
