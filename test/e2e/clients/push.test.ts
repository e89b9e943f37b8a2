/** Pushes by every real client through the site: at once at the primary and here, and kept here without being fetched. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { CLIENT_NAMES, type EveryClient, pulledDigest, startEveryClient } from './every-client.ts'
import { answersTo, DEVELOPER, placesOf, startTwoSites, type TwoSites } from './two-sites.ts'

const FEW_KIB = 8 * 1024

const owned = new AsyncDisposableStack()
let sites: TwoSites
let clients: EveryClient

beforeAll(async () => {
  sites = owned.use(await startTwoSites())
  clients = owned.use(await startEveryClient())
  await clients.login(sites.site.host, DEVELOPER)
})
afterAll(() => owned.disposeAsync())

describe.each(CLIENT_NAMES)('%s', (name) => {
  const repository = `team/${name}`

  it('pushes, and the same digest is at the primary and here when it has ended', async () => {
    const client = clients.get(name)
    await client.make(`${sites.site.host}/${repository}:v1`, `made by ${name}`)
    const watched = await sites.watch(() => client.push(`${sites.site.host}/${repository}:v1`))
    const there = await sites.there.getManifest(repository, 'v1')
    const here = await sites.here.getManifest(repository, 'v1')

    expect([there.status, here.status]).toEqual([200, 200])
    expect(here.digest).toBe(there.digest)
    expect(here.headers['content-type']).toBe(there.headers['content-type'])
    const writes = answersTo(watched, 'PUT', /./)
    expect(writes.map(({ status }) => status)).toEqual(writes.map(() => 201))
    expect(placesOf(writes)).toEqual(['primary'])
  })

  it('spares the next client the way to the primary: what was pushed is here', async () => {
    const other = clients.otherThan(name)
    const digest = (await sites.there.getManifest(repository, 'v1')).digest
    let pulled: string | undefined
    const watched = await sites.watch(async () => {
      pulled = await pulledDigest(other, `${sites.site.host}/${repository}:v1`)
    })

    expect(pulled).toBe(digest)
    expect(watched.linkBytes).toBeLessThan(FEW_KIB)
    const blobs = answersTo(watched, 'GET', /\/blobs\//)
    expect([blobs.length > 0, placesOf(blobs)]).toEqual([true, ['local']])
  })

  it('moves a tag, and the next pull by another client is of the new image', async () => {
    const client = clients.get(name)
    const before = (await sites.there.getManifest(repository, 'v1')).digest
    await client.make(`${sites.site.host}/${repository}:v1`, `made again by ${name}`)
    await client.push(`${sites.site.host}/${repository}:v1`)
    const after = (await sites.there.getManifest(repository, 'v1')).digest

    expect(after).not.toBe(before)
    expect(await pulledDigest(clients.otherThan(name), `${sites.site.host}/${repository}:v1`)).toBe(after)
    expect(await pulledDigest(clients.otherThan(name), `${sites.site.host}/${repository}@${before}`)).toBe(
      before,
    )
  })

  it('pushes nothing twice: what the primary has, it says it has', async () => {
    const watched = await sites.watch(() => clients.get(name).push(`${sites.site.host}/${repository}:v1`))

    expect(answersTo(watched, 'PATCH', /./)).toEqual([])
    expect(answersTo(watched, 'HEAD', /./).length).toBeGreaterThan(0)
    expect(placesOf(answersTo(watched, 'HEAD', /./))).toEqual(['primary'])
  })
})
