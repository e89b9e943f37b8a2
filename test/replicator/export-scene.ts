/** A site that keeps images as the replicator leaves them, and a primary that lists what it is told to. */
import { join } from 'node:path'
import { type ExportReport, exportCheck, type Loss } from '../../replicator/export-check.ts'
import { missingOf } from '../../replicator/held-graph.ts'
import type { Inventory } from '../../replicator/inventory.ts'
import { createLogger } from '../../src/log.ts'
import type { Digest } from '../../src/oci/digest.ts'
import type { RepositoryName, Tag } from '../../src/oci/reference.ts'
import { openTracking } from '../../src/tracking/open-tracking.ts'
import type { Tracking } from '../../src/tracking/tracking.ts'
import { UpstreamError, type UpstreamErrorKind } from '../../src/upstream/errors.ts'
import { nameOf, type StoreFixture, storeFixture, tagOf } from '../store/store-fixture.ts'
import { contentBytes } from '../support/content.ts'
import { allBlobs, allManifests, type Image } from '../support/images.ts'

export const APP: RepositoryName = nameOf('team/app')
export const NOTHING_LOST: ExportReport['losses'] = {
  absent: 0,
  older: 0,
  incomplete: 0,
  unchecked: 0,
  unlisted: 0,
}

export interface CheckWith {
  readonly tracking?: Tracking
  readonly digestThere?: (name: RepositoryName, tag: Tag) => Promise<Digest | undefined>
}

export interface ExportScene extends AsyncDisposable {
  readonly fixture: StoreFixture
  readonly tracking: Tracking
  /** Puts an image here, linked and tagged. */
  keep(image: Image, tag: Tag, repository?: RepositoryName): Promise<void>
  check(inventory: Inventory, more?: CheckWith): Promise<ExportReport & { readonly found: readonly Loss[] }>
}

export async function exportScene(): Promise<ExportScene> {
  const fixture = await storeFixture()
  const log = createLogger({ level: 'silent' })
  const tracking = await openTracking(
    { kind: 'sqlite', file: join(fixture.root, 'tracking.sqlite') },
    { log },
  )
  return {
    fixture,
    tracking,
    keep: async (image, tag, repository = APP) => {
      const { blobs, index } = fixture.store
      for (const blob of allBlobs(image)) {
        await blobs.write(blob.digest, await contentBytes(blob))
        await index.putLink(repository, 'layer', blob.digest, index.mark())
      }
      for (const { digest, bytes } of allManifests(image)) {
        await blobs.write(digest, bytes)
        await index.putLink(repository, 'manifest', digest, index.mark())
      }
      await index.putTag(repository, tag, image.digest, index.mark())
    },
    check: async (inventory, more = {}) => {
      const found: Loss[] = []
      const { holdings, index } = fixture.store
      const copying = {
        missing: (name: RepositoryName, digest: Digest) => missingOf(fixture.store, name, digest),
      }
      const report = await exportCheck(
        { inventory, holdings, index, copying, ...more },
        { onLoss: (loss) => void found.push(loss) },
      )
      return { ...report, found }
    },
    [Symbol.asyncDispose]: async () => {
      await tracking[Symbol.asyncDispose]()
      await fixture[Symbol.asyncDispose]()
    },
  }
}

type Lists = Readonly<Record<string, Readonly<Record<string, Digest | undefined>>>>

export interface ListedPrimary extends Inventory {
  /** Repositories whose tags were asked for, in order; `''` for the list of all, at its end. */
  readonly asked: readonly string[]
}

/** A primary that has these; `failing` answers what is thrown for a repository, or for the list of all (`''`). */
export function listed(
  lists: Lists,
  failing: (name: string) => UpstreamErrorKind | undefined = () => undefined,
): ListedPrimary {
  const asked: string[] = []
  const fail = (what: string) => {
    asked.push(what)
    const kind = failing(what)
    if (kind) throw new UpstreamError(kind, what)
  }
  const inventory: Inventory = {
    kind: async () => 'gitlab',
    async *repositories() {
      for (const one of Object.keys(lists)) yield [nameOf(one), nameOf(one)]
      fail('')
    },
    tags: async (one) => {
      fail(one)
      const tags = lists[one]
      if (!tags) throw new UpstreamError('absent', one)
      return Object.entries(tags).map(([tag, digest]) => ({ tag: tagOf(tag), digest }))
    },
  }
  return Object.assign(inventory, { asked })
}
