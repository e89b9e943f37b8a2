/** What any registry says it has: the catalog, and the names of a repository's tags. */
import type { Logger } from '../src/log.ts'
import { parseRepositoryName, parseTag, type RepositoryName } from '../src/oci/reference.ts'
import { UpstreamError } from '../src/upstream/errors.ts'
import type { Inventory, ListedTag } from './inventory.ts'
import { fieldsOf, type List, type ListPages, textsOf } from './list-pages.ts'

export interface OciInventoryDeps {
  readonly pages: ListPages
  readonly log: Pick<Logger, 'warn'>
}

/** Distribution's; GitLab's registry has it too, and no other list of all its repositories. */
const CATALOG: List<string> = {
  what: 'catalog',
  path: '/v2/_catalog',
  scope: 'registry:catalog:*',
  items: (body) => textsOf(fieldsOf(body)?.['repositories']),
  key: (name) => name,
  mayBeAbsent: false,
}

export function createOciInventory({ pages, log }: OciInventoryDeps): Omit<Inventory, 'kind'> {
  return {
    async *repositories(signal) {
      for await (const page of pages(CATALOG, signal)) {
        const names = page.map(parseRepositoryName).filter((name) => name !== undefined)
        if (names.length < page.length) {
          const example = page.find((text) => !parseRepositoryName(text))
          const left = page.length - names.length
          log.warn({ names: left, example }, 'the catalog lists what is no repository name: left out')
        }
        yield names
      }
    },

    async tags(name, signal) {
      const listed = new Map<string, ListedTag>()
      for await (const page of pages(tagList(name), signal)) {
        for (const text of page) listed.set(text, { tag: listedTag(name, text), digest: undefined })
      }
      return [...listed.values()]
    },
  }
}

function tagList(name: RepositoryName): List<string> {
  return {
    what: `list of tags of ${name}`,
    path: `/v2/${name}/tags/list`,
    scope: `repository:${name}:pull`,
    items(body) {
      const fields = fieldsOf(body)
      return fields?.['name'] === name ? textsOf(fields['tags']) : undefined
    },
    key: (tag) => tag,
    mayBeAbsent: true,
  }
}

/** A repository with a tag that cannot be copied could never be called in step: better no list than a shorter one. */
export function listedTag(name: RepositoryName, text: string): ListedTag['tag'] {
  const tag = parseTag(text)
  if (tag === undefined) throw new UpstreamError('faulty', `the list of tags of ${name} has what is no tag`)
  return tag
}
