/** `export-check` while the primary cannot be asked: by what was last known of it, and never safer than that. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { RepositoryName } from '../../src/oci/reference.ts'
import type { FailingTag } from '../../src/tracking/tracking.ts'
import { nameOf, tagOf } from '../store/store-fixture.ts'
import { buildArtifact } from '../support/images.ts'
import {
  type ExportScene,
  exportScene,
  listed,
  APP as name,
  NOTHING_LOST as nothingLost,
} from './export-scene.ts'

const [v1, v2, v3] = [tagOf('v1'), tagOf('v2'), tagOf('v3')]
const away = () => 'unavailable' as const

let site: ExportScene
beforeEach(async () => {
  site = await exportScene()
})
afterEach(() => site[Symbol.asyncDispose]())

describe('while the primary is away', () => {
  async function synced(path: RepositoryName): Promise<void> {
    await site.tracking.touch([path], { priority: 1 })
    const lease = await site.tracking.lease(path, 60_000)
    if (!lease) throw new Error(`no lease of ${path}`)
    const digests = { checksum: '00', primaryChecksum: '00' }
    const seen = { tagsCount: 1, inventoryAtMs: Date.now(), missingOnPrimary: false }
    await site.tracking.settle(lease, { kind: 'synced', ...digests, ...seen })
  }

  async function failed(path: RepositoryName, failingTags: FailingTag[]): Promise<void> {
    await site.tracking.touch([path], { priority: 1 })
    const lease = await site.tracking.lease(path, 60_000)
    if (!lease) throw new Error(`no lease of ${path}`)
    await site.tracking.settle(lease, {
      kind: 'failed',
      message: 'a tag failed',
      retryAtMs: Date.now() + 60_000,
      needsAttention: false,
      failingTags,
      blobsOutstanding: 1,
      bytesOutstanding: 1,
      tagsCount: 2,
      inventoryAtMs: Date.now(),
    })
  }

  it('what was last known of it counts: tags that failed, and what is not here whole', async () => {
    const [one, two] = [buildArtifact({ payload: 'one' }), buildArtifact({ payload: 'two' })]
    const [fine, broken] = [nameOf('fine/app'), nameOf('broken/app')]
    await site.keep(one, v1, fine)
    await synced(fine)
    await site.keep(one, v1, broken)
    await site.keep(one, v2, broken)
    const failure = { kind: 'faulty', message: 'no', sinceMs: 1 }
    await failed(broken, [
      { tag: v1, digest: two.digest, ...failure },
      { tag: v2, digest: undefined, ...failure },
      { tag: v3, digest: undefined, ...failure },
    ])

    const { found, ...report } = await site.check(listed({}, away), { tracking: site.tracking })

    expect(found.map(({ repository, tag, kind }) => `${repository}:${tag} ${kind}`)).toEqual([
      `${broken}:v1 older`,
      `${broken}:v2 unchecked`,
      `${broken}:v3 absent`,
    ])
    expect(report).toMatchObject({
      repositories: 2,
      repositoriesAsked: 0,
      allRepositoriesAsked: false,
      tags: 4,
    })
  })

  it('nobody knows what it has where something was heard of since, or nothing ever', async () => {
    const image = buildArtifact()
    const [dirty, never, marked, unmarked] = ['dirty/app', 'never/app', 'marked', 'unmarked'].map(nameOf) as [
      RepositoryName,
      RepositoryName,
      RepositoryName,
      RepositoryName,
    ]
    await site.keep(image, v1, dirty)
    await synced(dirty)
    await site.tracking.touch([dirty], { priority: 1 })
    await site.tracking.discover([never])
    for (const path of [marked, unmarked]) await site.keep(image, v1, path)
    await site.fixture.store.holdings.markComplete(marked, site.fixture.store.index.mark())

    const { found, losses } = await site.check(listed({}, away), { tracking: site.tracking })

    expect(found.map(({ repository, kind }) => `${repository} ${kind}`)).toEqual([
      'dirty/app unlisted',
      'never/app unlisted',
      'unmarked unlisted',
    ])
    expect(losses).toEqual({ ...nothingLost, unlisted: 3 })
  })

  it('it is not asked again and again, and everything is still looked at', async () => {
    const image = buildArtifact()
    for (let one = 0; one < 8; one++) await site.keep(image, v1, nameOf(`app-${one}`))
    const primary = listed({}, away)

    const report = await site.check(primary)

    expect(report).toMatchObject({ repositories: 8, tags: 8, losses: { unlisted: 8, absent: 0 } })
    expect(primary.asked).toHaveLength(3)
  })

  it('and its list of repositories breaks off, nothing is looked at twice', async () => {
    const image = buildArtifact()
    await site.keep(image, v1)
    await site.keep(image, v1, nameOf('other'))
    const primary = listed({ [name]: { v1: image.digest } }, (what) =>
      what === name ? undefined : 'unavailable',
    )

    const report = await site.check(primary, { tracking: site.tracking })

    expect(report).toMatchObject({
      repositories: 2,
      repositoriesAsked: 1,
      allRepositoriesAsked: false,
      tags: 2,
    })
    expect(report.found).toMatchObject([{ repository: 'other', kind: 'unlisted' }])
  })

  it('one repository that it will not list is compared with what was last known, the others with it', async () => {
    const [one, two] = [buildArtifact({ payload: 'one' }), buildArtifact({ payload: 'two' })]
    const repositories = ['a', 'b', 'c', 'd', 'e', 'f'].map(nameOf)
    for (const path of repositories) await site.keep(one, v1, path)
    const lists = Object.fromEntries(repositories.map((path) => [path, { v1: two.digest }]))

    const { losses } = await site.check(
      listed(lists, (what) => ('abcde'.includes(what) && what ? 'faulty' : undefined)),
    )

    expect(losses).toEqual({ ...nothingLost, unlisted: 5, older: 1 })
  })
})
