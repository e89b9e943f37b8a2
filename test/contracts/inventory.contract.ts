/** What every inventory owes its callers, whatever the primary's lists look like. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Inventory } from '../../replicator/inventory.ts'
import type { Digest } from '../../src/oci/digest.ts'
import type { RepositoryName } from '../../src/oci/reference.ts'
import { UpstreamError } from '../../src/upstream/errors.ts'
import { nameOf } from '../store/store-fixture.ts'

/** A primary that a test fills, and the inventory of it. */
export interface ListedPrimary extends AsyncDisposable {
  readonly inventory: Inventory
  /** Puts one small manifest under these tags; its digest. */
  hold(name: string, tags: readonly string[]): Promise<Digest>
  /** Repositories without a tag. */
  holdEmpty(names: readonly string[]): Promise<void>
  /** Requests since the last call. */
  requests(): number
  stop(): Promise<void>
}

export interface InventoryTraits {
  readonly kind: 'gitlab' | 'oci'
  /** Requests for `count` tags, beside finding out the kind. */
  readonly requestsFor: (count: number) => number
}

export function inventoryContract(
  what: string,
  { kind, requestsFor }: InventoryTraits,
  open: () => Promise<ListedPrimary>,
): void {
  describe(what, () => {
    let primary: ListedPrimary
    beforeAll(async () => {
      primary = await open()
    })
    afterAll(() => primary[Symbol.asyncDispose]())

    it('finds out once what kind of lists the primary has', async () => {
      primary.requests()

      const kinds = await Promise.all([1, 2, 3].map(() => primary.inventory.kind()))

      expect(kinds).toEqual([kind, kind, kind])
      expect(primary.requests()).toBe(1)
    })

    it('lists every repository once, however deep its path', async () => {
      const names = ['team/app', 'team-b/app', 'team', 'a/b/c/d/e']
      for (const name of names) await primary.hold(name, ['latest'])

      expect(inOrder(await allOf(primary.inventory))).toEqual(inOrder(names))
    })

    it('lists more repositories than fit on two pages, each once', async () => {
      const names = Array.from({ length: 2500 }, (_, at) => (at % 2 ? `many-${at}/a` : `many/${at}`))
      await primary.holdEmpty(names)

      const listed = await allOf(primary.inventory)

      expect(inOrder(listed.filter((name) => name.startsWith('many')))).toEqual(inOrder(names))
      expect(await primary.inventory.tags(nameOf('many/0'))).toEqual([])
    })

    it('lists the tags of a repository, with digests where the primary says them', async () => {
      const digest = await primary.hold('tagged/app', ['latest', 'v1', 'V_2.x-y'])

      const tags = await primary.inventory.tags(nameOf('tagged/app'))

      const said = kind === 'gitlab' ? digest : undefined
      expect(tags.toSorted((one, other) => (one.tag < other.tag ? -1 : 1))).toEqual(
        ['V_2.x-y', 'latest', 'v1'].map((tag) => ({ tag, digest: said })),
      )
    })

    it('lists 10 000 tags completely, in no more requests than it must', async () => {
      const tags = Array.from({ length: 10_000 }, (_, index) => `tag-${index}`)
      await primary.hold('many/tags', tags)
      await primary.inventory.kind()
      primary.requests()

      const listed = await primary.inventory.tags(nameOf('many/tags'))

      expect(inOrder(listed.map(({ tag }) => tag))).toEqual(inOrder(tags))
      expect(primary.requests()).toBe(requestsFor(10_000))
    })

    it('says absent of a repository the primary does not know', async () => {
      await expect(primary.inventory.tags(nameOf('never/pushed'))).rejects.toMatchObject({
        name: 'UpstreamError',
        kind: 'absent',
      })
    })

    it('ends with the reason of whoever gives up', async () => {
      const signal = AbortSignal.abort(new Error('enough'))

      await expect(primary.inventory.tags(nameOf('team/app'), signal)).rejects.toMatchObject({
        kind: 'aborted',
      })
      await expect(allOf(primary.inventory, signal)).rejects.toMatchObject({ kind: 'aborted' })
    })

    it('calls nothing absent while the primary is away', async () => {
      await primary.stop()

      await expect(primary.inventory.tags(nameOf('team/app'))).rejects.toMatchObject({ kind: 'unavailable' })
      await expect(allOf(primary.inventory)).rejects.toThrow(UpstreamError)
    })
  })
}

export async function allOf(
  inventory: Pick<Inventory, 'repositories'>,
  signal?: AbortSignal,
): Promise<RepositoryName[]> {
  const names: RepositoryName[] = []
  for await (const page of inventory.repositories(signal)) names.push(...page)
  return names
}

function inOrder(texts: readonly string[]): string[] {
  return texts.toSorted((one, other) => (one < other ? -1 : 1))
}
