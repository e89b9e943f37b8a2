/** What a removal is recorded under. A space stands in no name, tag or digest. */
import type { Digest } from '../oci/digest.ts'
import type { RepositoryName, Tag } from '../oci/reference.ts'
import type { LinkKind } from './repository-index.ts'

export const linkKey = (name: RepositoryName, kind: LinkKind, digest: Digest) => `${name} ${kind} ${digest}`
export const tagKey = (name: RepositoryName, tag: Tag) => `${name} tag ${tag}`
export const doubtKey = (name: RepositoryName, tag: Tag) => `${name} doubt ${tag}`

/** Of everything remembered of a repository, and of nothing under it. */
export const isOf = (name: RepositoryName) => (key: string) => key.startsWith(`${name} `)
