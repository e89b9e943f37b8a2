/**
 * Two sites on one machine: a primary registry with its token service and `geo-registry relay` beside it, and a secondary
 * that runs `geo-registry serve` and follows the relay.
 */
import { type DockerRegistry, startDockerRegistry } from '../test/support/docker-registry.ts'
import { type GeoRegistry, startGeoRegistry } from '../test/support/geo-registry.ts'
import { signingKey } from '../test/support/keys.ts'
import { type Link, startLink } from '../test/support/link.ts'
import { freePort } from '../test/support/port.ts'
import { notifiesRelay, type RelayProcess, startRelayProcess } from '../test/support/relay.ts'
import { tempFolder } from '../test/support/temp.ts'
import { startTokenService, type TokenService } from '../test/support/token-service.ts'

export const DEVELOPER = { username: 'developer', password: 'demo-push' }
export const READER = { username: 'reader', password: 'demo-pull' }

export interface Sites extends AsyncDisposable {
  readonly tokens: TokenService
  /** Debian's docker-registry with token auth, which notifies the relay and nobody else. */
  readonly primary: DockerRegistry
  readonly relay: RelayProcess
  /** The long link between the sites, which counts bytes; what the relay tells goes over one of its own. */
  readonly link: Link
  readonly secondary: GeoRegistry
}

/** Kept when a client asks for it; everything else of the primary comes by itself. */
export const ON_DEMAND = 'demo/base'
/** `tags.maxstaleness`: so long a proof of the relay lets the secondary answer without asking the primary. */
export const MAX_STALENESS_SECONDS = 5
const SITE = 'tokyo'

/** One way, so that a round trip between the sites costs twice as much. */
const LINK_LATENCY_MS = 20

export async function startSites(): Promise<Sites> {
  const owned = new AsyncDisposableStack()
  try {
    const key = await signingKey()
    const tokens = owned.use(
      await startTokenService({
        key,
        users: [
          {
            name: DEVELOPER.username,
            password: DEVELOPER.password,
            repositories: { 'demo/*': ['pull', 'push'] },
          },
          { name: READER.username, password: READER.password, repositories: { 'demo/*': ['pull'] } },
        ],
      }),
    )
    const folder = owned.use(await tempFolder('site-key'))
    const keyfile = await folder.write('site.key', key.privateKeyPem, 0o600)
    const ownCredential = { auth: { keyfile, issuer: tokens.issuer, service: tokens.service } }
    const eventsPort = await freePort()
    const primary = owned.use(
      await startDockerRegistry({ auth: tokens, notifications: notifiesRelay(eventsPort) }),
    )
    const relay = owned.use(
      await startRelayProcess({
        primary: primary.url,
        instances: [primary.url],
        eventsPort,
        sites: [SITE],
        config: { upstream: ownCredential, auth: undefined },
      }),
    )
    const link = owned.use(await startLink({ target: primary.url, latencyMs: LINK_LATENCY_MS }))
    const relayLink = owned.use(await startLink({ target: relay.url, latencyMs: LINK_LATENCY_MS }))
    const secondary = owned.use(
      await startGeoRegistry({
        primary: link.url,
        auth: tokens,
        config: {
          site: { name: SITE },
          upstream: ownCredential,
          tags: { freshness: 'watermark', maxstaleness: `${MAX_STALENESS_SECONDS}s` },
          relay: { url: relayLink.url, tokenfile: relay.tokenFile(SITE) },
          replication: { enabled: true, modes: [{ pattern: ON_DEMAND, mode: 'ondemand' }] },
        },
      }),
    )
    const stack = owned.move()
    return { tokens, primary, relay, link, secondary, [Symbol.asyncDispose]: () => stack.disposeAsync() }
  } catch (error) {
    await owned.disposeAsync()
    throw error
  }
}
