/** A store in a temporary folder, with values that are already parsed. */
import pino from 'pino'
import { createMetrics, type Metrics } from '../../src/metrics.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { parseRepositoryName, parseTag, type RepositoryName, type Tag } from '../../src/oci/reference.ts'
import { openStore, type Store, type StoreOptions } from '../../src/store/store.ts'
import { tempFolder } from '../support/temp.ts'

export interface StoreFixture extends AsyncDisposable {
  readonly root: string
  readonly store: Store
  readonly metrics: Metrics
  /** Closes the store and opens the folder again, as a restart does. */
  reopen(): Promise<Store>
}

/** In a temporary folder that is removed on dispose, or in an existing one that stays. */
export async function storeFixture(options: StoreOptions = {}, existing?: string): Promise<StoreFixture> {
  const folder = existing === undefined ? await tempFolder('store') : undefined
  const root = existing ?? folder?.path ?? ''
  const deps = { log: pino({ level: 'silent' }), metrics: createMetrics() }
  let store = await openStore(root, { minFreeFraction: 0, ...options }, deps)
  return {
    root,
    metrics: deps.metrics,
    get store() {
      return store
    },
    reopen: async () => {
      await store.close()
      store = await openStore(root, { minFreeFraction: 0, ...options }, deps)
      return store
    },
    [Symbol.asyncDispose]: async () => {
      await store.close()
      await folder?.[Symbol.asyncDispose]()
    },
  }
}

export function nameOf(text: string): RepositoryName {
  return parsed(parseRepositoryName(text), text)
}

export function tagOf(text: string): Tag {
  return parsed(parseTag(text), text)
}

function parsed<T>(value: T | undefined, text: string): T {
  if (value === undefined) throw new Error(`${text} is not in the grammar`)
  return value
}

/** Writes text as a blob and returns its digest. */
export async function putBlob(
  store: Pick<Store, 'blobs'>,
  text: string,
  algorithm: 'sha256' | 'sha512' = 'sha256',
): Promise<Digest> {
  const bytes = Buffer.from(text)
  const digest = digestOf(bytes, algorithm)
  await store.blobs.write(digest, bytes)
  return digest
}

/** Writes text as a manifest of a repository, linked and, with a tag, tagged. */
export async function putManifest(
  store: Pick<Store, 'blobs' | 'index'>,
  name: RepositoryName,
  text: string,
  tag?: Tag,
): Promise<Digest> {
  const digest = await putBlob(store, text)
  await store.index.putLink(name, 'manifest', digest, store.index.mark())
  if (tag) await store.index.putTag(name, tag, digest, store.index.mark())
  return digest
}

/** A short listing, whole. */
export async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const collected: T[] = []
  for await (const item of items) collected.push(item)
  return collected
}
