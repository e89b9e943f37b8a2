/** Cross-repository mounts, which clients do by themselves: no byte of a layer is sent when another repository has it. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { digestOf } from '../../../src/oci/digest.ts'
import { buildImage } from '../../support/images.ts'
import { bearer, fetchToken } from '../../support/login.ts'
import { CLIENT_NAMES, type EveryClient, retag, startEveryClient } from './every-client.ts'
import { answersTo, DEVELOPER, placesOf, startTwoSites, type TwoSites } from './two-sites.ts'

const owned = new AsyncDisposableStack()
let sites: TwoSites
let clients: EveryClient
let layer: string

beforeAll(async () => {
  sites = owned.use(await startTwoSites())
  clients = owned.use(await startEveryClient())
  await clients.login(sites.site.host, DEVELOPER)
  const base = await buildImage({ seed: 'base', layers: [200_000] })
  layer = base.blobs.at(-1)?.digest ?? ''
  await sites.publish('team/base', 'v1', base)
})
afterAll(() => owned.disposeAsync())

it.each(CLIENT_NAMES)('%s mounts the layers of an image it pulled through the site', async (name) => {
  const client = clients.get(name)
  const from = `${sites.site.host}/team/base:v1`
  const repository = `team/derived-${name}`
  const to = `${sites.site.host}/${repository}:v1`
  await client.pull(from)
  const watched = await sites.watch(async () => {
    if (name === 'skopeo') return await clients.skopeo.copy(`docker://${from}`, `docker://${to}`)
    await retag(client, from, to)
    await client.push(to)
  })

  const mounts = answersTo(watched, 'POST', /\/uploads\/\?/)
  expect(mounts.map(({ status }) => status)).toEqual(mounts.map(() => 201))
  // The access log shows no queries, the primary's does: what was asked was a mount of that layer.
  expect(mountsAtPrimary(repository)).toContain(layer)
  expect(watched.linkBytes).toBeLessThan(100_000)
  expect((await sites.there.getBlob(repository, layer)).digest).toBe(layer)
  const read = await sites.watch(() => sites.reader.getBlob(repository, layer))
  expect(placesOf(read.answers)).toEqual(['local'])
  expect(read.linkBytes).toBeLessThan(1024)
})

/** Digests that were mounted from `team/base` into this repository. */
function mountsAtPrimary(repository: string): (string | null)[] {
  const posts = sites.primary.logs().matchAll(/"POST (\S+) HTTP\/1.1" 201 /g)
  return Array.from(posts, ([, target]) => new URL(target ?? '', sites.primary.url))
    .filter(({ pathname }) => pathname === `/v2/${repository}/blobs/uploads/`)
    .filter(({ searchParams }) => searchParams.get('from') === 'team/base')
    .map(({ searchParams }) => searchParams.get('mount'))
}

it('is refused for a repository that the caller may not read, and nothing is mounted', async () => {
  const answer = await sites.here.startUpload('team/derived', `?mount=${layer}&from=other/base`)

  expect(answer.status).toBe(401)
  expect((await sites.there.headBlob('team/derived', layer)).status).toBe(404)
})

it('of a layer that is nowhere begins an ordinary upload', async () => {
  const nowhere = digestOf(Buffer.from('nobody pushed this'))
  // One token for both ends of a mount, as clients ask for it.
  const scopes = ['repository:team/derived:pull,push', 'repository:team/base:pull']
  const authorization = bearer(await fetchToken(sites.tokens, scopes, DEVELOPER))
  const path = `/v2/team/derived/blobs/uploads/?mount=${nowhere}&from=team/base`
  const answer = await sites.here.request('POST', path, { headers: { authorization, 'content-length': '0' } })

  expect(answer.status).toBe(202)
  expect(answer.headers['location']).toMatch(/^\/v2\/team\/derived\/blobs\/uploads\//)
})
