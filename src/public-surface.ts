/** What clients see of a site: every part of the `/v2/` surface is made here, and listens. */
import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { type Authorizer, createOpenAuthorizer, createTokenAuthorizer } from '../proxy/access.ts'
import { createApp, type Handlers } from '../proxy/app.ts'
import { createBlobReads } from '../proxy/blobs.ts'
import { createBodySender } from '../proxy/body.ts'
import { createCaptures } from '../proxy/capture.ts'
import { createClientQuota } from '../proxy/client-quota.ts'
import { createDeletes } from '../proxy/deletes.ts'
import { createForwardedReads } from '../proxy/forwarded-reads.ts'
import { passThrough as sendAnswer } from '../proxy/forwarding.ts'
import { createHeldManifests } from '../proxy/held-manifests.ts'
import { createHinting, type Hint } from '../proxy/hints.ts'
import { type Listener, startListener } from '../proxy/listener.ts'
import { createLists } from '../proxy/lists.ts'
import { createLocations } from '../proxy/locations.ts'
import { createLoneRange } from '../proxy/lone-range.ts'
import { createPutManifest } from '../proxy/manifest-writes.ts'
import { createManifestReads } from '../proxy/manifests.ts'
import { createModes, KEEPS_NOTHING } from '../proxy/modes.ts'
import { createStandings } from '../proxy/standing.ts'
import { createTagResolver } from '../proxy/tag-resolver.ts'
import { createTokenService } from '../proxy/token-service.ts'
import { createUploadQuota } from '../proxy/upload-quota.ts'
import { createUploads } from '../proxy/uploads.ts'
import { createWriteSender } from '../proxy/write-sender.ts'
import { createTokenVerifier } from './auth/token-verifier.ts'
import { createTrustedKeys } from './auth/trusted-keys.ts'
import type { Config, HttpConfig } from './config.ts'
import { createConfirm } from './fill/confirm.ts'
import type { Fill } from './fill/fill.ts'
import type { Freshness } from './freshness/freshness.ts'
import type { Lifecycle } from './lifecycle.ts'
import type { Logger } from './log.ts'
import type { Metrics } from './metrics.ts'
import { createModeOf } from './oci/repository-mode.ts'
import type { Primary } from './primary.ts'
import type { Store } from './store/store.ts'
import type { Credential } from './upstream/upstream.ts'

export interface PublicSurfaceDeps {
  readonly log: Logger
  readonly metrics: Metrics
  readonly lifecycle: Lifecycle
  readonly store: Store
  readonly fill: Fill
  readonly freshness: Freshness
  readonly primary: Primary
  /** Told of repositories that a client missed something of, or wrote to. */
  readonly hint?: Hint | undefined
  /** Whether other processes write to the same store. */
  readonly isShared: boolean
  /** Told the size of every piece of a blob that is handed to a client. */
  readonly onServed?: ((bytes: number) => void) | undefined
}

const SITE: Credential = { kind: 'site' }

/** Resolves when clients are answered; with the address that was bound. */
export async function startPublicSurface(config: Config, deps: PublicSurfaceDeps): Promise<Listener> {
  const { log, metrics, lifecycle, store, fill, freshness } = deps
  const { upstream, breaker } = deps.primary
  const { blobs, index, holdings } = store
  const { http } = config

  const confirm = createConfirm({ upstream, index, blobs })

  const keep = { ...deps, blobs, index, holdings, freshness }
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
  const captures = await createCaptures(
    { ...deps, blobs },
    { folder: store.paths.spools, isShared: deps.isShared },
  )
  lifecycle.own('captures', captures.close)
  const uploads = createUploads(
    { ...deps, upstream, send, locations, captures, quota, blobs, index },
    writeOptions,
  )
  lifecycle.own('pushed blobs being published', uploads.close)
  const deletes = createDeletes({ ...keep, upstream, send }, writeOptions)
  const body = createBodySender({ idleTimeoutMs: http.idleTimeoutMs, onBytes: deps.onServed })
  lifecycle.own('bodies', body.close)

  const authorizer = await createAuthorizer(config, store, lifecycle)
  const kept: Handlers = {
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
    list: createLists({ passThrough, holdings, maxStaleMs: config.outage.maxStaleMs }),
    token: createTokenService(
      { upstream },
      { ...writeOptions, services: config.auth.kind === 'token' ? config.auth.services : [] },
    ),
  }
  const modes = config.replication.modes
  const handlers =
    modes.length === 0 ? kept : createModes(createModeOf(modes), { kept, passedThrough: passed() })
  const app = createApp({
    authorize: authorizer.authorize,
    handlers: deps.hint ? createHinting(handlers, deps.hint) : handlers,
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
  return listener

  /** The same, of what keeps nothing here. */
  function passed(): Handlers {
    const through = { ...keep, ...KEEPS_NOTHING, upstream, send, locations, quota }
    const { startUpload, continueUpload, close } = createUploads(through, writeOptions)
    lifecycle.own('uploads passed through', close)
    return {
      ...kept,
      readManifest: (exchange) => passThrough(exchange),
      readBlob: (exchange) => passThrough(exchange),
      // What is still here from before it was passed through stands in for nothing.
      list: (exchange, { kind }) => passThrough(exchange, { judged: kind !== 'referrers' }),
      putManifest: createPutManifest(through, writeOptions),
      startUpload,
      continueUpload,
    }
  }
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
    'http.secret is not set: uploads to a primary with foreign upload locations survive no restart, and no change to ' +
      'another process of this site (set the same one for all of them)',
  )
  const made = randomBytes(32).toString('base64')
  return () => made
}

function readTls({ tls }: HttpConfig) {
  return tls && { cert: readFileSync(tls.certificateFile), key: readFileSync(tls.keyFile) }
}
