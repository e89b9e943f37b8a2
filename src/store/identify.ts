/** Which project a repository path belongs to, and what happens when another takes it: all that was held is hidden. */
import type { Logger } from '../log.ts'
import type { RepositoryName } from '../oci/reference.ts'
import type { Change } from './changes.ts'
import type { Completeness } from './completeness.ts'
import { type Coordination, CoordinationUnavailableError, mayStay } from './coordination.ts'
import type { Guard } from './failures.ts'
import type { Hiding } from './hiding.ts'
import type { Identities, Identity } from './identities.ts'
import { LAYERS, MANIFESTS } from './paths.ts'
import type { Mark, RepositoryIndex } from './repository-index.ts'

export interface IdentifyDeps {
  readonly identities: Identities
  readonly coordination: Coordination
  readonly completeness: Pick<Completeness, 'dropComplete'>
  readonly hiding: Pick<Hiding, 'hide'>
  readonly guard: Guard
  readonly log: Logger
  readonly change: Change
  /** All that is remembered of a repository. */
  readonly forget: (name: RepositoryName) => void
}

type Outcome = Awaited<ReturnType<RepositoryIndex['identify']>>

export function createIdentify(deps: IdentifyDeps): RepositoryIndex['identify'] {
  const { identities, coordination, completeness, hiding, guard, log, change, forget } = deps

  /** A disk that is full must not stop reads: what could not be kept holds for this process. */
  async function keep(name: RepositoryName, identity: Identity): Promise<void> {
    await guard(`keeping the project of ${name}`, () => identities.write(name, identity)).catch(
      (error: unknown) => log.warn({ error }, 'the project behind a repository could not be kept'),
    )
  }

  async function replace(name: RepositoryName, identity: Identity): Promise<void> {
    const hideAll = async () => {
      await hiding.hide(name, [MANIFESTS, LAYERS])
      forget(name)
    }
    // First the content, then the identity: after a crash in between, the next token hides the rest.
    const removal = await coordination.bury([name])
    await completeness.dropComplete(name) // It spoke of the former project.
    await hideAll()
    if (!coordination.shared) return keep(name, identity)
    // Others know only what is on disk. A project that took the path meanwhile must not be forgotten again.
    await unlessReplaced(name, removal, async () => {})
    await identities.write(name, identity)
    await unlessReplaced(name, removal, hideAll)
  }

  async function unlessReplaced(name: RepositoryName, removal: Mark, undo: () => Promise<void>) {
    if (await mayStay(coordination, removal, [name], undo)) return
    throw new CoordinationUnavailableError(`another process hid what was held under ${name} at the same time`)
  }

  async function settle(name: RepositoryName, identity: Identity): Promise<Outcome> {
    const held = await identities.read(name)
    if (held && held.projectId !== identity.projectId) {
      if (identity.issuedAtSeconds <= held.issuedAtSeconds) return 'older'
      await replace(name, identity)
      return 'replaced'
    }
    if (!held || identity.issuedAtSeconds > held.issuedAtSeconds) await keep(name, identity)
    return 'same'
  }

  return async (name, projectId, issuedAtSeconds) => {
    const identity = { projectId, issuedAtSeconds }
    const looking = `looking up the project of ${name}`
    if (await guard(looking, () => identities.isKept(name, identity))) return 'same'
    try {
      const doing = `identifying project ${projectId}`
      const forgetIt = () => forget(name)
      return await change(name, doing, forgetIt, () => settle(name, identity))
    } catch (error) {
      if (!(error instanceof CoordinationUnavailableError)) throw error
      const held = await guard(looking, () => identities.read(name))
      // Only where content would have to be hidden must the others be told.
      if (!held || held.projectId === projectId) return 'same'
      if (issuedAtSeconds <= held.issuedAtSeconds) return 'older'
      throw error
    }
  }
}
