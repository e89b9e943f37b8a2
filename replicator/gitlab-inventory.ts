/**
 * Tags with their digests, 1000 a request, by the API that GitLab's registry has with its metadata database
 * (facts/gitlab.md 5.1). Repositories it lists per namespace only: those come from the catalog.
 */
import { type Digest, parseDigest } from '../src/oci/digest.ts'
import type { RepositoryName } from '../src/oci/reference.ts'
import type { Inventory, ListedTag } from './inventory.ts'
import { fieldsOf, type List, type ListPages } from './list-pages.ts'
import { listedTag } from './oci-inventory.ts'

export interface GitlabInventoryDeps {
  readonly pages: ListPages
}

interface Item {
  readonly name: string
  /** Undefined where it is of an algorithm we cannot verify: the tag is then asked for. */
  readonly digest: Digest | undefined
}

export function createGitlabInventory({ pages }: GitlabInventoryDeps): Pick<Inventory, 'tags'> {
  return {
    async tags(name, signal) {
      const listed = new Map<string, ListedTag>()
      for await (const page of pages(tagList(name), signal)) {
        for (const item of page) {
          listed.set(item.name, { tag: listedTag(name, item.name), digest: item.digest })
        }
      }
      return [...listed.values()]
    },
  }
}

function tagList(name: RepositoryName): List<Item> {
  return {
    what: `GitLab list of tags of ${name}`,
    path: `/gitlab/v1/repositories/${name}/tags/list/`,
    scope: `repository:${name}:pull`,
    items: (body) => (Array.isArray(body) ? allOf(body.map(item)) : undefined),
    key: (tag) => tag.name,
    mayBeAbsent: true,
  }
}

function item(value: unknown): Item | undefined {
  const fields = fieldsOf(value)
  const { name, digest } = { name: fields?.['name'], digest: fields?.['digest'] }
  return typeof name === 'string' && typeof digest === 'string'
    ? { name, digest: parseDigest(digest) }
    : undefined
}

function allOf<T>(items: readonly (T | undefined)[]): readonly T[] | undefined {
  const known = items.filter((one) => one !== undefined)
  return known.length === items.length ? known : undefined
}
