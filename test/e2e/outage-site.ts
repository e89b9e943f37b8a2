/**
 * A site that holds one image of its primary, and two token services behind its one URL: the primary's, which goes away
 * with it, and the site's own. What the README's table of outages starts from.
 */
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { type GeoRegistry, startGeoRegistry } from '../support/geo-registry.ts'
import { allBlobs, buildImage, type Image } from '../support/images.ts'
import { signingKey } from '../support/keys.ts'
import { type Link, startLink } from '../support/link.ts'
import { createLogin } from '../support/login.ts'
import { type LyingPrimary, startLyingPrimary } from '../support/lying-primary.ts'
import { pushImage } from '../support/push-image.ts'
import { createRegistryApi, type RegistryApi } from '../support/registry-api.ts'
import { startTokenService, type TokenService, type User } from '../support/token-service.ts'
import { until } from '../support/wait.ts'

export const NAME = 'team/app'

const READER = { username: 'reader', password: 'may pull' }
export const DEVELOPER = { username: 'developer', password: 'may push' }

const USERS: readonly User[] = [
  { name: READER.username, password: READER.password, repositories: { 'team/*': ['pull'] } },
  {
    name: DEVELOPER.username,
    password: DEVELOPER.password,
    repositories: { 'team/*': ['pull', 'push', 'delete'] },
  },
]

/** Short, so that a row about a primary that never answers takes seconds; the tag's is the default. */
const TIMEOUTS = { connect: '1s', head: '2s', write: '2s' }

export interface OutageSite extends AsyncDisposable {
  readonly site: GeoRegistry
  /** The primary's: first in `auth.token.services`. */
  readonly tokens: TokenService
  /** What lies between the site and the primary's token service. */
  readonly tokenLink: Link
  /** The site's own, second in the list. */
  readonly siteTokens: TokenService
  /** `team/app:v1`, pulled whole before the test begins. */
  readonly held: Image
  /** `team/app:cold`, which nobody has pulled here. */
  readonly cold: Image
  /** Pull-only, with tokens had from the site before the test begins. */
  readonly reader: RegistryApi
  /** May push and delete; likewise. */
  readonly developer: RegistryApi
  /** May push and delete, and has not logged in yet. */
  readonly newDeveloper: RegistryApi
  readonly anonymous: RegistryApi
}

export interface RealPrimarySite extends OutageSite {
  readonly primary: DockerRegistry
  /** Between the site and what answers for the primary: `behind`, or the registry itself. */
  readonly link: Link
  /** A client of the primary itself, as its other sites' users are. */
  readonly elsewhere: RegistryApi
}

export interface LyingPrimarySite extends OutageSite {
  readonly primary: LyingPrimary
}

/** With a real docker-registry as the primary; `behind` puts something in front of it and returns that one's URL. */
export async function startWithRealPrimary(
  behind?: (primary: DockerRegistry, owned: AsyncDisposableStack) => Promise<string>,
): Promise<RealPrimarySite> {
  return await owning(async (owned) => {
    const tokens = owned.use(await startTokenService({ key: await signingKey(), users: USERS }))
    const primary = owned.use(await startDockerRegistry({ auth: tokens }))
    const link = owned.use(await startLink({ target: (await behind?.(primary, owned)) ?? primary.url }))
    const elsewhere = owned.use(createRegistryApi(primary.url, { authorize: createLogin(tokens, DEVELOPER) }))
    const images = await makeImages()
    await pushImage(elsewhere, NAME, 'v1', images.held)
    await pushImage(elsewhere, NAME, 'cold', images.cold)
    return { ...(await startSite(owned, link.url, tokens, images)), primary, link, elsewhere }
  })
}

export async function startWithLyingPrimary(): Promise<LyingPrimarySite> {
  return await owning(async (owned) => {
    const tokens = owned.use(await startTokenService({ key: await signingKey(), users: USERS }))
    const primary = owned.use(await startLyingPrimary())
    const images = await makeImages()
    await primary.hold(NAME, images.held, 'v1')
    await primary.hold(NAME, images.cold, 'cold')
    return { ...(await startSite(owned, primary.url, tokens, images)), primary }
  })
}

async function makeImages(): Promise<Pick<OutageSite, 'held' | 'cold'>> {
  return {
    held: await buildImage({ seed: 'held', layers: [20_000] }),
    cold: await buildImage({ seed: 'cold', layers: [30_000] }),
  }
}

async function startSite(
  owned: AsyncDisposableStack,
  primaryUrl: string,
  tokens: TokenService,
  { held, cold }: Pick<OutageSite, 'held' | 'cold'>,
): Promise<Omit<OutageSite, keyof AsyncDisposable>> {
  const tokenLink = owned.use(await startLink({ target: tokens.realm }))
  const siteTokens = owned.use(await startTokenService({ key: tokens.key, users: USERS }))
  const site = owned.use(
    await startGeoRegistry({
      primary: primaryUrl,
      auth: tokens,
      config: {
        upstream: { timeouts: TIMEOUTS },
        auth: { token: { services: [`${tokenLink.url}/jwt/auth`, siteTokens.realm] } },
      },
    }),
  )
  // Its own port is the realm's, and is known only now.
  const realm = `${site.url}/jwt/auth`
  await site.restart({ auth: { ...tokens, realm } })

  const newClient = (login: typeof READER) => {
    const authorize = createLogin({ realm, service: tokens.service }, login)
    return { authorize, api: owned.use(createRegistryApi(site.url, { authorize })) }
  }
  const { api: reader } = newClient(READER)
  const { api: developer, authorize } = newClient(DEVELOPER)
  for (const actions of ['pull', 'pull,push', 'delete']) await authorize(`repository:${NAME}:${actions}`)
  await pullWhole(reader, held)
  const { api: newDeveloper } = newClient(DEVELOPER)
  const anonymous = owned.use(createRegistryApi(site.url))
  return { site, tokens, tokenLink, siteTokens, held, cold, reader, developer, newDeveloper, anonymous }
}

/** A blob is published a moment after its last byte was served, so each is pulled until it comes from here. */
async function pullWhole(api: RegistryApi, image: Image): Promise<void> {
  await api.getManifest(NAME, 'v1')
  for (const { digest } of allBlobs(image)) {
    const isHeld = async () => {
      const { status, headers } = await api.getBlob(NAME, digest)
      return status === 200 && headers['geo-registry-source'] === 'local'
    }
    await until(isHeld, { what: `${digest} to be held` })
  }
}

/** Gives back what `make` started when it fails, else with its result. */
async function owning<T extends object>(
  make: (owned: AsyncDisposableStack) => Promise<T>,
): Promise<T & AsyncDisposable> {
  await using starting = new AsyncDisposableStack()
  const made = await make(starting)
  const owned = starting.move()
  return { ...made, [Symbol.asyncDispose]: () => owned.disposeAsync() }
}
