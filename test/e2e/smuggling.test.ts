/** Requests that two servers could read in two ways: refused, once, and the connection is not used again. */
import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type GeoRegistry, startGeoRegistry } from '../support/geo-registry.ts'
import { type LyingPrimary, startLyingPrimary } from '../support/lying-primary.ts'
import { createRegistryApi, locationOf } from '../support/registry-api.ts'
import { rawRequest, sendRaw } from './raw-http.ts'

let primary: LyingPrimary
let site: GeoRegistry

beforeAll(async () => {
  primary = await startLyingPrimary()
  site = await startGeoRegistry({ primary: primary.url, config: { auth: { none: { push: true } } } })
})
afterAll(async () => {
  await site[Symbol.asyncDispose]()
  await primary[Symbol.asyncDispose]()
})

/** Without `Connection: close`: the server has to close by itself. */
function head(method: string, target: string, ...lines: string[]): string {
  return [`${method} ${target} HTTP/1.1`, 'Host: registry', ...lines, '', ''].join('\r\n')
}

const HIDDEN = head('GET', '/v2/hidden/manifests/v1')
const UPLOAD = '/v2/team/app/blobs/uploads/'

describe('a request with two meanings', () => {
  it.each([
    [
      'a length and chunks',
      head('POST', UPLOAD, 'Content-Length: 5', 'Transfer-Encoding: chunked'),
      '0\r\n\r\n',
    ],
    [
      'chunks and a length',
      head('POST', UPLOAD, 'Transfer-Encoding: chunked', 'Content-Length: 5'),
      '0\r\n\r\n',
    ],
    ['two lengths', head('POST', UPLOAD, 'Content-Length: 5', 'Content-Length: 0'), 'hello'],
    ['a list of lengths', head('POST', UPLOAD, 'Content-Length: 5, 0'), 'hello'],
    ['a signed length', head('POST', UPLOAD, 'Content-Length: +5'), 'hello'],
    ['a length that is none', head('POST', UPLOAD, 'Content-Length: 0x5'), 'hello'],
    [
      'a coding that does not end in chunked',
      head('POST', UPLOAD, 'Transfer-Encoding: chunked, identity'),
      '',
    ],
    ['a coding that only looks like chunked', head('POST', UPLOAD, 'Transfer-Encoding: xchunked'), ''],
    ['a space before the colon', head('POST', UPLOAD, 'Transfer-Encoding : chunked'), '0\r\n\r\n'],
    ['a folded header', head('POST', UPLOAD, 'X: a', ' Transfer-Encoding: chunked'), ''],
    ['a control character in a header', head('POST', UPLOAD, 'X: a\x00b'), ''],
    ['a bare CR in a header', head('POST', UPLOAD, 'X: a\rTransfer-Encoding: chunked'), ''],
    [
      'a chunk size that is none',
      head('POST', UPLOAD, 'Transfer-Encoding: chunked'),
      '0x5\r\nhello\r\n0\r\n\r\n',
    ],
    ['bytes behind a chunk', head('POST', UPLOAD, 'Transfer-Encoding: chunked'), '5\r\nhelloX\r\n0\r\n\r\n'],
    ['lines that end in LF alone', `GET /v2/ HTTP/1.1\nHost: a\nContent-Length: 5\n\nhello`, ''],
    ['no HTTP at all', 'SSH-2.0-OpenSSH_9.2\r\n', ''],
    ['HTTP/2 without asking', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', ''],
  ])('by %s is refused, and what is hidden in it is not run', async (_, request, body) => {
    const answer = await sendRaw(site.port, request + body + HIDDEN)

    expect(answer.statuses.length, answer.text).toBeLessThanOrEqual(1)
    expect(
      answer.statuses.every((status) => status === 400),
      answer.text,
    ).toBe(true)
    expect(site.lines.filter(({ uri }) => String(uri).includes('hidden'))).toEqual([])
    expect(primary.asked('*', /hidden/)).toEqual([])
  })

  it('without a host is refused', async () => {
    expect((await sendRaw(site.port, 'GET /v2/ HTTP/1.1\r\n\r\n')).statuses).toEqual([400])
  })

  it('in the middle of an upload ends the upload, and what follows is not run', async () => {
    const api = createRegistryApi(site.url)
    const session = new URL(locationOf(await api.startUpload('team/app')), site.url)
    const patch = head('PATCH', session.pathname + session.search, 'Transfer-Encoding: chunked')
    const answer = await sendRaw(site.port, `${patch}5\r\nhello\r\nZZ\r\n${HIDDEN}`)

    expect(answer.statuses).not.toContain(202)
    expect(primary.asked('GET', /hidden/)).toEqual([])
    expect(primary.asked('PATCH', session.pathname).map(({ complete }) => complete)).toEqual([false])
    await api[Symbol.asyncDispose]()
  })
})

describe('a target that is no path of this site', () => {
  it.each([
    ['GET', 'http://registry.example.com/v2/'],
    ['GET', 'http://127.0.0.1:1/v2/team/app/manifests/v1'],
    ['GET', '//registry.example.com/v2/'],
    ['GET', '/\\registry.example.com/v2/'],
    ['OPTIONS', '*'],
  ])('is 404: %s %s', async (method, target) => {
    const answer = await sendRaw(site.port, rawRequest(method, target))

    expect([answer.statuses, answer.code]).toEqual([[404], 'NOT_FOUND'])
  })

  it('is not tunnelled to by CONNECT, nor left by an upgrade', async () => {
    const seen = primary.requests.length
    const tunnel = await sendRaw(site.port, rawRequest('CONNECT', `127.0.0.1:${primary.port}`))
    const upgrade = { upgrade: 'h2c', connection: 'Upgrade, close', 'http2-settings': 'AAMAAABkAAQAAP__' }
    const upgraded = await sendRaw(site.port, rawRequest('GET', '/v2/', upgrade))

    expect(tunnel.statuses).not.toContain(200)
    expect(upgraded.statuses).toEqual([200])
    expect(primary.requests.slice(seen).filter(({ url }) => url !== '/v2/')).toEqual([])
  })
})

describe('headers', () => {
  it('of more than 64 KiB are 431, and those of a token with many scopes are not', async () => {
    const large = { authorization: `Bearer ${'x'.repeat(48 * 1024)}` }
    const tooLarge = { authorization: `Bearer ${'x'.repeat(80 * 1024)}` }

    expect((await sendRaw(site.port, rawRequest('GET', '/v2/', large))).statuses).toEqual([200])
    expect((await sendRaw(site.port, rawRequest('GET', '/v2/', tooLarge))).statuses).toEqual([431])
  })

  it('without end are 431 before they have used up any memory', async () => {
    const socket = connect({ host: '127.0.0.1', port: site.port })
    const line = `x-endless: ${'a'.repeat(1000)}\r\n`
    let sentBytes = 0
    let text = ''
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString()
    })
    const closed = new Promise<void>((resolve) => socket.on('error', () => {}).once('close', () => resolve()))
    socket.write('GET /v2/ HTTP/1.1\r\nHost: registry\r\n')
    const writing = setInterval(() => {
      if (socket.writable) socket.write(line)
      sentBytes += line.length
    }, 1)
    await closed
    clearInterval(writing)

    expect(text).toMatch(/^HTTP\/1\.1 431 /)
    expect(sentBytes).toBeLessThan(1024 * 1024)
  })
})
