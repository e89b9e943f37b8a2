/**
 * What a request needs and a token grants: Distribution's scope grammar, and what GitLab's registry demands of each
 * request (facts/gitlab.md 4.2). https://distribution.github.io/distribution/spec/auth/scope/
 */
import type { RepositoryName } from '../oci/reference.ts'

/** Actions on one resource. `type` and `name` are compared exactly; `group/*` is a literal name. */
export interface Scope {
  /** `repository`, `registry`; a class stays in it: `repository(plugin)`. */
  readonly type: string
  readonly name: string
  /** `pull`, `push`, `delete`, `*`. */
  readonly actions: readonly string[]
}

const TYPE = /^[a-z0-9]+(?:\([a-z0-9]+\))?$/
/** A repository name, a host with port before it, or GitLab's literal `group/*`. */
const NAME = /^[A-Za-z0-9._/:*-]+$/
const ACTIONS = /^[a-z*]+(?:,[a-z*]+)*$/

/** The scopes of a space-joined list, in its order; undefined when any part of it is none. */
export function parseScopes(text: string): Scope[] | undefined {
  const scopes: Scope[] = []
  for (const part of text.split(' ')) {
    if (part === '') continue
    const scope = parseScope(part)
    if (!scope) return undefined
    scopes.push(scope)
  }
  return scopes
}

/** The first colon ends the type and the last one begins the actions: a name may hold `host:port`. */
function parseScope(text: string): Scope | undefined {
  const first = text.indexOf(':')
  const last = text.lastIndexOf(':')
  if (first === last) return undefined
  const type = text.slice(0, first)
  const name = text.slice(first + 1, last)
  const actions = text.slice(last + 1)
  if (!TYPE.test(type) || !NAME.test(name) || !ACTIONS.test(actions)) return undefined
  return { type, name, actions: actions.split(',') }
}

/** As a challenge and a token request word them: one entry for each resource, joined by a space. */
export function formatScopes(scopes: readonly Scope[]): string {
  const resources = new Map<string, Set<string>>()
  for (const { type, name, actions } of scopes) {
    const resource = `${type}:${name}`
    resources.set(resource, new Set([...(resources.get(resource) ?? []), ...actions]))
  }
  return [...resources].map(([resource, actions]) => `${resource}:${[...actions].join(',')}`).join(' ')
}

/** What a request is about: the API's base, the catalog, or a repository. */
export type AccessTarget =
  | 'ping'
  | 'catalog'
  | {
      readonly name: RepositoryName
      /** The `from` parameter of a mount as the client sent it; outside the grammar nothing can grant it. */
      readonly from?: string | undefined
    }

/** What the registry demands of a request; empty where any valid token will do. */
export function requiredAccess(method: string, target: AccessTarget): Scope[] {
  if (target === 'ping') return []
  if (target === 'catalog') return [{ type: 'registry', name: 'catalog', actions: ['*'] }]
  const required: Scope[] = [{ type: 'repository', name: target.name, actions: actionsOf(method) }]
  if (target.from) required.push({ type: 'repository', name: target.from, actions: ['pull'] })
  return required
}

/** A method the registry does not know needs what a write needs, so that no gap opens where one is added. */
function actionsOf(method: string): readonly string[] {
  if (method === 'GET' || method === 'HEAD') return ['pull']
  return method === 'DELETE' ? ['delete'] : ['pull', 'push']
}
