/** An outage as people meet it: pulls of what is here go on, a miss and a push say 503, and nothing needs a repair. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { buildImage, type Image } from '../../support/images.ts'
import { until } from '../../support/wait.ts'
import { CLIENT_NAMES, type EveryClient, pulledDigest, startEveryClient } from './every-client.ts'
import { answersTo, DEVELOPER, placesOf, startTwoSites, type TwoSites } from './two-sites.ts'

/** All that any of them shows of a 5xx: the body, with our words, is left unread. */
const OUTAGE = /503 ?\(?Service Unavailable/

const owned = new AsyncDisposableStack()
let sites: TwoSites
let clients: EveryClient
let held: Image
let host: string

beforeAll(async () => {
  sites = owned.use(await startTwoSites())
  clients = owned.use(await startEveryClient())
  host = sites.site.host
  await clients.login(host, DEVELOPER)
  held = await buildImage({ seed: 'held', layers: [60_000] })
  await sites.publish('team/held', 'v1', held)
  await sites.publish('team/cold', 'v1', await buildImage({ seed: 'cold', layers: [1000] }))
  await clients.skopeo.pull(`${host}/team/held:v1`)
})
afterAll(() => owned.disposeAsync())

describe('while the primary is stopped', () => {
  beforeAll(() => sites.primary.stop())

  describe.each(CLIENT_NAMES)('%s', (name) => {
    it('pulls what is held, by tag and by digest', async () => {
      const pulls: (string | undefined)[] = []
      const watched = await sites.watch(async () => {
        pulls.push(await pulledDigest(clients.get(name), `${host}/team/held:v1`))
        pulls.push(await pulledDigest(clients.get(name), `${host}/team/held@${held.digest}`))
      })

      expect(pulls).toEqual([held.digest, held.digest])
      expect(placesOf(answersTo(watched, 'GET', /\/blobs\//))).toEqual(['local'])
      expect(placesOf(watched.answers)).toContain('stale')
    })

    it('is told of the outage when it asks for what is not here', async () => {
      await expect(clients.get(name).pull(`${host}/team/cold:v1`)).rejects.toThrow(OUTAGE)
    })
  })

  it.each(CLIENT_NAMES.filter((name) => name !== 'docker'))(
    '%s is told of it when it pushes',
    async (name) => {
      const client = clients.get(name)
      await client.make(`${host}/team/${name}:v1`, `pushed in an outage by ${name}`)

      await expect(client.push(`${host}/team/${name}:v1`)).rejects.toThrow(OUTAGE)
    },
  )
})

describe('when the primary comes back', () => {
  // Docker tries an upload five times in 50 s before it says to its user what its log says at once.
  it('docker’s push, which was told 503, goes through by itself', async () => {
    const reference = `${host}/team/docker:v1`
    await clients.docker.make(reference, 'pushed in an outage by docker')
    const pushed = clients.docker.push(reference)
    const told = () => /Upload failed, retrying: .*503 Service Unavailable/.test(clients.docker.logs())
    await until(told, { what: 'docker to be told' })
    await sites.primary.start()
    await pushed

    expect((await sites.there.getManifest('team/docker', 'v1')).status).toBe(200)
  })

  it.each(CLIENT_NAMES)('%s pushes and pulls', async (name) => {
    const client = clients.get(name)
    await client.make(`${host}/team/${name}:v2`, `pushed after an outage by ${name}`)
    await client.push(`${host}/team/${name}:v2`)
    const { digest } = await sites.there.getManifest(`team/${name}`, 'v2')

    expect(await pulledDigest(clients.otherThan(name), `${host}/team/${name}:v2`)).toBe(digest)
    await client.pull(`${host}/team/cold:v1`)
  })
})
