/** The numbers of a status, counted anew from where they come: the tracking database's rows, and both disks. */
import { access, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import type { Digest } from '../../src/oci/digest.ts'
import { parseRepositoryName } from '../../src/oci/reference.ts'
import type { StatusReport } from '../../src/status/status-report.ts'
import { createStorePaths, linkEntry } from '../../src/store/paths.ts'
import { registryFolder, requireDigest } from './registry-folder.ts'
import type { ReplicatedSite } from './replicated-site.ts'

type Counted = Pick<
  StatusReport,
  | 'container_repositories_count'
  | 'container_repositories_registry_count'
  | 'container_repositories_synced_count'
  | 'container_repositories_failed_count'
  | 'container_repositories_verified_count'
  | 'container_repositories_verification_failed_count'
  | 'needs_attention'
  | 'events_pending'
  | 'last_event_id'
  | 'cursor_last_event_id'
  | 'inventory_timestamp'
>

/** From the rows themselves, none of the sums that the database keeps. */
export function recountRows(site: ReplicatedSite): Counted {
  using database = new DatabaseSync(join(site.one.site.root, 'geo-registry/tracking.db'), { readOnly: true })
  const number = (sql: string) => {
    const value = database.prepare(`select (${sql}) as value`).get()?.['value']
    return typeof value === 'number' ? value : null
  }
  const rows = (where: string) => number(`select count(*) from tracked_repositories where ${where}`)
  const applied = number(`select value from counters where name = 'applied_event'`) ?? 0
  const never = rows('inventory_at is null')
  const inventoryAtMs = number('select min(inventory_at) from tracked_repositories')
  return {
    container_repositories_count: rows('true'),
    container_repositories_registry_count: rows('true'),
    container_repositories_synced_count: rows(`state = 'synced'`),
    container_repositories_failed_count: rows(`state = 'failed'`),
    container_repositories_verified_count: rows(`verification_state = 'succeeded'`),
    container_repositories_verification_failed_count: rows(`verification_state = 'failed'`),
    needs_attention: rows('needs_attention = 1'),
    events_pending: number('select count(*) from events'),
    last_event_id: Math.max(number('select max(sequence) from events') ?? 0, applied),
    cursor_last_event_id: applied,
    inventory_timestamp: never !== 0 || inventoryAtMs === null ? null : Math.floor(inventoryAtMs / 1000),
  }
}

/** What of the primary's tags is not here, whole; from both disks. */
export async function recountTags(
  site: ReplicatedSite,
): Promise<Pick<StatusReport, 'tags' | 'failing_tags' | 'blobs_outstanding' | 'bytes_outstanding'>> {
  const there = registryFolder(site.primary.root)
  const here = registryFolder(site.one.site.root)
  const failing = new Set<string>()
  const missing = { blobs: 0, bytes: 0 }
  let tags = 0
  for (const name of await there.repositories()) {
    const tagsHere = await here.tags(name)
    const counted = new Set<string>()
    for (const [tag, digest] of await there.tags(name)) {
      tags++
      const gap = await missingUnder(site, name, requireDigest(digest))
      if (tagsHere.get(tag) === digest && gap.blobs === 0) continue
      failing.add(`${name}:${tag}`)
      if (!counted.has(digest)) {
        missing.blobs += gap.blobs
        missing.bytes += gap.bytes
      }
      counted.add(digest)
    }
  }
  return {
    tags,
    failing_tags: failing.size,
    blobs_outstanding: missing.blobs,
    bytes_outstanding: missing.bytes,
  }
}

interface Named {
  readonly digest: Digest
  readonly size: number
}

/** Of a manifest without children, as the primary has it. */
async function missingUnder(site: ReplicatedSite, name: string, digest: Digest) {
  const paths = createStorePaths(site.one.site.root)
  const repository = parseRepositoryName(name)
  if (!repository) throw new Error(`no repository name: ${name}`)
  const bytes = await readFile(registryFolder(site.primary.root).blob(digest))
  const { config, layers } = JSON.parse(bytes.toString()) as { config: Named; layers: readonly Named[] }
  const missing = { blobs: 0, bytes: 0 }
  const count = async (kind: 'manifest' | 'layer', { digest: each, size }: Named) => {
    const stored = await exists(paths.blob(each))
    if (!stored || !(await exists(paths.link(repository, linkEntry(kind, each))))) missing.blobs += 1
    if (!stored) missing.bytes += size
  }
  await count('manifest', { digest, size: bytes.length })
  for (const layer of [config, ...layers]) await count('layer', layer)
  return missing
}

function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}
