import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { Digest } from '../../src/oci/digest.ts'
import { linkEntry, tagEntry } from '../../src/store/paths.ts'
import { repositoryIndexContract } from './repository-index-contract.ts'
import { nameOf, putBlob, putManifest, type StoreFixture, storeFixture, tagOf } from './store-fixture.ts'

const name = nameOf('team/app')
const latest = tagOf('latest')

describe('the repository index on a filesystem', () => {
  repositoryIndexContract(async () => {
    const fixture = await storeFixture()
    return {
      get blobs() {
        return fixture.store.blobs
      },
      get index() {
        return fixture.store.index
      },
      reopen: () => fixture.reopen(),
      [Symbol.asyncDispose]: () => fixture[Symbol.asyncDispose](),
    }
  })

  it('writes links as Distribution does, without a newline, and both folders of a repository', async () => {
    await using fixture = await storeFixture()
    const { paths } = fixture.store
    const digest = await putManifest(fixture.store, name, 'm', latest)

    for (const path of [
      paths.link(name, linkEntry('manifest', digest)),
      paths.tagLink(name, latest),
      paths.tagIndexLink(name, latest, digest),
    ]) {
      expect(await readFile(path, 'utf8')).toBe(digest)
    }
    expect((await readdir(paths.repository(name))).sort()).toEqual(['_layers', '_manifests'])
  })

  it('answers what it has seen from memory', async () => {
    await using fixture = await storeFixture()
    const { index } = fixture.store
    const digest = await putManifest(fixture.store, name, 'm', latest)
    const seen = [await index.link(name, 'manifest', digest), await index.tag(name, latest)]

    await rename(join(fixture.root, 'docker'), join(fixture.root, 'out-of-reach'))

    expect([await index.link(name, 'manifest', digest), await index.tag(name, latest)]).toEqual(seen)
  })

  it('finds what was absent a moment ago', async () => {
    await using fixture = await storeFixture()
    const { index, paths } = fixture.store
    const digest = await putBlob(fixture.store, 'm')
    expect(await index.link(name, 'layer', digest)).toBeUndefined()

    await plant(paths.link(name, linkEntry('layer', digest)), digest)

    expect(await index.link(name, 'layer', digest)).toEqual({ target: digest, confirmedAtMs: undefined })
  })

  it.each([
    ['empty', () => ''],
    ['ended by a newline', (digest: string) => `${digest}\n`],
    ['a path upwards', () => 'sha256:../../../../../../etc/passwd'],
    ['a path in place of hex', (digest: string) => `${digest.slice(0, 60)}/../aaaaaaa`],
    ['in capitals', (digest: string) => digest.toUpperCase()],
    ['of an unknown algorithm', (digest: string) => digest.replace('sha256', 'sha257')],
    ['two digests', (digest: string) => digest + digest],
    ['cut short', (digest: string) => digest.slice(0, -1)],
    ['a megabyte', () => 'a'.repeat(1024 * 1024)],
    ['holding a NUL', (digest: string) => `${digest}\0`],
  ])('takes a link that is %s for absent, as a link and as a tag', async (_what, content) => {
    await using fixture = await storeFixture()
    const { index, paths } = fixture.store
    const digest = await putBlob(fixture.store, 'm')

    await plant(paths.link(name, linkEntry('manifest', digest)), content(digest))
    await plant(paths.tagLink(name, latest), content(digest))

    expect(await index.link(name, 'manifest', digest)).toBeUndefined()
    expect(await index.tag(name, latest)).toBeUndefined()
    expect(await index.putLink(name, 'manifest', digest, index.mark())).toBe(true)
    expect(await index.putTag(name, latest, digest, index.mark())).toBe(true)
  })

  it('takes a folder in place of a link for absent', async () => {
    await using fixture = await storeFixture()
    const { index, paths } = fixture.store
    const digest = await putBlob(fixture.store, 'm')
    await mkdir(paths.link(name, linkEntry('layer', digest)), { recursive: true })

    expect(await index.link(name, 'layer', digest)).toBeUndefined()
  })

  it('does not take a damaged or foreign confirmation for the word of the primary', async () => {
    await using fixture = await storeFixture()
    const { paths } = fixture.store
    const digest = await putManifest(fixture.store, name, 'm', latest)
    const other = await putBlob(fixture.store, 'other')

    for (const content of ['', 'sha256:', `${digest} soon`, `${digest} -1`, `${other} 1700000000000`]) {
      await writeFile(paths.confirmation(name, tagEntry(latest)), content)
      await writeFile(paths.confirmation(name, linkEntry('manifest', digest)), content)
      const { index } = await fixture.reopen()

      expect(await index.tag(name, latest)).toEqual({ digest, confirmedAtMs: undefined })
      expect(await index.link(name, 'manifest', digest)).toEqual({ target: digest, confirmedAtMs: undefined })
    }
  })

  it('hides by moving: moved back, content is there again but no longer confirmed', async () => {
    await using fixture = await storeFixture()
    const { paths, index } = fixture.store
    const digest = await putManifest(fixture.store, name, 'm', latest)
    await index.hideLink(name, 'manifest', digest)
    const [hidden = ''] = await readdir(paths.hidden)
    expect(hidden).toMatch(/^\d+-[0-9a-f-]+$/)

    await fixture.store.close()
    const moved = join(paths.hidden, hidden)
    for (const entry of [tagEntry(latest), linkEntry('manifest', digest)]) {
      await rename(paths.hiddenEntry(moved, name, entry), paths.entry(name, entry))
    }
    const restored = (await fixture.reopen()).index

    expect(await restored.tag(name, latest)).toEqual({ digest, confirmedAtMs: undefined })
    expect(await restored.link(name, 'manifest', digest)).toEqual({
      target: digest,
      confirmedAtMs: undefined,
    })
  })

  it('no longer takes for confirmed what it could not hide', async () => {
    await using fixture = await storeFixture()
    const { index, paths } = fixture.store
    const digest = await putManifest(fixture.store, name, 'm', latest)
    await rm(paths.hidden, { recursive: true })
    await writeFile(paths.hidden, 'in the way')

    await expect(index.hideLink(name, 'manifest', digest)).rejects.toMatchObject({ kind: 'io' })

    expect(await index.tag(name, latest)).toEqual({ digest, confirmedAtMs: undefined })
    expect(await index.link(name, 'manifest', digest)).toEqual({ target: digest, confirmedAtMs: undefined })
  })

  it('reads anew what a failed change may have changed', async () => {
    await using fixture = await storeFixture()
    const { index, paths } = fixture.store
    await putManifest(fixture.store, name, 'old', latest)
    const digest = await putManifest(fixture.store, name, 'new')
    const confirmation = paths.confirmation(name, tagEntry(latest))
    await rm(confirmation)
    await mkdir(join(confirmation, 'in the way'), { recursive: true })

    await expect(index.putTag(name, latest, digest, index.mark())).rejects.toMatchObject({ kind: 'io' })

    expect(await index.tag(name, latest)).toEqual({ digest, confirmedAtMs: undefined })
  })

  it('leaves no folder behind that a registry would list as a tag or a repository', async () => {
    await using fixture = await storeFixture()
    const { paths, index } = fixture.store
    await putManifest(fixture.store, name, 'm', latest)

    await index.hideTag(name, latest)
    expect(await readdir(join(paths.repository(name), '_manifests/tags'))).toEqual([])

    await index.identify(name, 1, 1000)
    await index.identify(name, 2, 2000)
    expect(await readdir(paths.repository(name))).toEqual([])
  })

  it('keeps names apart that look like its own folders', async () => {
    await using fixture = await storeFixture()
    const names = [
      'docker',
      'hidden',
      'layers',
      'manifests/tags/latest/current',
      'tags/link',
      'a',
      'a/b',
    ].map(nameOf)
    const tags = ['_manifests', 'link', 'current', 'index', '_project'].map(tagOf)
    const put: [string, Digest][] = []
    for (const one of names) {
      await fixture.store.index.identify(one, names.indexOf(one) + 1, 1000)
      for (const tag of tags)
        put.push([`${one}:${tag}`, await putManifest(fixture.store, one, `${one}:${tag}`, tag)])
    }

    const { index } = await fixture.reopen()
    const got: [string, Digest | undefined][] = []
    for (const one of names) {
      for (const tag of tags) got.push([`${one}:${tag}`, (await index.tag(one, tag))?.digest])
    }

    expect(got).toEqual(put)
  })

  it('takes a link for expired that was confirmed in the very millisecond of the expiry', async () => {
    await using fixture = await storeFixture({ now: () => 1_700_000_000_000 })
    const digest = await putManifest(fixture.store, name, 'm')

    await fixture.store.index.expireRepository(name)

    const { index } = await fixture.reopen()
    expect(await index.link(name, 'manifest', digest)).toEqual({ target: digest, confirmedAtMs: 1 })
  })

  it('takes a damaged record of an expiry for none, and keeps the latest of several', async () => {
    let clockMs = 1_700_000_000_000
    await using fixture = await storeFixture({ now: () => clockMs })
    const { paths } = fixture.store
    const digest = await putManifest(fixture.store, name, 'm')
    for (const content of ['', 'soon', '-5', '9'.repeat(300)]) {
      await writeFile(paths.expiry(name), content)
      const { index } = await fixture.reopen()
      expect(await index.link(name, 'manifest', digest)).toMatchObject({ confirmedAtMs: clockMs })
    }
    await fixture.store.index.expireRepository(name)
    clockMs -= 10
    await (await fixture.reopen()).index.expireRepository(name)
    expect(await readFile(paths.expiry(name), 'utf8')).toBe('1700000000000')
  })

  it('writes the renewed confirmation of a tag at most once a minute', async () => {
    let clockMs = 1_700_000_000_000
    await using fixture = await storeFixture({ now: () => clockMs })
    const { index, paths } = fixture.store
    const digest = await putManifest(fixture.store, name, 'm', latest)
    const onDisk = () => readFile(paths.confirmation(name, tagEntry(latest)), 'utf8')

    clockMs += 59_999
    index.renewTag(name, latest, digest, index.mark())
    expect(await index.tag(name, latest)).toMatchObject({ confirmedAtMs: clockMs })
    await index.hideTag(name, tagOf('behind-the-renewal'))
    expect(await onDisk()).toBe(`${digest} 1700000000000`)

    clockMs += 1
    index.renewTag(name, latest, digest, index.mark())
    await expect.poll(onDisk).toBe(`${digest} 1700000060000`)
  })

  it('works on after its folders were taken away under it', async () => {
    await using fixture = await storeFixture()
    await putManifest(fixture.store, name, 'm', latest)
    await rm(join(fixture.root, 'docker'), { recursive: true })

    const again = await putManifest(fixture.store, name, 'again', latest)

    expect((await (await fixture.reopen()).index.tag(name, latest))?.digest).toBe(again)
  })
})

describe('an index under concurrent changes', () => {
  it('ends as if they had come one after another', async () => {
    await using fixture = await storeFixture()
    const digests = await Promise.all(['a', 'b', 'c'].map((text) => putManifest(fixture.store, name, text)))
    for (let round = 0; round < 15; round++) {
      const { index } = fixture.store
      const pick = digests[round % 3] ?? fail()
      const other = digests[(round + 1) % 3] ?? fail()
      const before = index.mark()
      const work = [
        () => index.putLink(name, 'manifest', pick, before),
        () => index.putTag(name, latest, pick, before).catch(() => false),
        () => index.hideLink(name, 'manifest', pick),
        () => index.putTag(name, latest, other, before).catch(() => false),
        () => index.tag(name, latest),
        () => index.link(name, 'manifest', pick),
        () => index.doubtTag(name, latest),
        () => index.renewTag(name, latest, other, before),
      ]
      await Promise.all(shuffled(work, round).map((run) => run()))

      await expectSameAfterRestart(fixture, digests)
      await fixture.store.index.putLink(name, 'manifest', pick, fixture.store.index.mark())
    }
  })

  it('never shows a link that was hidden after the request which confirmed it', async () => {
    await using fixture = await storeFixture()
    const { index } = fixture.store
    const digest = await putBlob(fixture.store, 'contested')
    for (let round = 0; round < 20; round++) {
      const before = index.mark()
      const puts = [0, 1, 2].map(() => index.putLink(name, 'layer', digest, before))
      const hidden = index.hideLink(name, 'layer', digest)
      const late = index.putLink(name, 'layer', digest, before)
      const reads = [0, 1, 2].map(() => index.link(name, 'layer', digest))
      await Promise.all([...puts, hidden, late, ...reads])

      expect(await late).toBe(false)
      expect(await index.link(name, 'layer', digest)).toBeUndefined()
    }
  })
})

/** What memory says must be what the disk says. */
async function expectSameAfterRestart(fixture: StoreFixture, digests: readonly Digest[]): Promise<void> {
  const state = async () => ({
    tag: await heldTag(fixture),
    links: await Promise.all(digests.map((digest) => fixture.store.index.link(name, 'manifest', digest))),
  })
  const remembered = await state()
  await fixture.reopen()
  expect(await state()).toEqual(remembered)
  const tagged = remembered.tag?.digest
  if (tagged) expect(remembered.links.some((link) => link?.target === tagged)).toBe(true)
}

/** When it was confirmed is on disk only to the minute. */
async function heldTag({ store }: StoreFixture) {
  const held = await store.index.tag(name, latest)
  return held && { digest: held.digest, confirmed: held.confirmedAtMs !== undefined }
}

function shuffled<T>(items: readonly T[], seed: number): T[] {
  const keyed = items.map((item, index) => ({ item, key: Math.sin((seed + 1) * (index + 1) * 12.9898) }))
  return keyed.sort((one, other) => one.key - other.key).map(({ item }) => item)
}

function fail(): never {
  throw new Error('no such digest')
}

async function plant(path: string, content: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, content)
}
