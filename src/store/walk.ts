/**
 * Reads what lies in Distribution's folders, here or elsewhere: repositories, tags, links, blobs. Names outside the
 * grammar, and links that are empty or malformed, are absent (DESIGN "Where the bytes lie"). Throws what the filesystem
 * throws, but for what is not there.
 */
import type { Dirent } from 'node:fs'
import { opendir } from 'node:fs/promises'
import { join } from 'node:path'
import { type Digest, parseDigest } from '../oci/digest.ts'
import { parseRepositoryName, parseTag, type RepositoryName, type Tag } from '../oci/reference.ts'
import { forEachBounded } from './bounded.ts'
import { isAbsent } from './durable-files.ts'
import { readLink } from './link-file.ts'
import { type Entry, LAYERS, linkEntry, linkIn, MANIFESTS, REVISIONS, TAGS, tagLinkIn } from './paths.ts'
import type { LinkKind } from './repository-index.ts'

export interface HeldTagLink {
  readonly tag: Tag
  readonly digest: Digest
}

const LINKS_READ_AT_ONCE = 32
const ALGORITHMS = ['sha256', 'sha512']

/** A folder's entries as they are read, so that a large one is never in memory whole; none when it is absent. */
export async function* entriesOf(folder: string): AsyncGenerator<Dirent> {
  try {
    for await (const entry of await opendir(folder)) yield entry
  } catch (error) {
    if (!isAbsent(error)) throw error
  }
}

/**
 * Every repository in a `repositories/` folder, in the order of code units (`a`, `a-b`, `a/b`), or only `under` and what
 * lies beneath it; of the tree, one folder's names per level are in memory. Throws the signal's reason.
 */
export async function* repositoriesIn(
  folder: string,
  signal?: AbortSignal,
  under?: RepositoryName,
): AsyncGenerator<RepositoryName> {
  const beginning = under === undefined ? folder : join(folder, under)
  const found = await lookInto(beginning)
  if (under !== undefined && found.isRepository) yield under
  yield* repositoriesBelow(beginning, under === undefined ? '' : `${under}/`, found.children, signal)
}

async function* repositoriesBelow(
  folder: string,
  parent: string,
  names: readonly string[],
  signal: AbortSignal | undefined,
): AsyncGenerator<RepositoryName> {
  // `name` stands for the repository and `name/` for what lies below it: `-` and `.` sort between the two.
  const steps = names.flatMap((name) => [name, `${name}/`]).sort(inOrder)
  const below = new Map<string, readonly string[]>()
  for (const step of steps) {
    signal?.throwIfAborted()
    const children = below.get(step)
    if (children) {
      below.delete(step)
      yield* repositoriesBelow(join(folder, step), parent + step, children, signal)
    }
    const name = parseRepositoryName(parent + step)
    if (!name) continue
    const found = await lookInto(join(folder, step))
    if (found.isRepository) yield name
    if (found.children.length > 0) below.set(`${step}/`, found.children)
  }
}

async function lookInto(folder: string): Promise<{ isRepository: boolean; children: string[] }> {
  let isRepository = false
  const children: string[] = []
  for await (const entry of entriesOf(folder)) {
    // A symbolic link is followed: a sysadmin may have moved a repository to another disk.
    if (entry.isFile()) continue
    if (entry.name === LAYERS || entry.name === MANIFESTS) isRepository = true
    else children.push(entry.name)
  }
  return { isRepository, children }
}

/** A repository's tags and what each names, sorted by tag. */
export async function tagsIn(repositoryFolder: string): Promise<HeldTagLink[]> {
  const tags: HeldTagLink[] = []
  await forEachBounded(entriesOf(join(repositoryFolder, TAGS)), LINKS_READ_AT_ONCE, async ({ name }) => {
    const tag = parseTag(name)
    const digest = tag && (await readLink(tagLinkIn(repositoryFolder, tag)))
    if (digest) tags.push({ tag, digest })
  })
  return tags.sort((one, other) => inOrder(one.tag, other.tag))
}

/** The digests that a repository's links lie under, sorted. */
export async function linksIn(repositoryFolder: string, kind: LinkKind): Promise<Digest[]> {
  const folder: Entry = kind === 'layer' ? LAYERS : REVISIONS
  const links: Digest[] = []
  await forEachBounded(digestsIn(join(repositoryFolder, folder)), LINKS_READ_AT_ONCE, async (digest) => {
    if (await readLink(linkIn(repositoryFolder, linkEntry(kind, digest)))) links.push(digest)
  })
  return links.sort(inOrder)
}

/** What `<algorithm>/<hex>` folders are named. */
export async function* digestsIn(folder: string): AsyncGenerator<Digest> {
  for (const algorithm of ALGORITHMS) {
    for await (const { name } of entriesOf(join(folder, algorithm))) {
      const digest = parseDigest(`${algorithm}:${name}`)
      if (digest) yield digest
    }
  }
}

/** Every digest with a folder in a `blobs/` folder, sorted, behind `after`; whether its data is there is not looked at. */
export async function* storedDigests(blobsFolder: string, after?: Digest): AsyncGenerator<Digest> {
  for (const algorithm of ALGORITHMS) {
    for (const prefix of await namesIn(join(blobsFolder, algorithm), /^[0-9a-f]{2}$/)) {
      const beginning = `${algorithm}:${prefix}`
      if (after !== undefined && beginning < after.slice(0, beginning.length)) continue
      for (const name of await namesIn(join(blobsFolder, algorithm, prefix), /^[0-9a-f]+$/)) {
        const digest = name.startsWith(prefix) ? parseDigest(`${algorithm}:${name}`) : undefined
        if (digest && (after === undefined || digest > after)) yield digest
      }
    }
  }
}

async function namesIn(folder: string, grammar: RegExp): Promise<string[]> {
  const names: string[] = []
  for await (const { name } of entriesOf(folder)) if (grammar.test(name)) names.push(name)
  return names.sort(inOrder)
}

/** By code units, whatever the locale. */
function inOrder(one: string, other: string): number {
  if (one === other) return 0
  return one < other ? -1 : 1
}
