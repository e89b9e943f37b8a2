/** Logins and rights as every real client meets them: what the token service and the primary decide holds here too. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { buildImage } from '../../support/images.ts'
import { CLIENT_NAMES, type EveryClient, startEveryClient } from './every-client.ts'
import { answersTo, DEVELOPER, READER, startTwoSites, type TwoSites } from './two-sites.ts'

const owned = new AsyncDisposableStack()
let sites: TwoSites
let clients: EveryClient
let held: string

beforeAll(async () => {
  sites = owned.use(await startTwoSites())
  clients = owned.use(await startEveryClient())
  await sites.publish('team/app', 'v1', await buildImage({ seed: 'held', layers: [20_000] }))
  held = `${sites.site.host}/team/app:v1`
})
afterAll(() => owned.disposeAsync())

const REFUSED = /denied|unauthorized|authentication required|invalid username\/password|insufficient/i

describe.each(CLIENT_NAMES)('%s', (name) => {
  it('is refused with a wrong password', async () => {
    const client = clients.get(name)
    const login = client.login(sites.site.host, READER.username, 'wrong')
    // ctr has no login: its password is used, and refused, at the first pull.
    const refused = name === 'containerd' ? login.then(() => client.pull(held)) : login

    await expect(refused).rejects.toThrow(REFUSED)
    expect(sites.tokens.requests.at(-1)).toMatchObject({ user: READER.username, status: 401 })
  })

  it('logs in and pulls', async () => {
    const client = clients.get(name)
    await client.login(sites.site.host, READER.username, READER.password)
    await client.pull(held)

    expect(sites.tokens.requests.at(-1)).toMatchObject({
      user: READER.username,
      scopes: ['repository:team/app:pull'],
      status: 200,
    })
  })

  it('is refused a push without the right to it, and the primary is not asked for a session', async () => {
    const client = clients.get(name)
    const reference = `${sites.site.host}/team/${name}-refused:v1`
    await client.login(sites.site.host, READER.username, READER.password)
    await client.make(reference, 'refused')
    const watched = await sites.watch(() => expect(client.push(reference)).rejects.toThrow(REFUSED))

    expect([...answersTo(watched, 'POST', /./), ...answersTo(watched, 'PUT', /./)]).toEqual([])
    expect((await sites.there.tags(`team/${name}-refused`)).status).toBe(404)
  })

  it('is refused a repository it has no right to', async () => {
    const client = clients.get(name)
    await client.login(sites.site.host, READER.username, READER.password)

    await expect(client.pull(`${sites.site.host}/other/app:v1`)).rejects.toThrow(REFUSED)
  })

  it('logs in again with more rights and pushes', async () => {
    const client = clients.get(name)
    const reference = `${sites.site.host}/team/${name}-refused:v1`
    await client.login(sites.site.host, DEVELOPER.username, DEVELOPER.password)
    await client.make(reference, 'taken')
    await client.push(reference)

    expect((await sites.there.getManifest(`team/${name}-refused`, 'v1')).status).toBe(200)
  })

  it('logs in while the primary is stopped', async () => {
    await sites.primary.stop()
    try {
      await clients.get(name).login(sites.site.host, READER.username, READER.password)
    } finally {
      await sites.primary.start()
    }
  })
})
