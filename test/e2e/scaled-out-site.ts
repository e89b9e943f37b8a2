/**
 * The scaled-out shape: two proxies and a replicator, each a process of its own, on one store and one Redis (and one
 * Postgres) before a docker-registry with token auth. All three reach their primary over one link.
 */
import type { StatusReport } from '../../src/status/status-report.ts'
import { deepMerge, type Tree } from '../support/deep-merge.ts'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { type GeoRegistry, startGeoRegistry } from '../support/geo-registry.ts'
import { mintToken, repositoryAccess, signingKey } from '../support/keys.ts'
import { type Link, startLink } from '../support/link.ts'
import { bearer } from '../support/login.ts'
import { onFreePort } from '../support/port.ts'
import { type PostgresServer, startPostgres } from '../support/postgres.ts'
import { type RedisServer, startRedis } from '../support/redis.ts'
import { createRegistryApi, type RegistryApi } from '../support/registry-api.ts'
import { tempFolder } from '../support/temp.ts'
import { until } from '../support/wait.ts'
import { REALM } from './one-site.ts'

const ALL = ['pull', 'push', 'delete']
const SECRET = 'a-Secret-of-the-registry'

export interface ScaledOutSite extends AsyncDisposable {
  readonly primary: DockerRegistry
  /** Between the processes of the site and the primary; events do not go over it. */
  readonly link: Link
  readonly redis: RedisServer
  readonly postgres: PostgresServer
  readonly root: string
  readonly proxies: readonly [GeoRegistry, GeoRegistry]
  readonly replicator: GeoRegistry
  /** Clients that may do everything with `repositories`, of either proxy and of the primary. */
  readonly a: RegistryApi
  readonly b: RegistryApi
  readonly there: RegistryApi
  /** A client of any of them that may do these things only. */
  client(url: string, grants: Readonly<Record<string, readonly string[]>>): Promise<RegistryApi>
  status(): Promise<StatusReport>
  /** Resolves when the replicator says that the site is in step, which it does once it hears events. */
  inStep(): Promise<void>
  /** As `inStep`, with a `resync` by hand of all, and of what fails for want of Redis: its next attempt is not waited for. */
  resynced(): Promise<void>
  /** Resolves when every process has Redis back: a write with everything it needs is taken by both proxies. */
  recovered(): Promise<void>
}

export interface ScaledOutOptions {
  readonly repositories: readonly string[]
  /** Default true: the primary sends events to the replicator. */
  readonly notified?: boolean
  /** Of every process. */
  readonly config?: Tree
  /** Of the replicator alone, over the other. */
  readonly replicatorConfig?: Tree
  /** Default false: a restart of Redis loses all. */
  readonly persistentRedis?: boolean
}

export async function startScaledOutSite(options: ScaledOutOptions): Promise<ScaledOutSite> {
  return await onFreePort(async (port) => await start(options, port))
}

async function start(options: ScaledOutOptions, eventsPort: number): Promise<ScaledOutSite> {
  const { repositories, notified = true, config = {}, replicatorConfig = {}, persistentRedis } = options
  await using starting = new AsyncDisposableStack()
  const key = await signingKey()
  const folder = starting.use(await tempFolder('scaled-out'))
  const keyfile = await folder.write('site.key', key.privateKeyPem, 0o600)
  const root = `${folder.path}/root`
  const auth = { realm: REALM, service: 'container_registry', issuer: 'gitlab-issuer', key }
  const notifications = notificationsTo(`http://127.0.0.1:${eventsPort}/notifications`)
  const servers = [startRedis({ persistent: persistentRedis ?? false }), startPostgres()] as const
  const [redis, postgres] = await Promise.all(servers)
  starting.use(redis)
  starting.use(postgres)
  const primary = starting.use(await startDockerRegistry({ auth, ...(notified && { notifications }) }))
  const link = starting.use(await startLink({ target: primary.url }))

  const shared: Tree = {
    http: { secret: 'the proxies open each other’s upload locations' },
    redis: { url: redis.url },
    tracking: { postgres: { url: await postgres.createDatabase() } },
  }
  const proxyOptions = {
    primary: link.url,
    auth,
    root,
    config: deepMerge(shared, config),
    command: 'proxy',
  } as const
  const replicator = starting.use(
    await startGeoRegistry({
      ...proxyOptions,
      command: 'replicator',
      config: deepMerge(
        deepMerge(deepMerge(shared, config), replicating(eventsPort, keyfile)),
        replicatorConfig,
      ),
    }),
  )
  const one = starting.use(await startGeoRegistry(proxyOptions))
  const other = starting.use(await startGeoRegistry(proxyOptions))

  async function client(
    url: string,
    grants: Readonly<Record<string, readonly string[]>>,
  ): Promise<RegistryApi> {
    const access = Object.entries(grants).map(([name, actions]) => repositoryAccess(name, actions))
    const authorization = bearer(await mintToken(key, { access, sub: 'user', exp: inAnHour() }))
    return clients.use(createRegistryApi(url, { authorize: () => authorization }))
  }
  const clients = starting.use(new AsyncDisposableStack())
  const grants = Object.fromEntries(repositories.map((name) => [name, ALL]))
  const a = await client(one.url, grants)
  const b = await client(other.url, grants)
  const there = await client(primary.url, grants)
  const owned = starting.move()

  async function status(): Promise<StatusReport> {
    const response = await fetch(`${replicator.adminUrl}/status`)
    return (await response.json()) as StatusReport
  }
  async function resync(): Promise<void> {
    const response = await fetch(`${replicator.adminUrl}/repositories/resync?all=true`, { method: 'POST' })
    if (!response.ok) throw new Error(`resync was answered ${response.status}: ${await response.text()}`)
  }
  const site: ScaledOutSite = {
    primary,
    link,
    redis,
    postgres,
    root,
    proxies: [one, other],
    replicator,
    a,
    b,
    there,
    client,
    status,
    async inStep() {
      await until(async () => (await status()).in_step, {
        what: 'the site to be in step',
        deadlineMs: 20_000,
      })
    },
    async resynced() {
      await resync()
      const isInStep = async () => {
        const { in_step, container_repositories_failed_count: failed } = await status()
        if (failed) await resync()
        return in_step
      }
      await until(isInStep, { what: 'the site to be in step again', deadlineMs: 60_000, everyMs: 250 })
    },
    async recovered() {
      const [name = ''] = repositories
      const unknown = `sha256:${'0'.repeat(64)}`
      // Forwarded, and so answered by the primary, once Redis is there to note what would be removed.
      for (const api of [a, b]) {
        await until(async () => (await api.deleteManifest(name, unknown)).status === 404, {
          what: `${api.url} to have Redis back`,
        })
      }
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
  return site
}

function replicating(eventsPort: number, keyfile: string): Tree {
  return {
    http: { events: { addr: `127.0.0.1:${eventsPort}` } },
    upstream: { auth: { keyfile, issuer: 'gitlab-issuer', service: 'container_registry' } },
    replication: { enabled: true, notifications: { secret: SECRET }, requests: '1000/s' },
  }
}

/** As GitLab's documentation configures it, repeated sooner. */
function notificationsTo(url: string): Tree {
  const headers = { Authorization: [SECRET] }
  return {
    endpoints: [{ name: 'geo-registry', url, timeout: '500ms', threshold: 5, backoff: '100ms', headers }],
  }
}

const inAnHour = () => Math.floor(Date.now() / 1000) + 3600
