/** Much of something small: refused, or taken in without being paid for in memory. */
import type { Socket } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { digestOf } from '../../src/oci/digest.ts'
import { openRaw } from '../e2e/raw-http.ts'
import { type GeoRegistry, startGeoRegistry } from '../support/geo-registry.ts'
import { type LyingPrimary, startLyingPrimary } from '../support/lying-primary.ts'
import { freePort } from '../support/port.ts'
import { until } from '../support/wait.ts'

const MIB = 1024 * 1024
const SECRET = 'a secret of the events'
const MANIFEST = 'application/vnd.oci.image.manifest.v1+json'

let primary: LyingPrimary
let site: GeoRegistry
let eventsPort: number

beforeAll(async () => {
  primary = await startLyingPrimary()
  eventsPort = await freePort()
  site = await startGeoRegistry({
    primary: primary.url,
    config: {
      http: { events: { addr: `127.0.0.1:${eventsPort}` } },
      auth: { none: { push: true } },
      replication: {
        enabled: true,
        notifications: { secret: SECRET },
        modes: [{ pattern: '**', mode: 'ondemand' }],
      },
    },
  })
})
afterAll(async () => {
  await site[Symbol.asyncDispose]()
  await primary[Symbol.asyncDispose]()
})

const LISTENERS = {
  public: () => site.port,
  admin: () => Number(new URL(site.adminUrl).port),
  events: () => eventsPort,
}

/** Writes until the server has answered or hung up; resolves with how many bytes that took, at most `limitBytes`. */
async function pour(
  socket: Socket,
  text: string,
  isOver: () => boolean,
  limitBytes = 64 * MIB,
): Promise<number> {
  let sentBytes = 0
  while (!isOver() && sentBytes < limitBytes) {
    sentBytes += text.length
    if (!socket.write(text, 'latin1')) {
      if (socket.closed) break
      // 'close' comes after an error, of which openRaw knows.
      await new Promise<void>((resolve) => socket.once('drain', resolve).once('close', () => resolve()))
    } else await new Promise(setImmediate)
  }
  return sentBytes
}

const chunkedPut = (target: string, type: string) =>
  `PUT ${target} HTTP/1.1\r\nHost: x\r\nContent-Type: ${type}\r\nTransfer-Encoding: chunked\r\n\r\n`

/** What begins without end: where it is sent, what first, what again and again. */
const FLOODS: Readonly<Record<string, readonly [start: string, more: string]>> = {
  'a method': ['', 'G'.repeat(1000)],
  'a target': ['GET /v2/', 'a/'.repeat(1000)],
  'one header': ['GET /v2/ HTTP/1.1\r\nHost: x\r\nX: ', 'y'.repeat(1000)],
  'many headers': ['GET /v2/ HTTP/1.1\r\nHost: x\r\n', 'A:\r\n'.repeat(100)],
  'a name of a header': ['GET /v2/ HTTP/1.1\r\nHost: x\r\n', 'X'.repeat(1000)],
  'a chunk extension': [`${chunkedPut('/v2/a/b/manifests/x', MANIFEST)}1`, `;${'x'.repeat(1000)}`],
  trailers: [`${chunkedPut('/v2/a/b/manifests/x', MANIFEST)}0\r\n`, 'A: b\r\n'.repeat(100)],
}

describe.each(Object.entries(LISTENERS))('the %s listener', (_, port) => {
  it.each(Object.entries(FLOODS))(
    'hears no more of %s than it needs, and says so or hangs up',
    async (_, [start, more]) => {
      await using connection = await openRaw(port())
      connection.socket.write(start)
      const isOver = () => connection.isClosed || connection.statuses().length > 0
      const sentBytes = await pour(connection.socket, more, isOver)

      expect(sentBytes).toBeLessThan(16 * MIB)
      await until(isOver, { what: 'its word' })
      for (const status of connection.statuses()) expect(status).toBeGreaterThanOrEqual(400)
    },
  )
})

describe('a body of chunks of one byte', () => {
  const pieces = (bytes: number) => '1\r\nx\r\n'.repeat(bytes)

  it('of a manifest takes no more memory than any', async () => {
    const before = (await site.memory()).residentBytes
    await using connection = await openRaw(site.port)
    connection.socket.write(chunkedPut('/v2/team/app/manifests/v1', MANIFEST))
    const isOver = () => connection.isClosed
    await pour(connection.socket, pieces(10_000), isOver, 3 * MIB)
    await until(() => connection.socket.writableLength === 0, {
      what: 'all to be taken',
      deadlineMs: 30_000,
    })

    expect((await site.memory()).residentBytes - before).toBeLessThan(100 * MIB)
    expect(connection.statuses()).toEqual([])
    connection.socket.write('0\r\n\r\n')
    await until(() => connection.statuses().length > 0, { what: 'the answer', deadlineMs: 30_000 })
    expect(connection.statuses()).toEqual([201])
    const [put] = primary.asked('PUT', /manifests/)
    expect(put?.bodyBytes).toBeGreaterThan(0.4 * MIB)
  })

  it('of an upload arrives whole', async () => {
    const bytes = 20_000
    const digest = digestOf(Buffer.from('x'.repeat(bytes)))
    await using connection = await openRaw(site.port)
    const target = `/v2/team/app/blobs/uploads/?digest=${digest}`
    const head = chunkedPut(target, 'application/octet-stream').replace('PUT', 'POST')
    connection.socket.write(`${head}${pieces(bytes)}0\r\n\r\n`)

    await until(() => connection.statuses().length > 0, { what: 'the answer', deadlineMs: 30_000 })
    expect(connection.statuses()).toEqual([201])
  })

  it('for the admin listener is read past', async () => {
    await using connection = await openRaw(LISTENERS.admin())
    connection.socket.write(
      `${chunkedPut('/gc?dryrun=true', 'text/plain').replace('PUT', 'POST').replace('Host: x', 'Host: localhost')}${pieces(1000)}0\r\n\r\n`,
    )

    await until(() => connection.statuses().length > 0, { what: 'the answer' })
    expect(connection.statuses()).toEqual([200])
  })

  it('of events is taken in, as a proxy on the way may send them', async () => {
    const events = JSON.stringify({ events: [{ id: 'one', action: 'pull' }] }).padEnd(50_000)
    const lines = ['Host: x', `Authorization: ${SECRET}`, 'Content-Type: application/json']
    const body = [...events].map((byte) => `1\r\n${byte}\r\n`).join('')
    await using connection = await openRaw(eventsPort)
    const head = ['POST /notifications HTTP/1.1', ...lines, 'Transfer-Encoding: chunked', '', ''].join('\r\n')
    connection.socket.write(`${head}${body}0\r\n\r\n`)

    await until(() => connection.statuses().length > 0, { what: 'the answer', deadlineMs: 30_000 })
    expect(connection.statuses()).toEqual([204])
  })
})

it('requests sent ahead without end, while the first one waits for the primary, take no memory', async () => {
  const gate = primary.gate('GET', /tags/)
  const before = (await site.memory()).residentBytes
  await using connection = await openRaw(site.port)
  connection.socket.write('GET /v2/team/app/tags/list HTTP/1.1\r\nHost: x\r\n\r\n')
  await until(() => primary.asked('GET', /tags/).length > 0, { what: 'the primary to be asked' })
  const sentBytes = await pour(
    connection.socket,
    'GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(100),
    () => connection.isClosed,
  )
  gate.open()

  expect(sentBytes).toBeLessThan(16 * MIB)
  expect((await site.memory()).residentBytes - before).toBeLessThan(100 * MIB)
})
