/** Logins and content from one host name: `/jwt/auth` is served by the site, so a client needs to reach nothing else. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { buildImage, type Image } from '../../support/images.ts'
import { CLIENT_NAMES, type EveryClient, pulledDigest, startEveryClient } from './every-client.ts'
import { DEVELOPER, READER, startTwoSites, type TwoSites } from './two-sites.ts'

const owned = new AsyncDisposableStack()
let sites: TwoSites
let clients: EveryClient
let image: Image
let host: string

beforeAll(async () => {
  sites = owned.use(await startTwoSites())
  host = sites.site.host
  // The site's own port is the realm's, and is known only now.
  await sites.site.restart({
    auth: { ...sites.tokens, realm: `${sites.site.url}/jwt/auth` },
    config: { auth: { token: { services: [sites.tokens.realm] } } },
  })
  clients = owned.use(await startEveryClient())
  image = await buildImage({ seed: 'one host', layers: [30_000] })
  await sites.publish('team/app', 'v1', image)
})
afterAll(() => owned.disposeAsync())

describe.each(CLIENT_NAMES)('%s', (name) => {
  it('logs in, pulls and pushes, and meets nobody but the site', async () => {
    const client = clients.get(name)
    let pulled: string | undefined
    const issued = sites.tokens.requests.length
    const watched = await sites.watch(async () => {
      await client.login(host, DEVELOPER.username, DEVELOPER.password)
      pulled = await pulledDigest(client, `${host}/team/app:v1`)
      await client.make(`${host}/team/${name}:v1`, name)
      await client.push(`${host}/team/${name}:v1`)
    })
    const tokens = sites.tokens.requests.length - issued

    expect(pulled).toBe(image.digest)
    expect((await sites.there.getManifest(`team/${name}`, 'v1')).status).toBe(200)
    expect(watched.logins.length).toBeGreaterThan(1)
    expect(watched.logins).toHaveLength(tokens)
  })

  it('is refused with a wrong password in the token service’s own words', async () => {
    const client = clients.get(name)
    const login = client.login(host, READER.username, 'wrong')
    const refused = name === 'containerd' ? login.then(() => client.pull(`${host}/team/app:v1`)) : login

    await expect(refused).rejects.toThrow(/denied|unauthorized|invalid username\/password/i)
    expect(sites.tokens.requests.at(-1)).toMatchObject({ user: READER.username, status: 401 })
  })
})

it('is told of it when no token service can be reached', async () => {
  await sites.tokens.stop()
  try {
    await clients.skopeo.exec(['logout', '--all'])
    const login = clients.skopeo.login(host, READER.username, READER.password)

    await expect(login).rejects.toThrow(/503/)
  } finally {
    await sites.tokens.start()
  }
})
