/** Who asks, and what the primary's token service says they may do. Made only from a token that was verified. */
import type { Scope } from './scope.ts'

export interface Caller {
  /** The user's name; absent for anonymous callers and GitLab's deploy tokens. */
  readonly subject: string | undefined
  /** GitLab's kind of credential (`personal_access_token`, `build`, `deploy_token`, …), for the log only. */
  readonly authType: string | undefined
  /** The token's `iat`; 0 when it has none, which is older than any other. */
  readonly issuedAtSeconds: number
  /** Wall-clock time from which the token is no longer taken: `exp` and the leeway. */
  readonly expiresAtMs: number
  /** Whether every action of every scope was granted; `*` grants any action, and an empty list asks for nothing. */
  allows(required: readonly Scope[]): boolean
  /** What was granted on a repository, `*` as it stands; empty when nothing was. */
  actionsOn(repository: string): ReadonlySet<string>
  /** Law 4: such a caller's HEAD may decide an upload, so it is the primary's to answer. */
  grantsMoreThanPull(repository: string): boolean
  /** GitLab's id of the project the repository belongs to, where the token tells it. */
  projectId(repository: string): number | undefined
}

/** One entry of a token's `access` claim. */
export interface Grant extends Scope {
  readonly projectId: number | undefined
}

export interface CallerFields {
  readonly subject: string | undefined
  readonly authType: string | undefined
  readonly issuedAtSeconds: number
  readonly expiresAtMs: number
  readonly grants: readonly Grant[]
}

interface Resource {
  readonly actions: Set<string>
  projectId: number | undefined
}

const NOTHING: ReadonlySet<string> = new Set()

export function createCaller({ grants, ...fields }: CallerFields): Caller {
  // Maps at both levels: names come from outside (`__proto__`), and no joined key could be read in two ways.
  const types = new Map<string, Map<string, Resource>>()
  for (const { type, name, actions, projectId } of grants) {
    const resources = types.get(type) ?? new Map<string, Resource>()
    types.set(type, resources)
    const resource = resources.get(name) ?? { actions: new Set(), projectId }
    resources.set(name, resource)
    for (const action of actions) resource.actions.add(action)
    resource.projectId ??= projectId
  }
  const granted = (type: string, name: string): ReadonlySet<string> =>
    types.get(type)?.get(name)?.actions ?? NOTHING
  const actionsOn = (repository: string): ReadonlySet<string> => granted('repository', repository)

  return {
    ...fields,
    allows: (required) =>
      required.every(({ type, name, actions }) => {
        const held = granted(type, name)
        return held.has('*') || actions.every((action) => held.has(action))
      }),
    actionsOn,
    grantsMoreThanPull: (repository) => {
      const held = actionsOn(repository)
      return held.size > (held.has('pull') ? 1 : 0)
    },
    projectId: (repository) => types.get('repository')?.get(repository)?.projectId,
  }
}
