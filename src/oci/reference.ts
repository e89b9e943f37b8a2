/**
 * Repository names, tags and references: the grammar of the distribution specification, nothing wider.
 * A branded value has always been parsed, so it is safe to build a path or a URL from.
 * https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pulling-manifests
 */
import { type Digest, parseDigest } from './digest.ts'

declare const brand: unique symbol
export type RepositoryName = string & { readonly [brand]: 'RepositoryName' }
export type Tag = string & { readonly [brand]: 'Tag' }
export type Reference =
  | { readonly kind: 'tag'; readonly tag: Tag }
  | { readonly kind: 'digest'; readonly digest: Digest }

/** Distribution refuses longer names (`NameTotalLengthMax`), and so would a primary. */
const NAME_MAX_LENGTH = 255
const COMPONENT = '[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*'
const NAME = new RegExp(`^${COMPONENT}(?:/${COMPONENT})*$`)
const TAG = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/

export function parseRepositoryName(text: string): RepositoryName | undefined {
  return text.length <= NAME_MAX_LENGTH && NAME.test(text) ? (text as RepositoryName) : undefined
}

export function parseTag(text: string): Tag | undefined {
  return TAG.test(text) ? (text as Tag) : undefined
}

/** A reference holds a colon exactly when it is meant as a digest: the tag grammar has none. */
export function parseReference(text: string): Reference | undefined {
  if (text.includes(':')) {
    const digest = parseDigest(text)
    return digest && { kind: 'digest', digest }
  }
  const tag = parseTag(text)
  return tag && { kind: 'tag', tag }
}

export function referenceText(reference: Reference): string {
  return reference.kind === 'tag' ? reference.tag : reference.digest
}
