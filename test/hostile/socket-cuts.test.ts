/** Bodies that are cut or lie about their length, and clients that vanish: nothing half goes on, and nothing is left. */
import { once } from 'node:events'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { digestOf } from '../../src/oci/digest.ts'
import { openRaw, type RawConnection, rawRequest } from '../e2e/raw-http.ts'
import { type GeoRegistry, startGeoRegistry } from '../support/geo-registry.ts'
import { buildImage, type Image } from '../support/images.ts'
import { type LyingPrimary, sendHonestly, startLyingPrimary } from '../support/lying-primary.ts'
import { createRegistryApi, locationOf } from '../support/registry-api.ts'
import { until } from '../support/wait.ts'
import { expectNothingLeft, type Holdings, holdingsOf, openStubborn } from './raw-client.ts'

const MIB = 1024 * 1024
const NAME = 'team/app'
const BYTES = 'hello, these bytes are cut'
const DIGEST = digestOf(Buffer.from(BYTES))

let primary: LyingPrimary
let site: GeoRegistry
let image: Image
let before: Holdings

beforeAll(async () => {
  primary = await startLyingPrimary()
  image = await buildImage({ seed: 'cuts', layers: [6 * MIB, 6 * MIB], gzip: false })
  await primary.hold(NAME, image, 'v1')
  site = await startGeoRegistry({
    primary: primary.url,
    config: { http: { idletimeout: '3s' }, auth: { none: { push: true } } },
  })
  await pull(layer(1))
})
afterAll(async () => {
  await site[Symbol.asyncDispose]()
  await primary[Symbol.asyncDispose]()
})
beforeEach(async () => {
  before = { ...(await holdingsOf(site)), connections: 0, underWay: 0 }
})

async function pull(target: string): Promise<[status: number, sizeBytes: number]> {
  const answer = await fetch(site.url + target, { headers: { connection: 'close' } })
  return [answer.status, (await answer.arrayBuffer()).byteLength]
}

const layer = (index: number) => `/v2/${NAME}/blobs/${image.blobs[index]?.digest}`

async function session(): Promise<string> {
  await using api = createRegistryApi(site.url)
  const { pathname, search } = new URL(locationOf(await api.startUpload(NAME)), site.url)
  return pathname + search
}

/** The same body with a length and in chunks, behind everything that takes one. */
async function uploads(): Promise<[what: string, target: string, message: string][]> {
  const octets = { 'content-type': 'application/octet-stream' }
  const length = { ...octets, 'content-length': String(BYTES.length) }
  const chunks = { ...octets, 'transfer-encoding': 'chunked' }
  const chunked = `5\r\n${BYTES.slice(0, 5)}\r\n15;a=b\r\n${BYTES.slice(5)}\r\n0\r\nX: y\r\n\r\n`
  const made: [string, string, string][] = []
  for (const [framing, headers, body] of [
    ['a length', length, BYTES],
    ['chunks', chunks, chunked],
  ] as const) {
    const parts = [
      ['PATCH', await session()],
      ['PUT', `${await session()}&digest=${DIGEST}`],
      ['POST', `/v2/${NAME}/blobs/uploads/?digest=${DIGEST}`],
      ['PUT', `/v2/${NAME}/manifests/cut`],
    ] as const
    for (const [method, target] of parts) {
      made.push([`${method} with ${framing}`, target, `${rawRequest(method, target, headers)}${body}`])
    }
  }
  return made
}

/** Resolves when the server has closed it too. */
async function cutAt(message: string, at: number, how: 'end' | 'reset'): Promise<RawConnection> {
  const connection = await openRaw(site.port)
  const { socket } = connection
  if (how === 'end') socket.end(message.slice(0, at))
  else {
    await new Promise((resolve) => socket.write(message.slice(0, at), resolve))
    socket.resetAndDestroy()
  }
  await until(() => connection.isClosed, { what: `the end of what was cut at ${at}` })
  return connection
}

describe('a request with a body', () => {
  it('cut at whatever byte is never whole at the primary, never done here, and leaves nothing', async () => {
    for (const [what, , message] of await uploads()) {
      const seen = primary.requests.length
      const bodyAt = message.indexOf('\r\n\r\n') + 4
      const places = Array.from({ length: message.length - bodyAt }, (_, index) => bodyAt + index)
      const cuts = [1, 20, ...places].flatMap((at) => (['end', 'reset'] as const).map((how) => ({ at, how })))
      const connections = await Promise.all(cuts.map(({ at, how }) => cutAt(message, at, how)))

      const done = connections.flatMap((connection) => connection.statuses().filter((status) => status < 400))
      expect(done, what).toEqual([])
      await until(async () => (await holdingsOf(site)).underWay === 0, { what: `the end of ${what}` })
      const whole = primary.requests
        .slice(seen)
        .filter(({ complete, method }) => complete && method !== 'GET')
      expect(whole, what).toEqual([])
    }
    await using api = createRegistryApi(site.url)
    expect((await api.headBlob(NAME, DIGEST)).status).toBe(404)
    for (const { url } of primary.asked('PATCH', /uploads/)) await api.request('DELETE', url)
    for (const { url } of primary.asked('PUT', /uploads/)) await api.request('DELETE', url)
    await api[Symbol.asyncDispose]()
    await expectNothingLeft(site, before)
  })

  it.each([
    [
      'less than it declared, and then another request',
      BYTES.length + 10,
      'GET /v2/hidden/tags/list HTTP/1.1\r\n\r\n',
    ],
    ['more than it declared', BYTES.length - 1, ''],
  ])('that has %s is what it declared, to the byte', async (_, length, next) => {
    const seen = primary.requests.length
    const head = { 'content-length': String(length), connection: 'keep-alive' }
    await using connection = await openRaw(site.port)
    connection.socket.write(
      rawRequest('POST', `/v2/${NAME}/blobs/uploads/?digest=${DIGEST}`, head) + BYTES + next,
    )

    await until(() => connection.isClosed, { what: 'the connection to be given up' })
    const posted = primary.requests.slice(seen).filter(({ method }) => method === 'POST')
    expect(posted.map(({ bodyBytes }) => bodyBytes)).toEqual([length])
    expect(connection.statuses()[0]).toBe(400)
    expect(primary.asked('*', /hidden/)).toEqual([])
    await expectNothingLeft(site, before)
  })
})

describe('a client that vanishes', () => {
  it.each([
    ['of a blob that is here', 1],
    ['of a blob that is on its way', 2],
  ])('in the middle of an answer %s, by a reset, leaves nothing', async (_, index) => {
    await Promise.all(
      Array.from({ length: 60 }, async (_, turn) => {
        await using connection = await openRaw(site.port)
        connection.socket.write(rawRequest('GET', layer(index)))
        // Every one at another place: before the head, in it, and further and further into the body.
        await until(() => connection.received().length >= turn * 2000 || connection.isClosed, {
          what: 'bytes',
        })
        connection.socket.pause().resetAndDestroy()
      }),
    )
    await expectNothingLeft(site, before)
    expect(await pull(layer(index))).toEqual([200, image.blobs[index]?.sizeBytes])
  })

  it('before the primary has answered it leaves nothing', async () => {
    const gate = primary.gate('GET', /tags/)
    const asked = primary.asked('GET', /tags/).length
    const connections = await Promise.all(Array.from({ length: 30 }, () => openRaw(site.port)))
    for (const { socket } of connections) socket.write(rawRequest('GET', `/v2/${NAME}/tags/list`))
    await until(() => primary.asked('GET', /tags/).length > asked, { what: 'the primary to be asked' })
    for (const { socket } of connections) socket.resetAndDestroy()

    await until(async () => (await holdingsOf(site)).underWay === 0, { what: 'the site to give them up' })
    gate.open()
    primary.lie('GET', /tags/, sendHonestly)
    await expectNothingLeft(site, before)
  })
})

describe('a client that has said all it has to say', () => {
  it('by closing its side of the connection leaves nothing, whether it takes its answer or not', async () => {
    const clients = await Promise.all(Array.from({ length: 20 }, () => openStubborn(site.port)))
    for (const [index, { socket }] of clients.entries()) {
      if (index % 2 === 0) socket.pause()
      socket.end(rawRequest('GET', layer(1)))
    }
    await Promise.all(
      clients
        .filter((_, index) => index % 2 === 1)
        .map(({ socket }) => socket.closed || once(socket, 'close')),
    )
    await until(async () => (await holdingsOf(site)).underWay === 0, {
      what: 'the site to give up the others',
    })
    for (const { socket } of clients) socket.destroy()
    await expectNothingLeft(site, before)
  })
})
