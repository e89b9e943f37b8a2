/** A registry's root directory as it lies on the disk, primary's or site's: read, and changed behind everybody's back. */
import { cp, mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type Digest, parseDigest } from '../../src/oci/digest.ts'
import { parseRepositoryName, parseTag, type RepositoryName, type Tag } from '../../src/oci/reference.ts'
import { createStorePaths, tagIndexLinkIn, tagLinkIn } from '../../src/store/paths.ts'

export interface RegistryFolder {
  /** Names of the repositories that have a tag. */
  repositories(): Promise<string[]>
  /** Sorted by tag. */
  tags(name: string): Promise<ReadonlyMap<string, string>>
  /** Of all repositories: `team/app:v1` → digest. */
  allTags(): Promise<Readonly<Record<string, string>>>
  /** As a push would leave them: where no event, no log and no client knows of it. */
  writeTags(name: string, tags: readonly string[], digest: Digest): Promise<void>
  removeTags(name: string, tags: readonly string[]): Promise<void>
  /** Makes another repository of the same content. */
  copyRepository(from: string, to: string): Promise<void>
  /** The path of a blob's file. */
  blob(digest: Digest): string
  /** Bytes of every blob there is. */
  blobBytes(): Promise<number>
  /** A copy of the whole folder. */
  copyTo(folder: string): Promise<void>
}

export function registryFolder(root: string): RegistryFolder {
  const paths = createStorePaths(root)
  const folderOf = (name: string) => join(paths.repositories, requireName(name))

  async function tags(name: string): Promise<ReadonlyMap<string, string>> {
    const names = await readdir(join(folderOf(name), '_manifests/tags')).catch(() => [])
    const pairs = names.toSorted().map(async (tag): Promise<[string, string] | undefined> => {
      const link = await readFile(tagLinkIn(folderOf(name), requireTag(tag)), 'utf8').catch(() => undefined)
      return link === undefined ? undefined : [tag, link]
    })
    return new Map((await Promise.all(pairs)).filter((pair) => pair !== undefined))
  }

  async function repositories(): Promise<string[]> {
    const entries = await readdir(paths.repositories, { recursive: true }).catch(() => [])
    const names = entries.filter((path) => path.endsWith('/_manifests')).map(dirname)
    const tagged = await Promise.all(names.map(async (name) => ((await tags(name)).size > 0 ? [name] : [])))
    return tagged.flat().sort()
  }

  return {
    repositories,
    tags,
    async allTags() {
      const names = await repositories()
      const all = await Promise.all(
        names.map(async (name) => [...(await tags(name))].map(([tag, digest]) => [`${name}:${tag}`, digest])),
      )
      return Object.fromEntries(all.flat()) as Record<string, string>
    },
    async writeTags(name, names, digest) {
      for (const tag of names) {
        const links = [
          tagLinkIn(folderOf(name), requireTag(tag)),
          tagIndexLinkIn(folderOf(name), requireTag(tag), digest),
        ]
        for (const link of links) {
          await mkdir(dirname(link), { recursive: true })
          await writeFile(link, digest)
        }
      }
    },
    async removeTags(name, names) {
      for (const tag of names) {
        await rm(join(folderOf(name), '_manifests/tags', requireTag(tag)), { recursive: true })
      }
    },
    copyRepository: (from, to) => cp(folderOf(from), folderOf(to), { recursive: true }),
    blob: (digest) => paths.blob(digest),
    async blobBytes() {
      const entries = await readdir(paths.blobs, { recursive: true, withFileTypes: true }).catch(() => [])
      const files = entries.filter((entry) => entry.isFile())
      const sizes = await Promise.all(
        files.map(async (file) => (await stat(join(file.parentPath, file.name))).size),
      )
      return sizes.reduce((sum, size) => sum + size, 0)
    },
    async copyTo(folder) {
      await cp(root, folder, { recursive: true })
    },
  }
}

/** The digest that a link's file holds. */
export function requireDigest(text: string): Digest {
  const digest = parseDigest(text)
  if (!digest) throw new Error(`no digest: ${text}`)
  return digest
}

function requireName(name: string): RepositoryName {
  const parsed = parseRepositoryName(name)
  if (!parsed) throw new Error(`no repository name: ${name}`)
  return parsed
}

function requireTag(tag: string): Tag {
  const parsed = parseTag(tag)
  if (!parsed) throw new Error(`no tag: ${tag}`)
  return parsed
}
