/** `hidden` and `restore`: an undelete that never undoes what came later. */
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import pino from 'pino'
import { describe, expect, it } from 'vitest'
import type { Digest } from '../../src/oci/digest.ts'
import { createDurableFiles } from '../../src/store/durable-files.ts'
import { createGuard } from '../../src/store/failures.ts'
import { createFsBlobStore, type Watch } from '../../src/store/fs-blob-store.ts'
import { createHidden } from '../../src/store/hidden.ts'
import type { HiddenEntry } from '../../src/store/holdings.ts'
import { linkEntry, tagEntry } from '../../src/store/paths.ts'
import { startDockerRegistry } from '../support/docker-registry.ts'
import { buildImage } from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import { createRegistryApi } from '../support/registry-api.ts'
import { all, nameOf, putBlob, putManifest, type StoreFixture, storeFixture, tagOf } from './store-fixture.ts'

const name = nameOf('team/app')
const latest = tagOf('latest')
const HOUR_MS = 60 * 60 * 1000

async function hiddenHere({ store }: StoreFixture, under?: string): Promise<HiddenEntry[]> {
  return all(store.holdings.hidden(under))
}

async function newest(fixture: StoreFixture): Promise<HiddenEntry> {
  const [entry] = await hiddenHere(fixture)
  if (!entry) throw new Error('nothing is hidden')
  return entry
}

describe('what is hidden', () => {
  it('is listed newest first, with all that went together', async () => {
    let clockMs = 1_700_000_000_000
    await using fixture = await storeFixture({ now: () => clockMs })
    const { index } = fixture.store
    const other = nameOf('team/application')
    const first = await putManifest(fixture.store, name, 'first', latest)
    await index.putTag(name, tagOf('v1'), first, index.mark())
    const layer = await putBlob(fixture.store, 'layer')
    await index.putLink(other, 'layer', layer, index.mark())
    await index.hideLink(name, 'manifest', first)
    clockMs += 10
    await index.hideLink(other, 'layer', layer)

    const [second, oldest, ...more] = await hiddenHere(fixture)

    expect(more).toEqual([])
    expect(second).toMatchObject({
      hiddenAtMs: clockMs,
      repository: other,
      tags: [],
      links: [{ kind: 'layer', digest: layer }],
    })
    expect(oldest).toMatchObject({
      hiddenAtMs: clockMs - 10,
      repository: name,
      tags: [latest, 'v1'],
      links: [{ kind: 'manifest', digest: first }],
    })
    expect((await hiddenHere(fixture, 'team/application')).map((one) => one.repository)).toEqual([other])
    expect(await hiddenHere(fixture, 'team/app')).toHaveLength(2)
    expect(await hiddenHere(fixture, 'other')).toEqual([])
  })

  it('leaves out what is no removal of ours, and removals of nothing', async () => {
    await using fixture = await storeFixture()
    const { index, paths } = fixture.store
    await index.hideTag(name, tagOf('never-here'))
    await mkdir(join(paths.hidden, '1700000000000-half-written'), { recursive: true })
    await mkdir(join(paths.hidden, `1-${'0'.repeat(36)}`, 'docker'), { recursive: true })
    await writeFile(join(paths.hidden, 'a-file'), '')

    expect(await hiddenHere(fixture)).toEqual([])
  })

  it('is not restored by a name that is none of its ids', async () => {
    await using fixture = await storeFixture()
    const { index, holdings } = fixture.store
    await putManifest(fixture.store, name, 'm', latest)
    await index.hideTag(name, latest)
    const { id } = await newest(fixture)

    for (const wrong of [
      '',
      '.',
      `../hidden/${id}`,
      `${id}/`,
      id.toUpperCase().slice(1),
      `1-${'0'.repeat(36)}`,
    ]) {
      expect(await holdings.restore(wrong)).toBe(false)
    }
    expect(await index.tag(name, latest)).toBeUndefined()
  })
})

describe('restoring', () => {
  it('brings back a manifest with its tags, which nobody is served before the primary confirms them', async () => {
    await using fixture = await storeFixture()
    const digest = await putManifest(fixture.store, name, 'm', latest)
    await fixture.store.index.hideLink(name, 'manifest', digest)
    const { id } = await newest(fixture)

    expect(await fixture.store.holdings.restore(id)).toBe(true)

    for (const { index } of [fixture.store, await fixture.reopen()]) {
      expect(await index.tag(name, latest)).toEqual({ digest, confirmedAtMs: undefined })
      expect(await index.link(name, 'manifest', digest)).toEqual({ target: digest, confirmedAtMs: undefined })
    }
    expect(await readdir(fixture.store.paths.hidden)).toEqual([])
    expect(await fixture.store.holdings.restore(id)).toBe(false)
    const { index } = fixture.store
    expect(await index.putLink(name, 'manifest', digest, index.mark())).toBe(true)
    expect(await index.putTag(name, latest, digest, index.mark())).toBe(true)
  })

  it('brings back a whole repository that another project replaced, as docker-registry serves it', async () => {
    await using fixture = await storeFixture()
    await using registry = await startDockerRegistry({ root: fixture.root })
    await using api = createRegistryApi(registry.url)
    const image = await buildImage()
    await pushImage(api, name, latest, image)
    await registry.stop()
    const { index, holdings } = await fixture.reopen()
    await index.identify(name, 1, 1000)
    await index.identify(name, 2, 2000)
    expect(await all(holdings.repositories())).toEqual([])
    const { id, tags, links } = await newest(fixture)
    expect(tags).toEqual([latest])
    expect(links).toHaveLength(image.blobs.length + 1)

    expect(await holdings.restore(id)).toBe(true)

    await registry.start()
    expect(await api.getManifest(name, latest)).toMatchObject({ status: 200, digest: image.digest })
    for (const { digest } of image.blobs) {
      expect(await api.getBlob(name, digest)).toMatchObject({ status: 200, digest })
    }
    expect((await api.tags(name)).body.toString()).toBe('{"name":"team/app","tags":["latest"]}\n')
  })

  it('never replaces a tag or a link that is newer, and keeps what it left', async () => {
    await using fixture = await storeFixture()
    const { index, holdings } = fixture.store
    const old = await putManifest(fixture.store, name, 'old', latest)
    await index.putTag(name, tagOf('v1'), old, index.mark())
    await index.hideLink(name, 'manifest', old)
    const { id } = await newest(fixture)
    const newer = await putManifest(fixture.store, name, 'newer', latest)
    const mark = index.mark()
    await index.putLink(name, 'manifest', old, mark)

    expect(await holdings.restore(id)).toBe(true)

    for (const store of [fixture.store, await fixture.reopen()]) {
      expect(await store.index.tag(name, latest)).toMatchObject({
        digest: newer,
        confirmedAtMs: expect.any(Number),
      })
      expect(await store.index.tag(name, tagOf('v1'))).toEqual({ digest: old, confirmedAtMs: undefined })
      expect(await store.index.link(name, 'manifest', old)).toEqual({ target: old, confirmedAtMs: mark.atMs })
    }
    expect(await hiddenHere(fixture)).toMatchObject([
      { id, tags: [latest], links: [{ kind: 'manifest', digest: old }] },
    ])
  })

  it('sets no tag without its manifest, and no link without its blob', async () => {
    await using fixture = await storeFixture()
    const { index: before, paths } = fixture.store
    const digest = await putManifest(fixture.store, name, 'm', latest)
    const layer = await putBlob(fixture.store, 'layer')
    await before.putLink(name, 'layer', layer, before.mark())
    await before.hideTag(name, latest)
    const tagRemoval = (await newest(fixture)).id
    await before.hideLink(name, 'manifest', digest)
    await before.hideLink(name, 'layer', layer)
    await rm(paths.blob(layer))
    const { index, holdings } = await fixture.reopen()
    const others = (await hiddenHere(fixture)).filter(({ id }) => id !== tagRemoval)

    expect(await holdings.restore(tagRemoval)).toBe(true)
    expect(await index.tag(name, latest)).toBeUndefined()

    for (const { id } of others) await holdings.restore(id)
    expect(await holdings.links(name, 'layer')).toEqual([])
    expect(await holdings.restore(tagRemoval)).toBe(true)
    expect(await index.tag(name, latest)).toEqual({ digest, confirmedAtMs: undefined })
  })

  it('takes the place of what a crash left half-written', async () => {
    await using fixture = await storeFixture()
    const { index, holdings, paths } = fixture.store
    const digest = await putManifest(fixture.store, name, 'm', latest)
    await index.hideLink(name, 'manifest', digest)
    const left = paths.tagIndexLink(name, latest, digest)
    await mkdir(dirname(left), { recursive: true })
    await writeFile(left, digest)
    await mkdir(dirname(paths.link(name, linkEntry('manifest', digest))), { recursive: true })
    await writeFile(paths.link(name, linkEntry('manifest', digest)), '')

    await holdings.restore((await newest(fixture)).id)

    expect(await index.tag(name, latest)).toEqual({ digest, confirmedAtMs: undefined })
  })

  it('brings back nothing confirmed, even where a confirmation was left behind', async () => {
    await using fixture = await storeFixture()
    const { index, holdings, paths } = fixture.store
    const digest = await putManifest(fixture.store, name, 'm', latest)
    await index.hideLink(name, 'manifest', digest)
    for (const entry of [tagEntry(latest), linkEntry('manifest', digest)]) {
      await mkdir(dirname(paths.confirmation(name, entry)), { recursive: true })
      await writeFile(paths.confirmation(name, entry), `${digest} ${Date.now()}`)
    }

    await holdings.restore((await newest(fixture)).id)

    expect(await index.tag(name, latest)).toEqual({ digest, confirmedAtMs: undefined })
    expect(await index.link(name, 'manifest', digest)).toEqual({ target: digest, confirmedAtMs: undefined })
  })

  it('does not let an answer from before the removal confirm what came back', async () => {
    await using fixture = await storeFixture()
    const { index, holdings } = fixture.store
    const digest = await putManifest(fixture.store, name, 'm', latest)
    const before = index.mark()
    await index.hideLink(name, 'manifest', digest)

    await holdings.restore((await newest(fixture)).id)

    expect(await index.putLink(name, 'manifest', digest, before)).toBe(false)
    expect(await index.putTag(name, latest, digest, before)).toBe(false)
    index.renewTag(name, latest, digest, before)
    expect(await index.tag(name, latest)).toEqual({ digest, confirmedAtMs: undefined })
    const after = index.mark()
    index.renewTag(name, latest, digest, after)
    await expect.poll(() => index.tag(name, latest)).toEqual({ digest, confirmedAtMs: after.atMs })
  })

  it('and hiding at the same time, again and again, loses nothing and shows nothing half', async () => {
    await using fixture = await storeFixture()
    const { index, holdings } = fixture.store
    const tags = ['a', 'b', 'c'].map(tagOf)
    const digests = await Promise.all(tags.map((tag) => putManifest(fixture.store, name, `of ${tag}`, tag)))
    for (let round = 0; round < 12; round++) {
      const entries = await hiddenHere(fixture)
      await Promise.all([
        ...digests.map((digest, at) =>
          at % 2 === round % 2 ? index.hideLink(name, 'manifest', digest) : undefined,
        ),
        ...entries.flatMap(({ id }) => [holdings.restore(id), holdings.restore(id)]),
        ...tags.map((tag) => index.tag(name, tag)),
      ])

      await expectEachSomewhere(fixture, digests)
      const remembered = await Promise.all(tags.map((tag) => index.tag(name, tag)))
      for (const [at, tag] of remembered.entries()) {
        const digest = digests[at]
        if (tag && digest) expect(await index.link(name, 'manifest', digest)).toBeDefined()
      }
    }
    for (const { id } of await hiddenHere(fixture)) await holdings.restore(id)
    for (const [at, tag] of tags.entries()) {
      expect(await index.tag(name, tag)).toEqual({ digest: digests[at], confirmedAtMs: undefined })
    }
  })

  it('is safe from a garbage collection that runs meanwhile', async () => {
    let clockMs = Date.now()
    await using fixture = await storeFixture({ now: () => clockMs })
    const { store } = fixture
    for (let round = 0; round < 3; round++) {
      const digests: Digest[] = []
      for (let one = 0; one < 8; one++) {
        digests.push(await putManifest(store, nameOf(`r${one}`), `${round} ${one}`, latest))
      }
      for (const [one, digest] of digests.entries()) {
        await store.index.hideLink(nameOf(`r${one}`), 'manifest', digest)
      }
      clockMs += 167 * HOUR_MS
      const entries = await hiddenHere(fixture)
      const restoring = entries.map(({ id }) => store.holdings.restore(id))
      await Promise.all([store.collectGarbage(), ...restoring])
      await store.collectGarbage()

      for (const [one, digest] of digests.entries()) {
        expect(await store.index.tag(nameOf(`r${one}`), latest)).toMatchObject({ digest })
        expect(await store.blobs.stat(digest)).toBeDefined()
      }
    }
  })

  it('keeps a blob from a garbage collection that looked at the repository before its link was back', async () => {
    await using fixture = await storeFixture()
    const { paths, index } = fixture.store
    const digest = await putManifest(fixture.store, name, 'm', latest)
    await index.hideLink(name, 'manifest', digest)
    const { id } = await newest(fixture)
    const files = createDurableFiles(paths.root, paths.incoming)
    const log = pino({ level: 'silent' })
    const { metrics } = fixture
    const blobs = createFsBlobStore({ paths, files, guard: createGuard(metrics), log, metrics })
    let watch: Watch | undefined
    const { restore } = createHidden({
      paths,
      blobs,
      index: { rearrange: (_name, _doing, work) => work() },
      completeness: { dropComplete: async () => {} },
      files: {
        ...files,
        place: async (from, to) => {
          watch ??= blobs.watch()
          await files.place(from, to)
        },
      },
    })

    await restore(id)

    expect(await watch?.remove(digest)).toBe(false)
    expect(await fixture.store.blobs.stat(digest)).toBe(1)
    watch?.end()
    await blobs.close()
  })

  it('is too late once its grace has passed', async () => {
    let clockMs = Date.now()
    await using fixture = await storeFixture({ now: () => clockMs })
    const { store } = fixture
    const digest = await putManifest(store, name, 'm', latest)
    await store.index.hideLink(name, 'manifest', digest)
    const { id } = await newest(fixture)
    clockMs += 169 * HOUR_MS
    await store.collectGarbage()

    expect(await store.holdings.restore(id)).toBe(false)
    expect(await hiddenHere(fixture)).toEqual([])
  })
})

/** Every manifest is linked or hidden, never neither. */
async function expectEachSomewhere(fixture: StoreFixture, digests: readonly Digest[]): Promise<void> {
  const linked = await fixture.store.holdings.links(name, 'manifest')
  const hidden = (await hiddenHere(fixture)).flatMap(({ links }) => links.map(({ digest }) => digest))
  expect(new Set([...linked, ...hidden])).toEqual(new Set(digests))
}
