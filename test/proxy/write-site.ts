/** A site with everything that writes, in front of any primary: the real store, upstream client, listener and errors. */
import pino from 'pino'
import type { createOpenAuthorizer } from '../../proxy/access.ts'
import { createApp } from '../../proxy/app.ts'
import { createCaptures } from '../../proxy/capture.ts'
import { createClientQuota } from '../../proxy/client-quota.ts'
import { createDeletes } from '../../proxy/deletes.ts'
import { startListener } from '../../proxy/listener.ts'
import { createLocations } from '../../proxy/locations.ts'
import { createPutManifest } from '../../proxy/manifest-writes.ts'
import { createTokenService } from '../../proxy/token-service.ts'
import { createUploadQuota } from '../../proxy/upload-quota.ts'
import { createUploads } from '../../proxy/uploads.ts'
import { createWriteSender } from '../../proxy/write-sender.ts'
import { createMemoryFreshness } from '../../src/freshness/memory-freshness.ts'
import { createMetrics, type Metrics } from '../../src/metrics.ts'
import { OciError } from '../../src/oci/errors.ts'
import type { BlobStore } from '../../src/store/blob-store.ts'
import type { Store } from '../../src/store/store.ts'
import { createDispatcher, type UpstreamTimeouts } from '../../src/upstream/dispatcher.ts'
import { createRegistryClient } from '../../src/upstream/registry-client.ts'
import { createNoTokenSource } from '../../src/upstream/token-source.ts'
import { type StoreFixture, storeFixture } from '../store/store-fixture.ts'
import { createRegistryApi, type RegistryApi } from '../support/registry-api.ts'

export interface WriteSiteOptions {
  readonly publicUrl?: string
  readonly idleMs?: number
  readonly uploadBytesPerHour?: number
  readonly tokenServices?: readonly string[]
  readonly publishWaitMs?: number
  readonly maxSessions?: number
  readonly timeouts?: Partial<UpstreamTimeouts>
  /** Stands before the real store's blobs. */
  readonly blobs?: (real: BlobStore) => BlobStore
}

export interface WriteSite extends AsyncDisposable {
  readonly url: string
  readonly port: number
  readonly api: RegistryApi
  readonly store: Store
  readonly metrics: Metrics
  readonly freshness: ReturnType<typeof createMemoryFreshness>
  readonly spools: string
  /** How many pushed blobs were kept or dropped so far. */
  captures(outcome: 'kept' | 'dropped'): Promise<number>
  /** Ends captures and publishing as a shutdown does. */
  close(): Promise<void>
}

export async function startWriteSite(primary: string, options: WriteSiteOptions = {}): Promise<WriteSite> {
  const { publicUrl, idleMs = 10_000 } = options
  const log = pino({ level: 'silent' })
  const metrics = createMetrics()
  const fixture: StoreFixture = await storeFixture()
  const { store } = fixture
  const { index, holdings, paths } = store
  const blobs = options.blobs?.(store.blobs) ?? store.blobs
  const freshness = createMemoryFreshness({ trustMs: 3_600_000 })
  const dispatcher = createDispatcher({ log, metrics }, { origin: primary, timeouts: options.timeouts })
  const upstream = createRegistryClient({
    dispatcher,
    tokens: createNoTokenSource(),
    breaker: { failed: () => undefined, succeeded: () => undefined },
  })
  const locations = createLocations({
    upstreamOrigin: upstream.origin,
    secret: () => 'the secret of the tests',
  })
  const captures = await createCaptures(
    { blobs, metrics, log },
    { folder: paths.spools, ...(options.maxSessions && { maxSessions: options.maxSessions }) },
  )
  const shared = {
    ...{ upstream, locations, captures, blobs, index, holdings, freshness, metrics, log },
    send: createWriteSender(upstream, { publicUrl }),
    quota: createUploadQuota({ metrics }, { bytesPerHour: options.uploadBytesPerHour ?? 0 }),
  }
  const uploads = createUploads(shared, {
    publicUrl,
    idleMs,
    ...(options.publishWaitMs && { publishWaitMs: options.publishWaitMs }),
  })
  const deletes = createDeletes(shared, { idleMs })
  const noReads = () => Promise.reject(new OciError('NOT_FOUND'))
  const app = createApp({
    authorize: createCallerAuthorizer(),
    handlers: {
      readManifest: noReads,
      readBlob: noReads,
      list: noReads,
      putManifest: createPutManifest(shared, { publicUrl, idleMs }),
      deleteManifest: deletes.deleteManifest,
      deleteBlob: deletes.deleteBlob,
      startUpload: uploads.startUpload,
      continueUpload: uploads.continueUpload,
      token: createTokenService({ upstream }, { publicUrl, idleMs, services: options.tokenServices ?? [] }),
    },
  })
  const listener = await startListener(
    {
      app,
      log,
      metrics,
      quota: createClientQuota('connections', 1000, metrics),
      challenge: () => new OciError('UNAUTHORIZED'),
    },
    { host: '127.0.0.1', port: 0, trustedProxies: [] },
  )
  const { port } = listener.address
  const url = `http://127.0.0.1:${port}`
  const api = createRegistryApi(url)
  const close = async () => {
    await uploads.close()
    await captures.close()
  }
  return {
    ...{ url, port, api, store, metrics, freshness, spools: paths.spools, close },
    async captures(outcome) {
      const { values } = await metrics.captures.get()
      return values.find(({ labels }) => labels.outcome === outcome)?.value ?? 0
    },
    async [Symbol.asyncDispose]() {
      await api[Symbol.asyncDispose]()
      await listener.close(AbortSignal.abort())
      await close()
      await dispatcher.close()
      await fixture[Symbol.asyncDispose]()
    },
  }
}

/** Everybody may write, each with the header they sent. */
function createCallerAuthorizer(): ReturnType<typeof createOpenAuthorizer>['authorize'] {
  return (exchange) => {
    const { authorization } = exchange.request.headers
    exchange.access = { credential: { kind: 'caller', authorization }, mayWrite: true, onlyPrimary: false }
    return undefined
  }
}
