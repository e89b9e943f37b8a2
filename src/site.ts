/** The composition root: every part of a site is made here, given what it needs, and given back in reverse order. */
import { access, constants } from 'node:fs/promises'
import { openBetweenProcesses } from './between-processes.ts'
import type { Bus } from './bus/bus.ts'
import { createTrafficMeter } from './bus/traffic-meter.ts'
import type { Config } from './config.ts'
import { openFill } from './fill/flights.ts'
import { type Lifecycle, watchFiles } from './lifecycle.ts'
import type { Logger } from './log.ts'
import type { Metrics } from './metrics.ts'
import type { RepositoryName } from './oci/reference.ts'
import { connectPrimary, type Primary } from './primary.ts'
import { startPublicSurface } from './public-surface.ts'
import { startReplication } from './replication.ts'
import { startAdmin } from './status/admin.ts'
import { openStore, type Store } from './store/store.ts'
import type { Credential } from './upstream/upstream.ts'

export interface SiteDeps {
  readonly log: Logger
  readonly metrics: Metrics
  readonly lifecycle: Lifecycle
}

/** `serve`: everything; the others one half of it, each with a process of its own. */
export type Role = 'serve' | 'proxy' | 'replicator'

const SITE: Credential = { kind: 'site' }

/** Resolves when the site serves. Throws what keeps it from serving; what was made by then is the lifecycle's. */
export async function startSite(config: Config, role: Role, deps: SiteDeps): Promise<void> {
  const { log, metrics, lifecycle } = deps
  const { http } = config

  const { isShared, bus, freshness, coordination, leases } = openBetweenProcesses(config, role, deps)
  const store = await openStore(
    config.storage.rootDirectory,
    {
      ...config.storage,
      coordination,
      onForgotten: isShared ? (digest) => bus.publish({ kind: 'blob-gone', digest }) : undefined,
    },
    deps,
  )
  lifecycle.own('store', store.close)
  if (isShared) {
    bus.on('blob-gone', ({ digest }) => store.forgetBlob(digest))
    bus.onGap(store.forgetBlobs)
  }

  const primary = await connectPrimary(config.upstream, deps)

  const siteCredential = config.upstream.auth || config.auth.kind === 'none' ? SITE : undefined
  const fill = await openFill(
    { ...deps, ...store, upstream: primary.upstream },
    {
      // Without leases a spool belongs to one process.
      folder: role === 'replicator' && !isShared ? `${store.paths.spools}-replicator` : store.paths.spools,
      siteCredential,
      maxConcurrentFills: http.limits.maxFills,
      leases,
    },
  )
  lifecycle.own('fills', fill.close)

  const parts = { ...deps, store, fill, freshness, primary, isShared }

  const replicates = role === 'replicator' || (role === 'serve' && config.replication.enabled)
  const replication = replicates
    ? await startReplication(config, { ...parts, primary: withTrafficOf(bus, primary) })
    : undefined
  if (replication) {
    bus.on('hint', ({ name }) => replication.hint(name))
    bus.on('traffic', ({ servedBytes }) => replication.served(servedBytes))
  }
  let onServed = replication?.served
  if (role === 'proxy' && isShared) {
    const meter = createTrafficMeter(bus)
    lifecycle.own('traffic', meter)
    primary.onTraffic(meter.arrived)
    onServed = meter.served
  }
  const hint =
    replicates || isShared ? (name: RepositoryName) => bus.publish({ kind: 'hint', name }) : undefined
  const listener =
    role === 'replicator' ? undefined : await startPublicSurface(config, { ...parts, hint, onServed })

  // After the public listener: whoever is told that this site is ready may come at once.
  const admin = await startAdmin(
    config.admin.listen,
    {
      ready: () => unreadable(store),
      metrics: () => metrics.registry.metrics(),
      collectGarbage: ({ dryRun }) =>
        store.collectGarbage({ dryRun, deleteGraceMs: config.replication.deleteGraceMs }),
      replication: replication?.control,
    },
    { log, token: () => config.admin.token?.reveal() },
  )
  lifecycle.own('admin listener', admin)

  for (const secret of config.secrets) lifecycle.onReload(`secret ${secret.file}`, () => secret.refresh())
  lifecycle.own(
    'watched files',
    watchFiles(config.files, () => void lifecycle.reload('a file has changed')),
  )
  primary.warm()
  log.info(
    {
      site: config.site.name,
      role,
      address: listener?.address,
      replicates,
      admin: admin.address,
      primary: primary.upstream.origin,
    },
    'serving',
  )
}

/** Copying stands back for clients of every process of the site. */
function withTrafficOf(bus: Bus, primary: Primary): Primary {
  return {
    ...primary,
    onTraffic(listener) {
      primary.onTraffic(listener)
      bus.on('traffic', ({ arrivedBytes, requests }) => listener(arrivedBytes, requests))
    },
  }
}

/** Law 10: ready means that the store can be read; keys were read at start, or there would be no site. */
async function unreadable({ paths }: Store): Promise<string | undefined> {
  try {
    await access(paths.version, constants.R_OK)
    return undefined
  } catch (error) {
    return `the store cannot be read: ${error instanceof Error ? error.message : String(error)}`
  }
}
