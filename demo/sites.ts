/** Two sites on one machine: a primary registry with its token service, and a secondary that runs `geo-registry serve`. */
import { type DockerRegistry, startDockerRegistry } from '../test/support/docker-registry.ts'
import { type GeoRegistry, startGeoRegistry } from '../test/support/geo-registry.ts'
import { signingKey } from '../test/support/keys.ts'
import { type Link, startLink } from '../test/support/link.ts'
import { freePort } from '../test/support/port.ts'
import { tempFolder } from '../test/support/temp.ts'
import { startTokenService, type TokenService } from '../test/support/token-service.ts'

export const DEVELOPER = { username: 'developer', password: 'demo-push' }
export const READER = { username: 'reader', password: 'demo-pull' }

export interface Sites extends AsyncDisposable {
  readonly tokens: TokenService
  /** Debian's docker-registry with token auth. */
  readonly primary: DockerRegistry
  /** The long link between the sites, which counts bytes. */
  readonly link: Link
  readonly secondary: GeoRegistry
}

/** Kept when a client asks for it; everything else of the primary comes by itself. */
export const ON_DEMAND = 'demo/base'
const EVENTS_SECRET = 'what-the-registry-sends-as-Authorization'

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
    const eventsAddress = `127.0.0.1:${await freePort()}`
    const primary = owned.use(
      await startDockerRegistry({ auth: tokens, notifications: notificationsTo(eventsAddress) }),
    )
    const link = owned.use(await startLink({ target: primary.url, latencyMs: LINK_LATENCY_MS }))
    const secondary = owned.use(
      await startGeoRegistry({
        primary: link.url,
        auth: tokens,
        config: {
          http: { events: { addr: eventsAddress } },
          upstream: { auth: { keyfile, issuer: tokens.issuer, service: tokens.service } },
          replication: {
            enabled: true,
            notifications: { secret: EVENTS_SECRET },
            modes: [{ pattern: ON_DEMAND, mode: 'ondemand' }],
          },
        },
      }),
    )
    const stack = owned.move()
    return { tokens, primary, link, secondary, [Symbol.asyncDispose]: () => stack.disposeAsync() }
  } catch (error) {
    await owned.disposeAsync()
    throw error
  }
}

/** As GitLab's documentation configures a registry's notifications. */
function notificationsTo(address: string) {
  const url = `http://${address}/notifications`
  const headers = { Authorization: [EVENTS_SECRET] }
  return {
    endpoints: [{ name: 'geo-registry', url, timeout: '500ms', threshold: 5, backoff: '1s', headers }],
  }
}
