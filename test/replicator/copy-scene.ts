/** A copying over a real store, fill and client, behind a link that counts, of whatever registry a test starts. */
import pino from 'pino'
import { type CopyingOptions, createCopying } from '../../replicator/copy-graph.ts'
import type { Copying, CopyOptions, CopyReport } from '../../replicator/copying.ts'
import type { Fill } from '../../src/fill/fill.ts'
import { openFill } from '../../src/fill/flights.ts'
import type { Manifest } from '../../src/oci/manifest.ts'
import type { RepositoryName } from '../../src/oci/reference.ts'
import type { BlobStore } from '../../src/store/blob-store.ts'
import type { Store } from '../../src/store/store.ts'
import { createDispatcher } from '../../src/upstream/dispatcher.ts'
import { createRegistryClient } from '../../src/upstream/registry-client.ts'
import { createNoTokenSource } from '../../src/upstream/token-source.ts'
import type { Upstream } from '../../src/upstream/upstream.ts'
import { nameOf, storeFixture, tagOf } from '../store/store-fixture.ts'
import { bytesContent, type Content } from '../support/content.ts'
import { descriptorOf, type Image } from '../support/images.ts'
import { type Link, startLink } from '../support/link.ts'

export const APP: RepositoryName = nameOf('group/app')
export const OTHER: RepositoryName = nameOf('group/other')

export interface CopySceneOptions extends Partial<CopyingOptions> {
  /** Replaces parts of the store. */
  readonly blobs?: (blobs: BlobStore) => BlobStore
  /** As `FillOptions.pieceBytes`. */
  readonly pieceBytes?: number
}

export interface CopyScene extends AsyncDisposable {
  readonly link: Link
  readonly root: string
  readonly store: Store
  readonly upstream: Upstream
  readonly fill: Fill
  readonly copying: Copying
  /** What the primary answers for the tag. */
  ask(name: RepositoryName, tag?: string): Promise<Manifest>
  /** Asks for the tag and copies what it is, as the replicator does. */
  copyTag(name: RepositoryName, tag?: string, options?: Partial<CopyOptions>): Promise<CopyReport>
  /** Requests sent to the primary so far. */
  asked(): Promise<{ readonly manifest: number; readonly blob: number; readonly confirm: number }>
}

export async function copyScene(primaryUrl: string, options: CopySceneOptions = {}): Promise<CopyScene> {
  await using starting = new AsyncDisposableStack()
  const log = pino({ level: 'silent' })
  const stored = starting.use(await storeFixture())
  const link = starting.use(await startLink({ target: primaryUrl }))
  const { store, metrics } = stored
  const dispatcher = createDispatcher({ metrics, log }, { origin: link.url })
  starting.defer(() => dispatcher.close())
  const breaker = { failed: () => undefined, succeeded: () => undefined }
  const upstream = createRegistryClient({ dispatcher, tokens: createNoTokenSource(), breaker })
  const blobs = options.blobs?.(store.blobs) ?? store.blobs
  const { index } = store
  const fill = await openFill(
    { log, metrics, upstream, index, blobs },
    { folder: store.paths.spools, siteCredential: { kind: 'site' }, pieceBytes: options.pieceBytes },
  )
  starting.defer(() => fill.close())
  const copying = createCopying(
    { upstream, fill, blobs, index, log },
    { recheckMs: 3_600_000, retryDelayMs: 1, ...options },
  )
  const owned = starting.move()

  async function ask(name: RepositoryName, tag = 'latest'): Promise<Manifest> {
    const reference = { kind: 'tag', tag: tagOf(tag) } as const
    const answer = await upstream.getManifest(name, reference, { credential: { kind: 'site' } })
    if (typeof answer === 'string') throw new Error(`${name}:${tag} was answered ${answer}`)
    return answer
  }

  return {
    link,
    root: stored.root,
    store,
    upstream,
    fill,
    copying,
    ask,
    async copyTag(name, tag, rest = {}) {
      const mark = index.mark()
      return copying.copy(name, await ask(name, tag), { mark, signal: new AbortController().signal, ...rest })
    },
    async asked() {
      const { values } = await metrics.upstreamRequests.get()
      const count = (operation: string) =>
        values.reduce((sum, { labels, value }) => sum + (labels.operation === operation ? value : 0), 0)
      return { manifest: count('manifest'), blob: count('blob'), confirm: count('confirm') }
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/** A manifest that the image factory does not make: any fields, over any content. */
export function oddManifest(
  mediaType: string,
  fields: Readonly<Record<string, unknown>>,
  { blobs = [], children = [] }: { blobs?: readonly Content[]; children?: readonly Image[] } = {},
): Image {
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, ...fields }))
  const manifest = bytesContent(bytes, mediaType)
  return { manifest, digest: manifest.digest, mediaType, bytes, blobs, children }
}

/** An index whose children are blobs, as buildkit exports its cache with `image-manifest=false`. */
export function buildkitCache(mediaType: string): Image {
  const layers = ['one', 'two'].map((text) =>
    bytesContent(Buffer.from(`cached layer ${text}`), 'application/vnd.oci.image.layer.v1.tar+gzip'),
  )
  const config = bytesContent(
    Buffer.from(JSON.stringify({ layers: layers.map(({ digest }) => ({ blob: digest })) })),
    'application/vnd.buildkit.cacheconfig.v0',
  )
  const blobs = [...layers, config]
  return oddManifest(mediaType, { manifests: blobs.map(descriptorOf) }, { blobs })
}
