/** A primary with token auth, a link that counts, and a site behind it. */
import { startOlareg } from '../conformance/primaries.ts'
import { USERS } from '../e2e/clients/two-sites.ts'
import { startDockerRegistry } from '../support/docker-registry.ts'
import { type GeoRegistry, startGeoRegistry } from '../support/geo-registry.ts'
import { signingKey } from '../support/keys.ts'
import { type Link, startLink } from '../support/link.ts'
import { createLogin } from '../support/login.ts'
import { createRegistryApi, type RegistryApi } from '../support/registry-api.ts'
import { startTokenService, type TokenService } from '../support/token-service.ts'
import type { Credentials } from './tool.ts'

export interface Primary {
  readonly url: string
  /** `127.0.0.1:<port>` */
  readonly host: string
  stop(): Promise<void>
}

export interface Sites extends AsyncDisposable {
  readonly primary: Primary
  readonly hasReferrersApi: boolean
  readonly link: Link
  readonly site: GeoRegistry
  /** The user, through the site. */
  readonly here: RegistryApi
  /** The user, at the primary. */
  readonly there: RegistryApi
}

/** In front of a docker-registry, which wants tokens too and has no referrers API. */
export function startSites(user: Credentials): Promise<Sites> {
  return start(user, false, (auth) => startDockerRegistry({ auth }))
}

/** In front of an olareg, which has the referrers API and lets everybody in: tokens are the site's affair alone. */
export function startSitesWithReferrersApi(user: Credentials): Promise<Sites> {
  return start(user, true, async () => {
    const olareg = await startOlareg()
    return { ...olareg, host: new URL(olareg.url).host }
  })
}

type Auth = Pick<TokenService, 'issuer' | 'service' | 'key' | 'realm'>
type StartPrimary = (auth: Auth) => Promise<Primary & AsyncDisposable>

async function start(
  user: Credentials,
  hasReferrersApi: boolean,
  startPrimary: StartPrimary,
): Promise<Sites> {
  await using starting = new AsyncDisposableStack()
  const tokens = starting.use(await startTokenService({ key: await signingKey(), users: USERS }))
  // crane takes no realm whose host is a private address, be it written as one: a name it takes.
  const { issuer, service, key } = tokens
  const auth = { issuer, service, key, realm: tokens.realm.replace('//127.0.0.1:', '//localhost:') }
  const primary = starting.use(await startPrimary(auth))
  const link = starting.use(await startLink({ target: primary.url }))
  const site = starting.use(await startGeoRegistry({ primary: link.url, auth }))
  const api = (url: string) => starting.use(createRegistryApi(url, { authorize: createLogin(tokens, user) }))
  const [here, there] = [api(site.url), api(primary.url)]
  const owned = starting.move()
  return {
    primary,
    hasReferrersApi,
    link,
    site,
    here,
    there,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}
