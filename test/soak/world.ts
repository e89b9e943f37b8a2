/**
 * One docker-registry with token auth, a relay beside it, and two sites: tokyo is one `serve` that trusts the relay's
 * watermark, lima two `proxy` and a `replicator` on one Redis that trust a confirmed tag for a while. Every line between
 * them can fail, and every process.
 */
import type { StatusReport } from '../../src/status/status-report.ts'
import { REALM } from '../e2e/one-site.ts'
import { deepMerge, type Tree } from '../support/deep-merge.ts'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { type GeoRegistry, startGeoRegistry } from '../support/geo-registry.ts'
import { type SigningKey, signingKey } from '../support/keys.ts'
import { type Link, startLink } from '../support/link.ts'
import { freePort } from '../support/port.ts'
import { type RedisServer, startRedis } from '../support/redis.ts'
import { notifiesRelay, type RelayProcess, startRelayProcess } from '../support/relay.ts'
import { tempFolder } from '../support/temp.ts'
import type { LinkName, ProcessName } from './faults.ts'
import type { Rules } from './model.ts'

export type SiteName = 'tokyo' | 'lima'

export interface Site {
  readonly name: SiteName
  /** Where its clients come in: each of its processes that answers. */
  readonly doors: readonly GeoRegistry[]
  /** The process that keeps its copy in step. */
  readonly keeper: GeoRegistry
  readonly root: string
  status(): Promise<StatusReport>
}

export interface World extends AsyncDisposable {
  readonly key: SigningKey
  readonly registry: DockerRegistry
  readonly redis: RedisServer
  readonly relay: RelayProcess
  readonly sites: Readonly<Record<SiteName, Site>>
  readonly links: Readonly<Record<LinkName, Link>>
  /** Those of the product, by the names that the schedule of faults has for them. */
  readonly processes: Readonly<Record<Exclude<ProcessName, 'registry' | 'Redis'>, Restartable>>
  /** The pid of each process now. */
  pids(): Readonly<Record<ProcessName, number>>
}

export type Restartable = Pick<GeoRegistry, 'kill' | 'stop' | 'pid'> & { start(): Promise<void> }

/** Shorter than faults last, so that what a relay's absence hides would show. */
const MAX_STALENESS_MS = 2_000
const TRUST_MS = 1_000
const MAX_STALE_MS = 1_000
const RECHECK_MS = 20_000

/** What the configurations below promise. */
export const RULES: Readonly<Record<SiteName, Rules>> = {
  tokyo: { stalenessMs: MAX_STALENESS_MS, maxStaleMs: MAX_STALE_MS, recheckMs: RECHECK_MS },
  lima: { stalenessMs: TRUST_MS, maxStaleMs: MAX_STALE_MS, recheckMs: RECHECK_MS },
}

/** A machine under load is no fault. */
const READY_WITHIN_MS = 60_000

const COMMON: Tree = {
  // Generous for the same reason; a black hole is waited out.
  upstream: { timeouts: { connect: '2s', tag: '3s', head: '6s', write: '6s', idle: '4s' } },
  storage: { minfree: '0%' },
  digests: { recheck: `${RECHECK_MS}ms` },
  outage: { maxstale: `${MAX_STALE_MS}ms` },
  log: { level: 'warn' },
}

export async function startWorld(): Promise<World> {
  await using starting = new AsyncDisposableStack()
  const key = await signingKey()
  const folder = starting.use(await tempFolder('soak'))
  const keyfile = await folder.write('site.key', key.privateKeyPem, 0o600)
  const auth = { realm: REALM, service: 'container_registry', issuer: 'gitlab-issuer', key }
  const credential: Tree = { auth: { keyfile, issuer: auth.issuer, service: auth.service } }
  const eventsPort = await freePort()
  const registry = starting.use(
    await startDockerRegistry({
      auth,
      notifications: notifiesRelay(eventsPort),
      config: { log: { level: 'error', accesslog: { disabled: true } } },
    }),
  )
  const [relay, redis] = await Promise.all([
    startRelayProcess({
      primary: registry.url,
      instances: [registry.url],
      sites: ['tokyo', 'lima'],
      eventsPort,
      readyWithinMs: READY_WITHIN_MS,
      config: { upstream: credential, auth: undefined },
    }).then((started) => starting.use(started)),
    startRedis().then((started) => starting.use(started)),
  ])
  const link = async (target: string) => starting.use(await startLink({ target }))
  const links: Record<LinkName, Link> = {
    tokyo: await link(registry.url),
    lima: await link(registry.url),
    'tokyo’s relay': await link(relay.url),
    'lima’s relay': await link(relay.url),
  }

  const copying = (name: SiteName): Tree => ({
    upstream: credential,
    relay: { url: links[`${name}’s relay`].url, tokenfile: relay.tokenFile(name) },
    replication: {
      ...{ enabled: true, requests: '1000/s', reconcile: '5s' },
      // No job asks the primary about its tags: only their freshness keeps them from being too old.
      modes: [{ pattern: 'other', mode: 'ondemand' }],
    },
  })
  const limaRoot = `${folder.path}/lima`
  const shared = deepMerge(COMMON, {
    site: { name: 'lima' },
    http: { secret: 'the proxies open each other’s upload locations' },
    redis: { url: redis.url },
    tags: { trust: `${TRUST_MS}ms` },
  })
  const start = async (options: Parameters<typeof startGeoRegistry>[0]) =>
    starting.use(await startGeoRegistry({ ...options, readyWithinMs: READY_WITHIN_MS }))
  const atLima = { primary: links.lima.url, auth, root: limaRoot }
  const [tokyo, a, b, replicator] = await Promise.all([
    start({
      primary: links.tokyo.url,
      auth,
      config: deepMerge(deepMerge(COMMON, copying('tokyo')), {
        site: { name: 'tokyo' },
        http: { secret: 'one for both of its lives' },
        tags: { freshness: 'watermark', maxstaleness: `${MAX_STALENESS_MS}ms` },
      }),
    }),
    start({ ...atLima, command: 'proxy', config: shared }),
    start({ ...atLima, command: 'proxy', config: shared }),
    start({ ...atLima, command: 'replicator', config: deepMerge(shared, copying('lima')) }),
  ])
  const owned = starting.move()
  const processes = { tokyo, 'lima a': a, 'lima b': b, replicator, relay }
  return {
    key,
    registry,
    redis,
    relay,
    sites: {
      tokyo: siteOf('tokyo', [tokyo], tokyo),
      lima: siteOf('lima', [a, b], replicator),
    },
    links,
    processes,
    pids: () => ({
      tokyo: tokyo.pid,
      'lima a': a.pid,
      'lima b': b.pid,
      replicator: replicator.pid,
      relay: relay.pid,
      registry: registry.pid,
      Redis: redis.pid,
    }),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

function siteOf(name: SiteName, doors: readonly GeoRegistry[], keeper: GeoRegistry): Site {
  return {
    name,
    doors,
    keeper,
    root: keeper.root,
    async status() {
      return (await (await fetch(`${keeper.adminUrl}/status`)).json()) as StatusReport
    },
  }
}
