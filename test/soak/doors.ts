/** The ways in: clients of one process of a site, or of the primary, with a token to pull, with one for everything, and with none. */
import { mintToken, repositoryAccess, type SigningKey } from '../support/keys.ts'
import { bearer } from '../support/login.ts'
import { createRegistryApi, type RegistryApi } from '../support/registry-api.ts'

export interface Door extends AsyncDisposable {
  readonly name: string
  readonly puller: RegistryApi
  readonly pusher: RegistryApi
  /** Sends what it is given as `Authorization`, by default none. */
  readonly stranger: RegistryApi
}

const ALL = ['pull', 'push', 'delete']
/** Of the five minutes of a token. */
const KEPT_MS = 200_000

export function createDoor(name: string, url: string, key: SigningKey): Door {
  const owned = new AsyncDisposableStack()
  const open = (actions: readonly string[]) =>
    owned.use(createRegistryApi(url, { authorize: authorizing(key, actions) }))
  return {
    name,
    puller: open(['pull']),
    pusher: open(ALL),
    stranger: owned.use(createRegistryApi(url)),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/** A token for the repository of a scope, with these actions whatever the scope says. */
function authorizing(key: SigningKey, actions: readonly string[]): (scope: string) => Promise<string> {
  const kept = new Map<string, { readonly header: Promise<string>; readonly untilMs: number }>()
  return async (scope) => {
    const name = scope.split(':')[1] ?? ''
    const known = kept.get(name)
    if (known && known.untilMs > performance.now()) return await known.header
    const header = mintToken(key, { access: [repositoryAccess(name, actions)], sub: 'soak' }).then(bearer)
    kept.set(name, { header, untilMs: performance.now() + KEPT_MS })
    return await header
  }
}
