/** A fill over a real store in a temporary folder and the real client of a blob primary. */
import { randomBytes } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import pino from 'pino'
import type { Fill, FillAsk, Follower } from '../../src/fill/fill.ts'
import { type FillOptions, type OpenFill, openFill } from '../../src/fill/flights.ts'
import type { Metrics } from '../../src/metrics.ts'
import type { Digest } from '../../src/oci/digest.ts'
import type { AskedRange } from '../../src/oci/ranges.ts'
import type { RepositoryName } from '../../src/oci/reference.ts'
import type { BlobStore } from '../../src/store/blob-store.ts'
import type { Store } from '../../src/store/store.ts'
import { createDispatcher } from '../../src/upstream/dispatcher.ts'
import { createRegistryClient } from '../../src/upstream/registry-client.ts'
import { createMintedTokenSource } from '../../src/upstream/token-source.ts'
import type { Credential, Upstream } from '../../src/upstream/upstream.ts'
import { nameOf, storeFixture } from '../store/store-fixture.ts'
import { until } from '../support/wait.ts'
import { type BlobPrimary, startBlobPrimary } from './blob-primary.ts'

export const APP: RepositoryName = nameOf('group/app')
export const OTHER: RepositoryName = nameOf('group/other')
export const KiB = 1024
export const MiB = 1024 * KiB

export interface FixtureOptions extends Omit<FillOptions, 'folder'> {
  /** Replaces parts of the store. */
  readonly blobs?: (blobs: BlobStore) => BlobStore
}

export interface FillFixture extends AsyncDisposable {
  readonly primary: BlobPrimary
  readonly upstream: Upstream
  readonly store: Store
  readonly metrics: Metrics
  readonly fill: OpenFill
  /** Body bytes received from the primary. */
  receivedBytes(): Promise<number>
  /** Names in the folder of spools. */
  spools(): Promise<string[]>
  /** Closes the fill and opens it again on the same store, as a restart does. */
  restart(options?: FixtureOptions): Promise<void>
}

export async function fillFixture(options: FixtureOptions = {}): Promise<FillFixture> {
  const log = pino({ level: 'silent' })
  const { store, metrics, ...stored } = await storeFixture()
  const primary = await startBlobPrimary()
  const dispatcher = createDispatcher({ metrics, log }, { origin: primary.origin })
  const tokens = createMintedTokenSource(async () => 'site')
  const breaker = { failed: () => undefined, succeeded: () => undefined }
  const upstream = createRegistryClient({ dispatcher, tokens, breaker })
  const open = ({ blobs = (given) => given, ...rest }: FixtureOptions) =>
    openFill(
      { log, metrics, upstream, index: store.index, blobs: blobs(store.blobs) },
      { folder: store.paths.spools, ...rest },
    )
  let fill = await open(options)
  return {
    primary,
    upstream,
    store,
    metrics,
    get fill() {
      return fill
    },
    receivedBytes: async () => (await metrics.upstreamBytes.get()).values[0]?.value ?? 0,
    spools: () => readdir(store.paths.spools),
    async restart(again = options) {
      await fill.close()
      fill = await open(again)
    },
    async [Symbol.asyncDispose]() {
      await fill.close()
      await dispatcher.close()
      await primary[Symbol.asyncDispose]()
      await stored[Symbol.asyncDispose]()
    },
  }
}

export function token(value: string): Credential {
  return { kind: 'caller', authorization: `Bearer ${value}` }
}

/** Bytes nobody has seen before. */
export function someBytes(length: number): Buffer {
  return randomBytes(length)
}

/** Follows, and fails unless a follower is what comes of it. */
export async function follow(
  fill: Fill,
  name: RepositoryName,
  digest: Digest,
  ask: Partial<FillAsk> = {},
): Promise<Follower> {
  const outcome = await fill.follow(name, digest, { credential: token('alice'), ...ask })
  if (outcome.kind !== 'follower') throw new Error(`${outcome.kind} instead of a follower`)
  return outcome.follower
}

const NEVER = new AbortController().signal

/** What a follower reads from `start` up to but not including `end`, in reads of `stepBytes`. */
export async function readSpan(
  follower: Follower,
  start = 0,
  end: number = follower.sizeBytes,
  { stepBytes = 512 * KiB, signal = NEVER }: { stepBytes?: number; signal?: AbortSignal } = {},
): Promise<Buffer> {
  const bytes = Buffer.alloc(end - start)
  const buffer = Buffer.alloc(stepBytes)
  for (let position = start; position < end; ) {
    const count = await follower.read(buffer, Math.min(stepBytes, end - position), position, signal)
    if (count === 0) throw new Error(`nothing at ${position} of ${follower.sizeBytes}`)
    buffer.copy(bytes, position - start, 0, count)
    position += count
  }
  return bytes
}

/** Follows, reads the range or the whole, and leaves. */
export async function pull(
  fill: Fill,
  name: RepositoryName,
  digest: Digest,
  ask: Partial<FillAsk> & { range?: AskedRange } = {},
): Promise<Buffer> {
  const follower = await follow(fill, name, digest, ask)
  try {
    const start = ask.range?.start ?? 0
    return await readSpan(
      follower,
      start,
      ask.range?.end === undefined ? follower.sizeBytes : ask.range.end + 1,
    )
  } finally {
    follower.close()
  }
}

/** Resolves when no flight is under way. */
export async function landed(fill: Fill): Promise<void> {
  await until(() => fill.inFlight === 0, { what: 'every flight to end', everyMs: 2 })
}
