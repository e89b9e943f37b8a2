/**
 * The one place that knows where things lie. Under `docker/` it is Distribution's layout to the letter (law 11);
 * everything of our own is under `geo-registry/`. Folder names of either begin with `_` wherever a repository's next
 * component could stand, as components never do. Pure: touches no disk.
 */
import { join } from 'node:path'
import { algorithmOf, type Digest, hexOf } from '../oci/digest.ts'
import type { RepositoryName, Tag } from '../oci/reference.ts'
import type { LinkKind } from './repository-index.ts'

declare const brand: unique symbol
/** What can be linked, confirmed and hidden as one: a folder, relative to its repository's. */
export type Entry = string & { readonly [brand]: 'Entry' }

/** Everything a repository holds, for hiding it whole; both exist in every repository (2.8 and 3 list by one each). */
export const LAYERS: Entry = '_layers' as Entry
export const MANIFESTS: Entry = '_manifests' as Entry
export const REVISIONS: Entry = '_manifests/revisions' as Entry
export const TAGS: Entry = '_manifests/tags' as Entry

const LINK = 'link'
const V2 = 'docker/registry/v2'

export function linkEntry(kind: LinkKind, digest: Digest): Entry {
  const folder = kind === 'layer' ? LAYERS : REVISIONS
  return `${folder}/${algorithmOf(digest)}/${hexOf(digest)}` as Entry
}

export function tagEntry(tag: Tag): Entry {
  return `${TAGS}/${tag}` as Entry
}

/** Where the link of a link's entry lies in a repository's folder, wherever that folder is (here, or hidden). */
export function linkIn(repositoryFolder: string, entry: Entry): string {
  return join(repositoryFolder, entry, LINK)
}

/** A tag's current link. */
export function tagLinkIn(repositoryFolder: string, tag: Tag): string {
  return join(repositoryFolder, tagEntry(tag), 'current', LINK)
}

/** A tag's history, as Distribution keeps it: `<algorithm>/<hex>/link` of every manifest it ever named. */
export function tagIndexIn(repositoryFolder: string, tag: Tag): string {
  return join(repositoryFolder, tagEntry(tag), 'index')
}

export function tagIndexLinkIn(repositoryFolder: string, tag: Tag, digest: Digest): string {
  return join(tagIndexIn(repositoryFolder, tag), algorithmOf(digest), hexOf(digest), LINK)
}

/** Where a blob lies in a `blobs/` folder, wherever that folder is (here, or in a folder that is adopted). */
export function blobIn(blobsFolder: string, digest: Digest): string {
  const hex = hexOf(digest)
  return join(blobsFolder, algorithmOf(digest), hex.slice(0, 2), hex, 'data')
}

/** The `blobs/` folder of a registry's root directory. */
export function blobsUnder(root: string): string {
  return join(root, V2, 'blobs')
}

export interface StorePaths {
  readonly root: string
  /** `filesystem-in-use`: without it GitLab's registry takes the tree for a fresh installation. */
  readonly inUseMarker: string
  /** `sha256/` and `sha512/`, then the first two hex digits, then the digest's own folder. */
  readonly blobs: string
  readonly repositories: string
  /** Format of what lies under `geo-registry/`, a decimal number. */
  readonly version: string
  /** Owned by the fill and the capture; the store only creates it. */
  readonly spools: string
  /** Temporary files, on the same filesystem as what they become. */
  readonly incoming: string
  readonly confirmations: string
  readonly hidden: string
  readonly projects: string
  readonly quarantine: string
  /** Records of which blobs came from adopted folders, until links name them. */
  readonly adopted: string
  blob(digest: Digest): string
  repository(name: RepositoryName): string
  /** Where an entry's link lies; a tag's is its current one. */
  link(name: RepositoryName, entry: Entry): string
  tagLink(name: RepositoryName, tag: Tag): string
  /** A tag's history, as Distribution keeps it. */
  tagIndexLink(name: RepositoryName, tag: Tag, digest: Digest): string
  entry(name: RepositoryName, entry: Entry): string
  /** A file for a link or a tag, a folder of them for `LAYERS` and `MANIFESTS`. */
  confirmation(name: RepositoryName, entry: Entry): string
  /** Where an entry goes when it is hidden: moving `<folder>/docker` back over `<root>/docker` restores it. */
  hiddenEntry(folder: string, name: RepositoryName, entry: Entry): string
  /** `repositories/` inside a hidden folder. */
  hiddenRepositories(folder: string): string
  project(name: RepositoryName): string
  /** Since when no confirmation of the repository's links counts any longer. */
  expiry(name: RepositoryName): string
  /** When the repository was last known to be here whole. */
  complete(name: RepositoryName): string
}

export function createStorePaths(root: string): StorePaths {
  const own = join(root, 'geo-registry')
  const blobs = blobsUnder(root)
  const repositories = join(root, V2, 'repositories')
  const confirmations = join(own, 'confirmations')
  const projects = join(own, 'projects')
  const repository = (name: RepositoryName) => join(repositories, name)
  return {
    root,
    inUseMarker: join(root, 'docker/registry/lockfiles/filesystem-in-use'),
    blobs,
    repositories,
    version: join(own, 'version'),
    spools: join(own, 'spools'),
    incoming: join(own, 'incoming'),
    confirmations,
    hidden: join(own, 'hidden'),
    projects,
    quarantine: join(own, 'quarantine'),
    adopted: join(own, 'adopted'),
    blob: (digest) => blobIn(blobs, digest),
    repository,
    link: (name, entry) => linkIn(repository(name), entry),
    tagLink: (name, tag) => tagLinkIn(repository(name), tag),
    tagIndexLink: (name, tag, digest) => tagIndexLinkIn(repository(name), tag, digest),
    entry: (name, entry) => join(repository(name), entry),
    confirmation: (name, entry) => join(confirmations, name, entry),
    hiddenEntry: (folder, name, entry) => join(folder, V2, 'repositories', name, entry),
    hiddenRepositories: (folder) => join(folder, V2, 'repositories'),
    project: (name) => join(projects, name, '_project'),
    expiry: (name) => join(confirmations, name, '_expired'),
    complete: (name) => join(own, 'complete', name, '_complete'),
  }
}
