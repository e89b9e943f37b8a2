/** Clients that hold a connection and do nothing with it: each is given up in time, and nobody else waits for it. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { randomContent } from '../support/content.ts'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { type GeoRegistry, startGeoRegistry } from '../support/geo-registry.ts'
import { createRegistryApi, locationOf, type RegistryApi } from '../support/registry-api.ts'
import { until } from '../support/wait.ts'
import { openRaw, rawRequest } from './raw-http.ts'

const NAME = 'team/app'
const MIB = 1024 * 1024
/** Two seconds with this idle timeout; a site that looked as seldom as node does by itself would take 30. */
const HEADERS_DEADLINE_MS = 15_000

let primary: DockerRegistry
let site: GeoRegistry
let api: RegistryApi

beforeAll(async () => {
  primary = await startDockerRegistry()
  const config = { http: { idletimeout: '1s' }, auth: { none: { push: true } } }
  site = await startGeoRegistry({ primary: primary.url, config })
  api = createRegistryApi(site.url)
})
afterAll(async () => {
  for (const owned of [api, site, primary]) await owned[Symbol.asyncDispose]()
})

const closedWithin = (deadlineMs: number, connection: { readonly isClosed: boolean }) =>
  until(() => connection.isClosed, { what: 'the connection to be given up', deadlineMs })

describe.concurrent('a client that', () => {
  it('never ends its headers is told 408 after http.idletimeout, byte by byte or silent, and others are served', async () => {
    await using silent = await openRaw(site.port)
    await using dripping = await openRaw(site.port)
    for (const { socket } of [silent, dripping]) socket.write('GET /v2/ HTTP/1.1\r\nHost: registry\r\n')
    const drip = setInterval(() => dripping.socket.writable && dripping.socket.write('x'), 500)

    expect((await api.request('GET', '/v2/')).status).toBe(200)
    try {
      await Promise.all([
        closedWithin(HEADERS_DEADLINE_MS, silent),
        closedWithin(HEADERS_DEADLINE_MS, dripping),
      ])
    } finally {
      clearInterval(drip)
    }

    expect([silent.statuses(), dripping.statuses()]).toEqual([[408], [408]])
  }, 90_000)

  it('stops in the middle of an upload is told 408 after http.idletimeout', async () => {
    const session = new URL(locationOf(await api.startUpload(NAME)), site.url)
    const target = session.pathname + session.search
    await using connection = await openRaw(site.port)
    const head = { 'content-length': '1000', 'content-type': 'application/octet-stream' }
    connection.socket.write(`${rawRequest('PATCH', target, head)}some bytes`)

    await until(() => connection.statuses().length > 0, { what: 'the answer', deadlineMs: 10_000 })
    expect(connection.statuses()).toEqual([408])
    expect(connection.received()).toContain('BLOB_UPLOAD_INVALID')
    await closedWithin(10_000, connection)
  })

  it('stops in the middle of a manifest is told 408', async () => {
    await using connection = await openRaw(site.port)
    const head = { 'content-length': '1000', 'content-type': 'application/vnd.oci.image.manifest.v1+json' }
    connection.socket.write(`${rawRequest('PUT', `/v2/${NAME}/manifests/v1`, head)}{`)

    await until(() => connection.statuses().length > 0, { what: 'the answer', deadlineMs: 10_000 })
    expect(connection.statuses()).toEqual([408])
    await closedWithin(10_000, connection)
  })

  it.each(['local', 'fill'])(
    'takes no byte of a blob (%s) is cut off after http.idletimeout',
    async (source) => {
      const content = await randomContent(32 * MIB, { seed: `idle ${source}` })
      const to = createRegistryApi(source === 'local' ? site.url : primary.url)
      expect((await to.pushBlob(NAME, content)).status).toBe(201)
      await to[Symbol.asyncDispose]()
      await using connection = await openRaw(site.port)
      connection.socket.pause()
      connection.socket.write(rawRequest('GET', `/v2/${NAME}/blobs/${content.digest}`))

      const access = await until(() => site.lines.find(({ uri }) => String(uri).endsWith(content.digest)), {
        what: 'the transfer to be given up',
      })
      expect(access['written_bytes']).toBeLessThan(content.sizeBytes)
      // A client that went away is no error of the site's.
      expect(site.lines.filter(({ level }) => level === 'error')).toEqual([])
      expect((await api.getBlob(NAME, content.digest)).digest).toBe(content.digest)
    },
  )
})
