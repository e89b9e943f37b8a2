/** The names, tags and answers that the tests of freshness speak of, and how they open one. */
import { afterEach, beforeEach, expect } from 'vitest'
import type { Epochs, Freshness } from '../../src/freshness/freshness.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { parseRepositoryName, parseTag, type RepositoryName, type Tag } from '../../src/oci/reference.ts'

export const repositoryNamed = (text: string): RepositoryName =>
  parseRepositoryName(text) ?? expect.unreachable()
export const tagNamed = (text: string): Tag => parseTag(text) ?? expect.unreachable()

export const NAME = repositoryNamed('a')
export const OTHER_NAME = repositoryNamed('a/b')
export const NAMES = [NAME, OTHER_NAME]
export const TAG = tagNamed('v1')
export const OTHER_TAG = tagNamed('v2')
export const TAGS = [TAG, OTHER_TAG, tagNamed('latest')]
export const OLD = digestOf(Buffer.from('x'))
export const NEW = digestOf(Buffer.from('y'))
export const DIGESTS = [OLD, NEW]

export interface FreshnessSettings {
  readonly trustMs?: number
  readonly maxStalenessMs?: number
  readonly now: () => number
}
export type FreshnessSubject = { readonly freshness: Freshness & Epochs } & AsyncDisposable
export type MakeFreshness = (settings: FreshnessSettings) => Promise<FreshnessSubject>

/** Asks and is answered at once. */
export async function confirmNow(
  freshness: Freshness,
  digest: Digest,
  name: RepositoryName = NAME,
  tag: Tag = TAG,
): Promise<void> {
  expect(await freshness.confirm(await freshness.observe(name, tag), digest)).toBe(true)
}

export interface FreshnessWorld {
  /** The clock of all that is opened; a test moves it by hand. */
  nowMs: number
  /** Another one, which ends with the test. */
  open(settings: Omit<FreshnessSettings, 'now'>): Promise<Freshness & Epochs>
}

/** For each test of a contract: its clock begins anew, and what it opened ends. */
export function freshnessWorld(make: MakeFreshness): FreshnessWorld {
  let owned = new AsyncDisposableStack()
  const world: FreshnessWorld = {
    nowMs: 0,
    open: async (settings) => owned.use(await make({ ...settings, now: () => world.nowMs })).freshness,
  }
  beforeEach(() => {
    owned = new AsyncDisposableStack()
    world.nowMs = 5000
  })
  afterEach(() => owned.disposeAsync())
  return world
}
