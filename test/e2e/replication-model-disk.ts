/** What a registry's root directory holds, by its files alone: the primary's as well as the site's. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { filesBelow } from './store-files.ts'

export interface Held {
  /** By tag. */
  readonly tags: ReadonlyMap<string, string>
  /** Digests of manifests. */
  readonly manifests: ReadonlySet<string>
  readonly layers: ReadonlySet<string>
}

/** Repositories that hold a tag or a manifest: of an emptied one the primary keeps folders that nothing can be read from. */
export async function heldUnder(root: string): Promise<Map<string, Held>> {
  const folder = join(root, 'docker/registry/v2/repositories')
  const all = new Map<string, Held>()
  for (const name of await repositoriesBelow(folder, '')) {
    const held = await heldIn(join(folder, name))
    if (held.tags.size > 0 || held.manifests.size > 0) all.set(name, held)
  }
  return all
}

async function repositoriesBelow(folder: string, name: string): Promise<string[]> {
  const entries: string[] = await readdir(join(folder, name)).catch(() => []) // Moved away meanwhile.
  const below = entries.filter((entry) => !entry.startsWith('_')).map((entry) => join(name, entry))
  const all = await Promise.all(below.map((each) => repositoriesBelow(folder, each)))
  return [...(entries.includes('_manifests') ? [name] : []), ...all.flat()]
}

async function heldIn(folder: string): Promise<Held> {
  const tagFolder = join(folder, '_manifests/tags')
  const tags = new Map<string, string>()
  for (const tag of await readdir(tagFolder).catch(() => [])) {
    const digest = await readFile(join(tagFolder, tag, 'current/link'), 'utf8').catch(() => '')
    if (digest !== '') tags.set(tag, digest)
  }
  return {
    tags,
    manifests: await linksBelow(join(folder, '_manifests/revisions')),
    layers: await linksBelow(join(folder, '_layers')),
  }
}

async function linksBelow(folder: string): Promise<Set<string>> {
  const links = await Promise.all(
    (await filesBelow(folder)).map((path) => readFile(path, 'utf8').catch(() => '')), // Removed meanwhile.
  )
  return new Set(links.filter((link) => link !== ''))
}
