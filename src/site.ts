/** The composition root: every part of a site is made here, given what it needs, and given back in reverse order. */
import { access, constants } from 'node:fs/promises'
import type { Config } from './config.ts'
import { openFill } from './fill/flights.ts'
import { createMemoryFreshness } from './freshness/memory-freshness.ts'
import { type Lifecycle, watchFiles } from './lifecycle.ts'
import type { Logger } from './log.ts'
import type { Metrics } from './metrics.ts'
import { connectPrimary } from './primary.ts'
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

  const store = await openStore(config.storage.rootDirectory, config.storage, deps)
  lifecycle.own('store', store.close)

  const primary = await connectPrimary(config.upstream, deps)

  const siteCredential = config.upstream.auth || config.auth.kind === 'none' ? SITE : undefined
  const fill = await openFill(
    { ...deps, ...store, upstream: primary.upstream },
    {
      // A spool belongs to one process.
      folder: role === 'replicator' ? `${store.paths.spools}-replicator` : store.paths.spools,
      siteCredential,
      maxConcurrentFills: http.limits.maxFills,
    },
  )
  lifecycle.own('fills', fill.close)
  const freshness = createMemoryFreshness(config.tags)

  const parts = { ...deps, store, fill, freshness, primary }

  const replicates = role === 'replicator' || (role === 'serve' && config.replication.enabled)
  const replication = replicates ? await startReplication(config, parts) : undefined
  const listener =
    role === 'replicator'
      ? undefined
      : await startPublicSurface(config, { ...parts, hint: replication?.hint, onServed: replication?.served })

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

/** Law 10: ready means that the store can be read; keys were read at start, or there would be no site. */
async function unreadable({ paths }: Store): Promise<string | undefined> {
  try {
    await access(paths.version, constants.R_OK)
    return undefined
  } catch (error) {
    return `the store cannot be read: ${error instanceof Error ? error.message : String(error)}`
  }
}
