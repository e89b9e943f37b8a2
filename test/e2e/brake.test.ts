/** Law 12: what the primary lost, or what somebody says in its name, does not empty the site. */
import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { buildArtifact, buildImage, buildIndex } from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import { tempFolder } from '../support/temp.ts'
import { until } from '../support/wait.ts'
import { type Ingress, startIngress } from './ingress.ts'
import { registryFolder } from './registry-folder.ts'
import { type ReplicatedSite, startReplicatedSite } from './replicated-site.ts'

const NEWEST = Array.from({ length: 101 }, (_, number) => `new-${number}`)
const OLDER = Array.from({ length: 20 }, (_, number) => `old-${number}`)

/** The sites live side by side; what happens to each happens one after the other. */
const IN_ORDER = { concurrent: false }

describe.concurrent('a primary that was restored from an old backup', () => {
  let site: ReplicatedSite
  /** Without content of its own: its tags are quickly copied. */
  const image = buildIndex([])
  const here = () => registryFolder(site.one.site.root)
  const there = () => registryFolder(site.primary.root)

  beforeAll(async () => {
    site = await startReplicatedSite({ repositories: ['team/big'] })
    await pushImage(site.there, 'team/big', 'first', image)
    await site.converged()
    await there().writeTags('team/big', [...OLDER, ...NEWEST], image.digest)
    // The event is of one tag; the job lists them all.
    await pushImage(site.there, 'team/big', 'second', image)
    await site.converged(30_000)
  })
  afterAll(() => site[Symbol.asyncDispose]())

  it('takes nothing away here: the brake trips, and the status says so', IN_ORDER, async () => {
    await there().removeTags('team/big', NEWEST)
    await pushImage(site.there, 'team/big', 'third', image)

    const status = await until(async () => tripped(await site.status()), { what: 'the brake to trip' })

    expect(status.brake).toMatchObject({ repositories: 0, tags: NEWEST.length, examples: ['team/big'] })
    expect(status).toMatchObject({ healthy: false, in_step: false })
    expect(status.health).toContain('geo-registry brake --release')
    // What was pushed after the restore is here all the same.
    expect((await here().tags('team/big')).size).toBe(1 + OLDER.length + NEWEST.length + 2)
    expect((await site.command('status')).status).toBe(1)
    expect(await site.command('brake')).toMatchObject({
      status: 1,
      output: expect.stringMatching(/101 tags\n {2}team\/big/),
    })
  })

  it('takes nothing away when the site starts anew, nor when a hand only looks', IN_ORDER, async () => {
    await site.one.site.restart()
    expect((await site.command('brake', '--release', '--dry-run')).status).toBe(1)
    expect((await site.command('resync', 'team/big')).status).toBe(0)
    await until(async () => (await rowOf(site, 'team/big')).state === 'failed', { what: 'the job to end' })

    expect(tripped(await site.status())).toBeTruthy()
    expect((await here().tags('team/big')).size).toBe(1 + OLDER.length + NEWEST.length + 2)
  })

  it('has what it lost listed by ahead', IN_ORDER, async () => {
    const { status, output } = await site.command('ahead')

    expect(status).toBe(0)
    expect(output.match(/^team\/big:new-\d+ sha256:/gm)).toHaveLength(NEWEST.length)
    expect(output).not.toContain('old-')
  })

  it(
    'is followed once a hand releases the brake, and the site is in step without another hand',
    IN_ORDER,
    async () => {
      expect(await site.command('brake', '--release')).toMatchObject({
        status: 0,
        output: expect.stringContaining('The brake is released.'),
      })

      await site.converged()

      expect((await site.command('status')).status).toBe(0)
      expect(await site.command('brake')).toMatchObject({ status: 0 })
    },
  )

  it('gets back what was taken away by undelete', IN_ORDER, async () => {
    expect(await site.command('pause')).toMatchObject({ status: 0 })
    expect(await site.command('undelete', 'team/big')).toMatchObject({ status: 0 })

    const tags = await here().tags('team/big')
    expect(NEWEST.filter((tag) => tags.get(tag) !== image.digest)).toEqual([])
    expect((await site.here.getManifest('team/big', 'new-7')).status).toBe(404)
    await site.command('resume')
  })
})

describe.concurrent('a primary whose folder is empty', () => {
  let site: ReplicatedSite
  const names = ['first', ...Array.from({ length: 100 }, (_, number) => `group/p${number}`)]
  const here = () => registryFolder(site.one.site.root)

  beforeAll(async () => {
    site = await startReplicatedSite({ repositories: ['first'] })
    await pushImage(site.there, 'first', 'v1', buildArtifact())
    const { copyRepository } = registryFolder(site.primary.root)
    for (const name of names.slice(1)) await copyRepository('first', name)
    await site.longWork('POST', '/rebuild')
    await site.admin('POST', '/repositories/resync?all=true')
    await site.converged(30_000)
  })
  afterAll(() => site[Symbol.asyncDispose]())

  it('takes none of 101 repositories away, and all is well when the folder is back', IN_ORDER, async () => {
    await using aside = await tempFolder('aside')
    const before = await here().allTags()
    const folder = join(site.primary.root, 'docker/registry/v2/repositories')
    await rename(folder, join(aside.path, 'repositories'))
    expect((await site.command('rebuild')).status).toBe(0)
    // Each job asks the primary, which knows none of them any longer.
    expect((await site.command('resync', '--all')).status).toBe(0)
    await until(
      async () => (await site.rows()).every(({ state }) => state === 'failed') && (await site.rows()).length,
      { what: 'every job to be held back', deadlineMs: 20_000 },
    )

    expect(tripped(await site.status())).toMatchObject({ brake: { repositories: names.length } })
    expect(await here().allTags()).toEqual(before)

    await rename(join(aside.path, 'repositories'), folder)
    await site.longWork('POST', '/rebuild')
    await site.admin('POST', '/repositories/resync?all=true')
    await site.converged()
    expect(await here().allTags()).toEqual(before)
  })
})

describe.concurrent('an ingress that answers for the primary', () => {
  let site: ReplicatedSite
  let ingress: Ingress
  const here = () => registryFolder(site.one.site.root)
  const html = (status: number) => ({ status, type: 'text/html', body: '<h1>default backend</h1>' })
  const json = (body: unknown) => ({ status: 200, type: 'application/json', body: JSON.stringify(body) })

  beforeAll(async () => {
    site = await startReplicatedSite({
      repositories: ['team/app', 'team/web'],
      front: async (url) => {
        ingress = await startIngress(url)
        return ingress
      },
    })
    for (const name of ['team/app', 'team/web']) {
      await pushImage(site.there, name, 'v1', await buildImage({ seed: name, layers: [1000] }))
    }
    await site.converged()
  })
  afterAll(() => site[Symbol.asyncDispose]())

  it.each([
    ['404 as a page', () => html(404)],
    ['401 as a page', () => html(401)],
    ['403 as a page', () => html(403)],
    ['200 as a page', () => html(200)],
    ['a login page for every list of tags', (target: string) => (isTags(target) ? html(200) : undefined)],
    ['an empty catalog', (target: string) => (isCatalog(target) ? json({ repositories: [] }) : undefined)],
    [
      'a catalog cut in the middle',
      (target: string) =>
        isCatalog(target) ? { ...json({}), body: '{"repositories":["team/ap' } : undefined,
    ],
    ['404 without a body', () => ({ status: 404, type: 'text/plain', body: '' })],
  ])('with %s removes nothing', IN_ORDER, async (_title, answers) => {
    const before = await here().allTags()
    ingress.answers(answers)
    await site.longWork('POST', '/rebuild')
    await site.admin('POST', '/repositories/resync?all=true')
    await until(
      async () => (await site.rows()).every(({ state }) => state === 'failed' || state === 'synced'),
      { what: 'the jobs to end' },
    )

    expect(await here().allTags()).toEqual(before)

    ingress.answers(() => undefined)
    await site.admin('POST', '/repositories/resync?all=true')
    await site.converged()
    expect(await here().allTags()).toEqual(before)
  })
})

function isCatalog(target: string): boolean {
  return target.startsWith('/v2/_catalog')
}

function isTags(target: string): boolean {
  return target.includes('/tags/list')
}

function tripped<S extends { readonly brake: { readonly tripped: boolean } | null }>(status: S) {
  return status.brake?.tripped ? status : undefined
}

async function rowOf(site: ReplicatedSite, path: string) {
  const row = (await site.rows()).find((each) => each.path === path)
  if (!row) throw new Error(`${path} is not tracked`)
  return row
}
