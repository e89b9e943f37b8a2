/** `export-check`: what a failover would lose, by the lists of a primary that can be asked. */
import { rm } from 'node:fs/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { exportCheck } from '../../replicator/export-check.ts'
import { createInventory } from '../../replicator/open-inventory.ts'
import { createLogger } from '../../src/log.ts'
import type { RepositoryName, Tag } from '../../src/oci/reference.ts'
import { UpstreamError } from '../../src/upstream/errors.ts'
import { nameOf, tagOf } from '../store/store-fixture.ts'
import { startDockerRegistry } from '../support/docker-registry.ts'
import { startGitlabApi } from '../support/gitlab-api.ts'
import { allBlobs, buildArtifact, buildMultiArch, type Image } from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import { createRegistryApi } from '../support/registry-api.ts'
import { clientOf } from '../upstream/primary.ts'
import {
  type ExportScene,
  exportScene,
  listed,
  APP as name,
  NOTHING_LOST as nothingLost,
} from './export-scene.ts'

const log = createLogger({ level: 'silent' })
const [v1, v2, v3] = [tagOf('v1'), tagOf('v2'), tagOf('v3')]

let site: ExportScene
beforeEach(async () => {
  site = await exportScene()
})
afterEach(() => site[Symbol.asyncDispose]())

describe('a failover to a copy that is in step', () => {
  it.each([
    ['GitLab’s lists', true],
    ['the lists every registry has', false],
  ])('loses nothing, by %s', async (_what, gitlab) => {
    await using registry = await startDockerRegistry()
    await using api = createRegistryApi(registry.url)
    const images = [await buildMultiArch({ layers: [1000] }), buildArtifact()]
    for (const [at, image] of images.entries()) {
      await pushImage(api, name, `v${at + 1}`, image)
      await site.keep(image, tagOf(`v${at + 1}`))
    }
    await using front = gitlab ? await startGitlabApi(registry, {}) : undefined
    const { upstream, dispatcher } = clientOf(front?.url ?? registry.url)

    const inventory = createInventory({ upstream, log })
    const report = await site.check(inventory, {
      digestThere: async (one, tag) => {
        const answer = await upstream.getManifest(one, { kind: 'tag', tag }, { credential: { kind: 'site' } })
        return typeof answer === 'string' ? undefined : answer.digest
      },
    })
    await dispatcher.close()

    expect(report).toEqual({
      repositories: 1,
      repositoriesAsked: 1,
      allRepositoriesAsked: true,
      tags: 2,
      losses: nothingLost,
      missing: { blobs: 0, bytes: 0 },
      found: [],
    })
  })
})

describe('a failover to a copy that is not', () => {
  it('loses what is absent, older or incomplete here, each named', async () => {
    const [one, two, three] = ['one', 'two', 'three'].map((payload) => buildArtifact({ payload })) as [
      Image,
      Image,
      Image,
    ]
    await site.keep(one, v1)
    await site.keep(two, v2)
    const layer = allBlobs(two)[1]
    if (layer) await rm(site.fixture.store.paths.blob(layer.digest))
    await site.fixture.reopen()
    const elsewhere = nameOf('only/there')
    const primary = listed({
      [name]: { v1: three.digest, v2: two.digest, v3: three.digest },
      [elsewhere]: { v1: undefined },
      'empty/there': {},
    })

    const { found, ...report } = await site.check(primary)

    const missing = { blobs: 1, bytes: layer?.sizeBytes }
    expect(found).toEqual([
      {
        repository: name,
        tag: v1,
        kind: 'older',
        digestHere: one.digest,
        digestThere: three.digest,
        missing: undefined,
      },
      {
        repository: name,
        tag: v2,
        kind: 'incomplete',
        digestHere: two.digest,
        digestThere: two.digest,
        missing,
      },
      {
        repository: name,
        tag: v3,
        kind: 'absent',
        digestHere: undefined,
        digestThere: three.digest,
        missing: undefined,
      },
      {
        repository: elsewhere,
        tag: v1,
        kind: 'absent',
        digestHere: undefined,
        digestThere: undefined,
        missing: undefined,
      },
    ])
    expect(report).toEqual({
      repositories: 3,
      repositoriesAsked: 3,
      allRepositoriesAsked: true,
      tags: 4,
      losses: { ...nothingLost, absent: 2, older: 1, incomplete: 1 },
      missing,
    })
  })

  it('loses what is linked by an adopted folder alone: nobody would be served it', async () => {
    const image = buildArtifact()
    await site.keep(image, v1)
    await site.fixture.store.index.hideTag(name, v1)
    await site.fixture.store.index.hideLink(name, 'manifest', image.digest)
    for await (const { id } of site.fixture.store.holdings.hidden())
      await site.fixture.store.holdings.restore(id)
    for await (const { id } of site.fixture.store.holdings.hidden())
      await site.fixture.store.holdings.restore(id)

    const { found } = await site.check(listed({ [name]: { v1: image.digest } }))

    expect(found).toMatchObject([{ tag: v1, kind: 'incomplete', missing: { blobs: 1 } }])
  })

  it('loses nothing that the primary has deleted, nor what only this site has', async () => {
    const image = buildArtifact()
    await site.keep(image, v1)
    await site.keep(image, v1, nameOf('gone/there'))

    const report = await site.check(listed({ [name]: {} }))

    expect(report).toMatchObject({ repositories: 1, tags: 0, losses: nothingLost, found: [] })
  })
})

describe('a primary that does not say which manifest a tag names', () => {
  it('is asked for each tag that is here, and what it does not say is not taken for safe', async () => {
    const [one, two] = [buildArtifact({ payload: 'one' }), buildArtifact({ payload: 'two' })]
    for (const tag of ['same', 'moved', 'gone', 'denied', 'odd']) await site.keep(one, tagOf(tag))
    const tags = {
      same: undefined,
      moved: undefined,
      gone: undefined,
      denied: undefined,
      odd: undefined,
      new: undefined,
    }
    const asked: string[] = []
    const digestThere = async (_name: RepositoryName, tag: Tag) => {
      asked.push(tag)
      if (tag === 'gone') throw new UpstreamError('absent', tag)
      if (tag === 'denied') throw new UpstreamError('denied', tag)
      if (tag === 'odd') return undefined
      return tag === 'same' ? one.digest : two.digest
    }

    const { found, losses } = await site.check(listed({ [name]: tags }), { digestThere })

    expect(asked).toEqual(['same', 'moved', 'gone', 'denied', 'odd'])
    expect(found.map(({ tag, kind }) => `${tag} ${kind}`)).toEqual([
      'moved older',
      'denied unchecked',
      'odd unchecked',
      'new absent',
    ])
    expect(losses).toEqual({ ...nothingLost, older: 1, unchecked: 2, absent: 1 })
  })

  it('leaves every tag unchecked when nobody can ask it', async () => {
    await site.keep(buildArtifact(), v1)

    const { found } = await site.check(listed({ [name]: { v1: undefined } }))

    expect(found).toMatchObject([{ tag: v1, kind: 'unchecked' }])
  })
})

describe('a check that cannot go on', () => {
  it('ends with the signal, and with what the listener of losses throws', async () => {
    const { holdings, index } = site.fixture.store
    const copying = { missing: async () => ({ blobs: 0, bytes: 0 }) }
    const deps = { inventory: listed({ [name]: { v1: undefined } }), holdings, index, copying }
    const onLoss = () => {
      throw new Error('the terminal is gone')
    }

    await expect(exportCheck(deps, { onLoss })).rejects.toThrow('the terminal is gone')
    const stopped = exportCheck(deps, { onLoss, signal: AbortSignal.abort(new Error('stop')) })
    await expect(stopped).rejects.toThrow('stop')
  })
})
