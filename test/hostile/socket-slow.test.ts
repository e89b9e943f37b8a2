/** Clients that are slow on purpose, and never hang up by themselves: each is let go of in time, to the last descriptor. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { listen } from '../proxy/listening.ts'
import { type GeoRegistry, startGeoRegistry } from '../support/geo-registry.ts'
import { buildImage, type Image } from '../support/images.ts'
import { signingKey } from '../support/keys.ts'
import { type LyingPrimary, startLyingPrimary } from '../support/lying-primary.ts'
import { freePort } from '../support/port.ts'
import { until } from '../support/wait.ts'
import { connectionsOn, expectNothingLeft, type Holdings, holdingsOf, openStubborn } from './raw-client.ts'

const MIB = 1024 * 1024
const SECRET = 'a secret of the events'

let primary: LyingPrimary
let site: GeoRegistry
let eventsPort: number
let image: Image
let before: Holdings

beforeAll(async () => {
  primary = await startLyingPrimary()
  image = await buildImage({ seed: 'slow', layers: [24 * MIB], gzip: false })
  await primary.hold('team/app', image, 'v1')
  eventsPort = await freePort()
  site = await startGeoRegistry({
    primary: primary.url,
    config: {
      http: { idletimeout: '1s', events: { addr: `127.0.0.1:${eventsPort}` } },
      auth: { none: { push: true } },
      replication: {
        enabled: true,
        notifications: { secret: SECRET },
        modes: [{ pattern: '**', mode: 'ondemand' }],
      },
    },
  })
  await pullManifest()
})
afterAll(async () => {
  await site[Symbol.asyncDispose]()
  await primary[Symbol.asyncDispose]()
})
beforeEach(async () => {
  before = { ...(await holdingsOf(site)), connections: 0, underWay: 0 }
})

async function pullManifest(): Promise<[status: number, sizeBytes: number]> {
  const answer = await fetch(`${site.url}/v2/team/app/manifests/v1`, { headers: { connection: 'close' } })
  return [answer.status, (await answer.arrayBuffer()).byteLength]
}

const head = (start: string, ...lines: string[]) =>
  [`${start} HTTP/1.1`, 'Host: x', ...lines, '', ''].join('\r\n')
const MANIFEST = 'PUT /v2/team/app/manifests/slow'
const UPLOAD = 'POST /v2/team/app/blobs/uploads/'

/** What each sends first, and then again and again, more slowly than `http.idletimeout`; and its last status. */
const SLOW: Readonly<Record<string, readonly [start: string, drop: string, status: number]>> = {
  'silent from the beginning': ['', '', 408],
  'silent in its headers': ['GET /v2/ HTTP/1.1\r\nHost: x\r\n', '', 408],
  'silent in the headers of its second request': [`${head('GET /v2/')}GET /v2/ HTTP/1.1\r\n`, '', 408],
  'no HTTP': ['NONSENSE\r\n\r\n', '', 400],
  'no HTTP from its second request on': [head('GET /v2/'), 'NONSENSE\r\n\r\n', 400],
  'wrong in its chunks': [`${head(MANIFEST, 'Transfer-Encoding: chunked')}5\r\nhello\r\nZZ\r\n`, '', 400],
  'silent in a manifest': [`${head(MANIFEST, 'Content-Length: 10')}{`, '', 408],
  'silent in a manifest in chunks': [`${head(MANIFEST, 'Transfer-Encoding: chunked')}5\r\nhel`, '', 408],
  'silent in trailers': [`${head(MANIFEST, 'Transfer-Encoding: chunked')}1\r\n{\r\n0\r\nA: b\r\n`, '', 408],
  'silent in an upload': [`${head(UPLOAD, 'Content-Length: 10')}1`, '', 408],
  'dripping headers': [head('GET /v2/').slice(0, -2), 'x', 408],
  'dripping a manifest': [head(MANIFEST, 'Content-Length: 1000'), ' ', 408],
  'dripping a chunk size': [head(MANIFEST, 'Transfer-Encoding: chunked'), '0', 408],
  'dripping an upload': [head(UPLOAD, 'Content-Length: 1000'), ' ', 408],
}

describe('a client that never hangs up is let go of', () => {
  it.concurrent('in whatever part of a request it is slow, and is told why, and nobody else waits for it', async () => {
    await using crowd = new AsyncDisposableStack()
    const clients = await Promise.all(
      Array.from({ length: 10 }, () => Object.entries(SLOW))
        .flat()
        .map(async ([what, [start, drop, status]]) => {
          const client = crowd.use(await openStubborn(site.port))
          client.socket.write(start)
          const drip = setInterval(() => client.socket.writable && client.socket.write(drop), 1400)
          crowd.defer(() => clearInterval(drip))
          return { what, client, status }
        }),
    )

    expect(await pullManifest()).toEqual([200, image.bytes.length])
    await until(() => clients.every(({ client }) => client.isEnded), { what: 'the last words of the site' })
    const last = ({ client }: (typeof clients)[number]) =>
      Number([...client.received().matchAll(/HTTP\/1\.1 (\d+)/g)].at(-1)?.[1])
    expect(clients.map((one) => [one.what, last(one)])).toEqual(
      clients.map(({ what, status }) => [what, status]),
    )
    await expectNothingLeft(site, before)
  })

  it('when it takes its answer byte by byte, and what it was sent is no longer held', async () => {
    using client = await openStubborn(site.port, { byBytes: true })
    client.socket.write(head(`GET /v2/team/app/blobs/${image.blobs[1]?.digest}`))
    const taking = setInterval(() => client.socket.resume(), 50)
    try {
      await until(() => client.received().length > 5, { what: 'the first bytes' })
      await until(async () => (await connectionsOn(site.port)) === 0, { what: 'the site to have enough' })
    } finally {
      clearInterval(taking)
    }
    client.socket.destroy()
    await expectNothingLeft(site, before)
  })

  it.concurrent('by the events listener too, with or without the secret', async () => {
    const lines = [`authorization: ${SECRET}`, 'content-type: application/json', 'content-length: 100']
    using silent = await openStubborn(eventsPort)
    using halfway = await openStubborn(eventsPort)
    using broken = await openStubborn(eventsPort)
    halfway.socket.write(`${head('POST /notifications', ...lines)}{`)
    broken.socket.write('NONSENSE\r\n\r\n')

    await until(() => broken.isEnded, { what: 'the broken one to be closed' })
    await until(async () => (await connectionsOn(eventsPort)) <= 2, { what: 'one of three to be gone' })
    expect([silent.isEnded, halfway.isEnded]).toEqual([false, false]) // Theirs are 10 and 30 s.
  })

  it.concurrent('where TLS is spoken and it says nothing', async () => {
    const { certificatePem, privateKeyPem } = await signingKey({ name: 'tls' })
    await using one = await listen(async () => undefined, {
      idleTimeoutMs: 300,
      tls: { cert: Buffer.from(certificatePem), key: Buffer.from(privateKeyPem) },
    })
    using client = await openStubborn(one.port)

    await until(async () => (await connectionsOn(one.port)) === 0, { what: 'the connection to be closed' })
    expect(client.received()).toBe('')
  })
})
