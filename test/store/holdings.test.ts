import { mkdir, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { linkEntry } from '../../src/store/paths.ts'
import { all, nameOf, putBlob, putManifest, storeFixture, tagOf } from './store-fixture.ts'

const name = nameOf('team/app')

describe('the repositories of a site', () => {
  it('are listed in the order of their names, nested ones among them, each once', async () => {
    await using fixture = await storeFixture()
    const { index, holdings } = fixture.store
    const names = ['a', 'a-b', 'a-b/c', 'a.b/c/d', 'a/b', 'a/b-c', 'a/b/c', 'a0', 'a_b', 'b/c', 'z'].map(
      nameOf,
    )
    const digest = await putBlob(fixture.store, 'shared')
    for (const one of names.toReversed()) await index.putLink(one, 'layer', digest, index.mark())

    expect(await all(holdings.repositories())).toEqual(names)
    const under = (path: string) => all(holdings.repositories(undefined, nameOf(path)))
    expect(await under('a')).toEqual(['a', 'a/b', 'a/b-c', 'a/b/c'])
    expect(await under('a.b')).toEqual(['a.b/c/d'])
    expect(await under('z')).toEqual(['z'])
    expect(await under('nowhere/at/all')).toEqual([])
  })

  it('are what has either folder of a repository, under a name in the grammar', async () => {
    await using fixture = await storeFixture()
    const { repositories } = fixture.store.paths
    for (const folder of [
      'only-layers/_layers',
      'only-manifests/_manifests',
      'group/inside/_layers',
      'Upper/_layers',
      'a..b/_layers',
      'ok/_uploads/nested/_layers',
      'ok/-x/_layers',
      `${'x/'.repeat(127)}toolong/_layers`,
    ]) {
      await mkdir(join(repositories, folder), { recursive: true })
    }
    await writeFile(join(repositories, 'a-file'), '')

    const listed = await all(fixture.store.holdings.repositories())

    expect(listed).toEqual(['group/inside', 'only-layers', 'only-manifests'])
  })

  it('are followed to another disk, and none are there before anything was kept', async () => {
    await using fixture = await storeFixture()
    const { paths, holdings } = fixture.store
    expect(await all(holdings.repositories())).toEqual([])
    const digest = await putManifest(fixture.store, name, 'm', tagOf('latest'))
    const elsewhere = join(fixture.root, 'elsewhere')
    await rename(join(paths.repositories, 'team'), elsewhere)
    await symlink(elsewhere, join(paths.repositories, 'team'))

    expect(await all(holdings.repositories())).toEqual([name])
    expect(await holdings.links(name, 'manifest')).toEqual([digest])
  })

  it('are read as they are asked for: who has seen enough stops, and a signal ends it', async () => {
    await using fixture = await storeFixture()
    const { index, holdings } = fixture.store
    const digest = await putBlob(fixture.store, 'shared')
    for (const one of ['a', 'b', 'c']) await index.putLink(nameOf(one), 'layer', digest, index.mark())
    const controller = new AbortController()
    const seen: string[] = []

    const listing = async () => {
      for await (const one of holdings.repositories(controller.signal)) {
        seen.push(one)
        controller.abort(new Error('enough'))
      }
    }

    await expect(listing()).rejects.toThrow('enough')
    expect(seen).toEqual(['a'])
  })
})

describe('what a repository holds', () => {
  it('is listed sorted, by kind, by the digest that a link lies under', async () => {
    await using fixture = await storeFixture()
    const { index, holdings } = fixture.store
    const tags = ['v10', 'v2', 'Latest', '_x', 'latest'].map(tagOf)
    const manifests = []
    for (const tag of tags) manifests.push(await putManifest(fixture.store, name, `of ${tag}`, tag))
    const target = await putBlob(fixture.store, 'layer')
    const asked = await putBlob(fixture.store, 'layer', 'sha512')
    for (const one of [asked, target]) await index.putLink(name, 'layer', one, index.mark(), target)

    expect(await holdings.tags(name)).toEqual(['Latest', '_x', 'latest', 'v10', 'v2'])
    expect(await holdings.links(name, 'manifest')).toEqual(manifests.toSorted())
    expect(await holdings.links(name, 'layer')).toEqual([target, asked])
    expect(await holdings.tags(nameOf('team'))).toEqual([])
    expect(await holdings.links(nameOf('nobody'), 'layer')).toEqual([])
  })

  it.each([
    ['empty', () => ''],
    ['ended by a newline', (digest: string) => `${digest}\n`],
    ['no digest', () => 'sha256:../../../etc/passwd'],
  ])('leaves out links that are %s', async (_what, content) => {
    await using fixture = await storeFixture()
    const { paths, holdings } = fixture.store
    const digest = await putManifest(fixture.store, name, 'm', tagOf('good'))
    const layer = await putBlob(fixture.store, 'layer')
    for (const path of [
      paths.tagLink(name, tagOf('bad')),
      paths.link(name, linkEntry('layer', layer)),
      paths.link(name, linkEntry('manifest', layer)),
    ]) {
      await mkdir(dirname(path), { recursive: true })
      await writeFile(path, content(layer))
    }
    await mkdir(join(paths.repository(name), '_manifests/tags/no tag/current'), { recursive: true })
    await mkdir(join(paths.repository(name), '_layers/sha256/beef'), { recursive: true })

    expect(await holdings.tags(name)).toEqual(['good'])
    expect(await holdings.links(name, 'manifest')).toEqual([digest])
    expect(await holdings.links(name, 'layer')).toEqual([])
  })
})

describe('the blobs of a site', () => {
  it('come in the order of their digests, and go on behind any of them', async () => {
    await using fixture = await storeFixture()
    const { holdings } = fixture.store
    const stored = []
    for (let one = 0; one < 40; one++) {
      stored.push(await putBlob(fixture.store, `blob ${one}`, one % 4 === 0 ? 'sha512' : 'sha256'))
    }
    const inOrder = stored.toSorted()

    expect(await all(holdings.blobs(undefined))).toEqual(inOrder)
    for (const [position, digest] of inOrder.entries()) {
      expect(await all(holdings.blobs(digest))).toEqual(inOrder.slice(position + 1))
    }
  })

  it('are what has its data, where a blob of that digest lies', async () => {
    await using fixture = await storeFixture()
    const { holdings, paths } = fixture.store
    const [kept, emptied, misplaced] = [
      await putBlob(fixture.store, 'kept'),
      await putBlob(fixture.store, 'emptied'),
      await putBlob(fixture.store, 'misplaced'),
    ]
    await rm(paths.blob(emptied))
    const folder = dirname(paths.blob(misplaced))
    await rename(folder, join(dirname(dirname(folder)), 'zz-misplaced'))
    await mkdir(join(paths.blobs, 'sha256/ff/not-hex'), { recursive: true })
    await mkdir(join(paths.blobs, 'md5/ff/ff'), { recursive: true })
    await writeFile(join(paths.blobs, 'sha256/a-file'), '')

    expect(await all(holdings.blobs(undefined))).toEqual([kept])
  })

  it('are left at the next one when the signal says so', async () => {
    await using fixture = await storeFixture()
    await putBlob(fixture.store, 'one')

    const listing = all(fixture.store.holdings.blobs(undefined, AbortSignal.abort(new Error('stop'))))

    await expect(listing).rejects.toThrow('stop')
  })
})

describe('the mark of completeness', () => {
  it('stands until something is heard of, across restarts', async () => {
    await using fixture = await storeFixture()
    expect(await fixture.store.holdings.completeSince(name)).toBeUndefined()

    const asked = { ...fixture.store.index.mark(), atMs: 1_700_000_000_000.7 }
    await fixture.store.holdings.markComplete(name, asked)
    expect(await fixture.store.holdings.completeSince(name)).toBe(1_700_000_000_000)
    expect(await (await fixture.reopen()).holdings.completeSince(name)).toBe(1_700_000_000_000)
    expect(await fixture.store.holdings.completeSince(nameOf('team'))).toBeUndefined()
    expect(await fixture.store.holdings.completeSince(nameOf('team/app/inside'))).toBeUndefined()

    await fixture.store.holdings.dropComplete(name)
    expect(await fixture.store.holdings.completeSince(name)).toBeUndefined()
    expect(await (await fixture.reopen()).holdings.completeSince(name)).toBeUndefined()
  })

  it('is not set by an inventory that is older than what was heard of', async () => {
    let clockMs = 1_700_000_000_000
    await using fixture = await storeFixture({ now: () => clockMs })
    const { holdings, index } = fixture.store
    const asked = index.mark()
    clockMs += 10
    await holdings.dropComplete(name)

    await holdings.markComplete(name, asked)
    expect(await holdings.completeSince(name)).toBeUndefined()

    await holdings.markComplete(name, index.mark())
    expect(await holdings.completeSince(name)).toBe(clockMs)
  })

  it('is dropped by each of many events, whatever is marked between them', async () => {
    let clockMs = 1_700_000_000_000
    await using fixture = await storeFixture({ now: () => clockMs })
    const { holdings, index } = fixture.store
    for (let round = 0; round < 20; round++) {
      const asked = index.mark()
      const drops = [
        holdings.dropComplete(name),
        holdings.markComplete(name, asked),
        holdings.dropComplete(name),
      ]
      await Promise.all(drops)
      expect(await holdings.completeSince(name)).toBeUndefined()
      clockMs += 1
      await holdings.markComplete(name, index.mark())
      expect(await holdings.completeSince(name)).toBe(clockMs)
      clockMs += 1
    }
  })

  it('that is damaged is none', async () => {
    await using fixture = await storeFixture()
    const { holdings, index, paths } = fixture.store
    await holdings.markComplete(name, { ...index.mark(), atMs: 5 })
    for (const content of ['', 'soon', '-1', '5\n', '9'.repeat(300)]) {
      await writeFile(paths.complete(name), content)
      expect(await holdings.completeSince(name)).toBeUndefined()
    }
  })

  it('cannot be kept or dropped on a broken disk without saying so', async () => {
    await using fixture = await storeFixture()
    await writeFile(join(fixture.root, 'geo-registry/complete'), 'in the way')

    const marking = fixture.store.holdings.markComplete(name, fixture.store.index.mark())
    await expect(marking).rejects.toMatchObject({ name: 'StoreError' })
  })
})
