/** A site in front of one primary, and callers with tokens of their own: what most end-to-end tests start from. */
import type { Tree } from '../support/deep-merge.ts'
import { type GeoRegistry, startGeoRegistry } from '../support/geo-registry.ts'
import { mintToken, repositoryAccess, type SigningKey, signingKey } from '../support/keys.ts'
import { bearer } from '../support/login.ts'
import { createRegistryApi, type RegistryApi } from '../support/registry-api.ts'

export interface OneSite extends AsyncDisposable {
  readonly site: GeoRegistry
  readonly key: SigningKey
  /** A client with a token for these repositories and actions, of the site or of any other registry. */
  client(grants: Readonly<Record<string, readonly string[]>>, url?: string): Promise<RegistryApi>
}

export const REALM = 'http://127.0.0.1:1/jwt/auth'

/** `primary`: its origin. Tokens are minted here, so no token service runs. */
export async function startOneSite(primary: string, config: Tree = {}, root?: string): Promise<OneSite> {
  const key = await signingKey()
  const site = await startGeoRegistry({
    primary,
    auth: { realm: REALM, service: 'container_registry', issuer: 'gitlab-issuer', key },
    config,
    ...(root === undefined ? {} : { root }),
  })
  const owned = new AsyncDisposableStack()
  owned.use(site)
  return {
    site,
    key,
    async client(grants, url = site.url) {
      const access = Object.entries(grants).map(([name, actions]) => repositoryAccess(name, actions))
      const authorization = bearer(await mintToken(key, { access, sub: 'user' }))
      return owned.use(createRegistryApi(url, { authorize: () => authorization }))
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/** Where an answer came from. */
export function sourceOf(answer: { readonly headers: Readonly<Record<string, unknown>> }): unknown {
  return answer.headers['geo-registry-source']
}
