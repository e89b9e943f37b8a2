/** The tag resolver over a real store and a primary that can be told what to say; what stands before the store may fail. */
import pino from 'pino'
import { createHeldManifests } from '../../proxy/held-manifests.ts'
import { createTagResolver, type TagResolver } from '../../proxy/tag-resolver.ts'
import { createMemoryFreshness } from '../../src/freshness/memory-freshness.ts'
import { createMetrics } from '../../src/metrics.ts'
import type { RepositoryName, Tag } from '../../src/oci/reference.ts'
import type { BlobStore } from '../../src/store/blob-store.ts'
import type { RepositoryIndex } from '../../src/store/repository-index.ts'
import type { Store } from '../../src/store/store.ts'
import { createDispatcher } from '../../src/upstream/dispatcher.ts'
import { createRegistryClient } from '../../src/upstream/registry-client.ts'
import { createNoTokenSource } from '../../src/upstream/token-source.ts'
import { nameOf, storeFixture, tagOf } from '../store/store-fixture.ts'
import { type LyingPrimary, startLyingPrimary } from '../support/lying-primary.ts'

export const NAME: RepositoryName = nameOf('team/app')
export const V1: Tag = tagOf('v1')

export interface TagSiteOptions {
  /** Methods that stand in for the real store's. */
  readonly index?: (real: RepositoryIndex) => Partial<RepositoryIndex>
  readonly blobs?: (real: BlobStore) => Partial<BlobStore>
  readonly maxStaleMs?: number
  readonly now?: () => number
}

export interface TagSite extends AsyncDisposable {
  readonly primary: LyingPrimary
  /** The real one. */
  readonly store: Store
  /** What a pull-only caller gets for `team/app:v1`. */
  resolve(access?: { readonly onlyPrimary: boolean }): ReturnType<TagResolver['resolve']>
}

export async function startTagSite(options: TagSiteOptions = {}): Promise<TagSite> {
  await using starting = new AsyncDisposableStack()
  const primary = starting.use(await startLyingPrimary())
  const fixture = starting.use(await storeFixture())
  const { store } = fixture
  const log = pino({ level: 'silent' })
  const metrics = createMetrics()
  const dispatcher = createDispatcher({ log, metrics }, { origin: primary.url })
  starting.defer(() => dispatcher.close())
  const breaker = {
    isOpen: false,
    probe: () => undefined,
    failed: () => undefined,
    succeeded: () => undefined,
  }
  const blobs = { ...store.blobs, ...options.blobs?.(store.blobs) }
  const tags = createTagResolver({
    index: { ...store.index, ...options.index?.(store.index) },
    blobs,
    freshness: createMemoryFreshness(),
    log,
    manifests: createHeldManifests(blobs),
    upstream: createRegistryClient({ dispatcher, tokens: createNoTokenSource(), breaker }),
    breaker,
    maxStaleMs: options.maxStaleMs ?? 3_600_000,
    ...(options.now && { now: options.now }),
  })
  const credential = { kind: 'caller', authorization: undefined } as const
  const owned = starting.move()
  return {
    primary,
    store,
    resolve: ({ onlyPrimary } = { onlyPrimary: false }) =>
      tags.resolve(NAME, V1, { credential, mayWrite: false, onlyPrimary }),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}
