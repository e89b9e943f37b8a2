/** The composition root: every part of a site is made here, given what it needs, and given back in reverse order. */
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { access, constants } from 'node:fs/promises'
import { type Authorizer, createOpenAuthorizer, createTokenAuthorizer } from '../proxy/access.ts'
import { createApp } from '../proxy/app.ts'
import { createBlobReads } from '../proxy/blobs.ts'
import { createBodySender } from '../proxy/body.ts'
import { createCaptures } from '../proxy/capture.ts'
import { createClientQuota } from '../proxy/client-quota.ts'
import { createDeletes } from '../proxy/deletes.ts'
import { createForwardedReads } from '../proxy/forwarded-reads.ts'
import { passThrough as sendAnswer } from '../proxy/forwarding.ts'
import { createHeldManifests } from '../proxy/held-manifests.ts'
import { startListener } from '../proxy/listener.ts'
import { createLists } from '../proxy/lists.ts'
import { createLocations } from '../proxy/locations.ts'
import { createLoneRange } from '../proxy/lone-range.ts'
import { createPutManifest } from '../proxy/manifest-writes.ts'
import { createManifestReads } from '../proxy/manifests.ts'
import { createStandings } from '../proxy/standing.ts'
import { createTagResolver } from '../proxy/tag-resolver.ts'
import { createTokenService } from '../proxy/token-service.ts'
import { createUploadQuota } from '../proxy/upload-quota.ts'
import { createUploads } from '../proxy/uploads.ts'
import { createWriteSender } from '../proxy/write-sender.ts'
import { createTokenMinter } from './auth/token-minter.ts'
import { createTokenVerifier } from './auth/token-verifier.ts'
import { createTrustedKeys } from './auth/trusted-keys.ts'
import type { Config, HttpConfig, UpstreamConfig } from './config.ts'
import { createConfirm } from './fill/confirm.ts'
import { openFill } from './fill/flights.ts'
import { createMemoryFreshness } from './freshness/memory-freshness.ts'
import { type Lifecycle, watchFiles } from './lifecycle.ts'
import type { Logger } from './log.ts'
import type { Metrics } from './metrics.ts'
import { startAdmin } from './status/admin.ts'
import { openStore, type Store } from './store/store.ts'
import { createBreaker } from './upstream/breaker.ts'
import { createDispatcher, type Dispatcher } from './upstream/dispatcher.ts'
import { createRegistryClient } from './upstream/registry-client.ts'
import {
  createMintedTokenSource,
  createNoTokenSource,
  createPasswordTokenSource,
  type TokenSource,
} from './upstream/token-source.ts'
import type { Credential } from './upstream/upstream.ts'

export interface SiteDeps {
  readonly log: Logger
  readonly metrics: Metrics
  readonly lifecycle: Lifecycle
}

const SITE: Credential = { kind: 'site' }

/** Resolves when the site serves. Throws what keeps it from serving; what was made by then is the lifecycle's. */
export async function startSite(config: Config, deps: SiteDeps): Promise<void> {
  const { log, metrics, lifecycle } = deps
  const { http } = config

  const store = await openStore(config.storage.rootDirectory, config.storage, deps)
  lifecycle.own('store', store.close)
  const { blobs, index } = store

  const dispatcher = createDispatcher(deps, dispatcherOptions(config.upstream))
  lifecycle.own('connections to the primary', dispatcher.close)
  lifecycle.onReload('upstream.tls', dispatcher.reload)
  const breaker = createBreaker({ metrics, log, ping: dispatcher.ping })
  lifecycle.own('breaker', breaker.close)
  const tokens = await siteTokens(config.upstream, dispatcher, lifecycle)
  const upstream = createRegistryClient({ dispatcher, tokens, breaker })

  const siteCredential = config.upstream.auth || config.auth.kind === 'none' ? SITE : undefined
  const fill = await openFill(
    { ...deps, ...store, upstream },
    { folder: store.paths.spools, siteCredential, maxConcurrentFills: http.limits.maxFills },
  )
  lifecycle.own('fills', fill.close)
  const confirm = createConfirm({ upstream, index, blobs })

  const freshness = createMemoryFreshness(config.tags)
  const keep = { ...deps, blobs, index, freshness }
  const manifests = createHeldManifests(blobs)
  const standings = createStandings({
    index,
    confirm,
    primaryIsAway: () => breaker.isOpen,
    checkMs: config.upstream.timeouts.connectMs + config.upstream.timeouts.tagMs,
    recheckMs: config.digests.recheckMs,
  })
  const tags = createTagResolver({
    ...keep,
    manifests,
    upstream,
    breaker,
    maxStaleMs: config.outage.maxStaleMs,
  })

  const publicUrl = http.host
  const writeOptions = { publicUrl, idleMs: http.idleTimeoutMs }
  const locations = createLocations({ upstreamOrigin: upstream.origin, secret: sealingSecret(http, log) })
  const send = createWriteSender(upstream, { publicUrl })
  const passThrough = createForwardedReads(
    { send, locations, upstream },
    { ...writeOptions, errorBodyMs: config.upstream.timeouts.headMs },
  )
  const quota = createUploadQuota(deps, { bytesPerHour: http.limits.uploadBytesPerHour ?? 0 })
  const captures = await createCaptures({ ...deps, blobs }, { folder: store.paths.spools })
  lifecycle.own('captures', captures.close)
  const uploads = createUploads(
    { ...deps, upstream, send, locations, captures, quota, blobs, index },
    writeOptions,
  )
  lifecycle.own('pushed blobs being published', uploads.close)
  const deletes = createDeletes({ ...keep, upstream, send }, writeOptions)
  const body = createBodySender({ idleTimeoutMs: http.idleTimeoutMs })
  lifecycle.own('bodies', body.close)

  const authorizer = await createAuthorizer(config, store, lifecycle)
  const app = createApp({
    authorize: authorizer.authorize,
    handlers: {
      readManifest: createManifestReads({ ...keep, manifests, standings, tags, upstream, passThrough }),
      putManifest: createPutManifest({ ...keep, upstream, send, locations, quota }, writeOptions),
      deleteManifest: deletes.deleteManifest,
      readBlob: createBlobReads({
        blobs,
        index,
        standings,
        fill,
        upstream,
        body,
        loneRange: createLoneRange({
          upstream,
          reply: (exchange, answer) => sendAnswer(exchange, answer, { idleMs: http.idleTimeoutMs }),
        }),
        passThrough,
        quota: createClientQuota('fills', http.limits.fills, metrics),
      }),
      deleteBlob: deletes.deleteBlob,
      startUpload: uploads.startUpload,
      continueUpload: uploads.continueUpload,
      list: createLists({ passThrough }),
      token: createTokenService(
        { upstream },
        { ...writeOptions, services: config.auth.kind === 'token' ? config.auth.services : [] },
      ),
    },
  })

  const listener = await startListener(
    {
      app,
      log,
      metrics,
      quota: createClientQuota('connections', http.limits.connections, metrics),
      challenge: authorizer.challenge,
    },
    {
      ...http.listen,
      trustedProxies: http.trustedProxies,
      idleTimeoutMs: http.idleTimeoutMs,
      tls: readTls(http),
    },
  )
  lifecycle.onDrain('public listener', (deadline) => listener.close(deadline))
  lifecycle.onReload('http.tls', () => {
    const tls = readTls(http)
    if (tls) listener.renewTls(tls)
  })

  // After the public listener: whoever is told that this site is ready may come at once.
  const admin = await startAdmin(
    config.admin.listen,
    {
      ready: () => unreadable(store),
      metrics: () => metrics.registry.metrics(),
      collectGarbage: ({ dryRun }) =>
        store.collectGarbage({ dryRun, deleteGraceMs: config.replication.deleteGraceMs }),
    },
    { log, token: () => config.admin.token?.reveal() },
  )
  lifecycle.own('admin listener', admin)

  for (const secret of config.secrets) lifecycle.onReload(`secret ${secret.file}`, () => secret.refresh())
  lifecycle.own(
    'watched files',
    watchFiles(config.files, () => void lifecycle.reload('a file has changed')),
  )
  dispatcher.warm()
  log.info(
    { site: config.site.name, address: listener.address, admin: admin.address, primary: upstream.origin },
    'serving',
  )
}

function dispatcherOptions({ origin, timeouts, tls, proxies }: UpstreamConfig) {
  const { connectMs, tagMs, headMs, writeMs, idleMs } = timeouts
  return {
    origin,
    timeouts: { connectMs, tagMs, headMs, writeMs, bodyIdleMs: idleMs },
    tls: { cafile: tls.caFile, certificatefile: tls.client?.certificateFile, keyfile: tls.client?.keyFile },
    proxy: { http: proxies.httpProxy, https: proxies.httpsProxy, no: proxies.noProxy },
  }
}

async function siteTokens(
  { auth }: UpstreamConfig,
  dispatcher: Dispatcher,
  lifecycle: Lifecycle,
): Promise<TokenSource> {
  if (!auth) return createNoTokenSource()
  if (auth.kind === 'key') {
    const minter = await createTokenMinter(auth)
    lifecycle.onReload('upstream.auth.keyfile', minter.reload)
    return createMintedTokenSource(minter.mint)
  }
  const login = () => ({ username: auth.username, password: auth.password.reveal() })
  return createPasswordTokenSource(dispatcher, { login, realm: auth.realm })
}

async function createAuthorizer(
  { auth }: Config,
  { index }: Store,
  lifecycle: Lifecycle,
): Promise<Authorizer> {
  if (auth.kind === 'none') return createOpenAuthorizer({ push: auth.push, credential: SITE })
  const keys = await createTrustedKeys({
    certificateBundleFile: auth.rootCertBundleFile,
    jwksFile: auth.jwksFile,
  })
  lifecycle.onReload('auth.token', keys.reload)
  const { issuer, service } = auth
  return createTokenAuthorizer({
    verifier: createTokenVerifier({ keys, issuer, service }),
    index,
    settings: auth,
  })
}

/** Without `http.secret`, sealed upload locations end with the process; clients then start the upload again. */
function sealingSecret({ secret }: HttpConfig, log: Logger): () => string {
  if (secret) return () => secret.reveal()
  log.warn(
    'http.secret is not set: uploads to a primary with foreign upload locations do not survive a restart',
  )
  const made = randomBytes(32).toString('base64')
  return () => made
}

function readTls({ tls }: HttpConfig) {
  return tls && { cert: readFileSync(tls.certificateFile), key: readFileSync(tls.keyFile) }
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
