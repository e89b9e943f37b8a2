import { once } from 'node:events'
import type { ServerResponse } from 'node:http'
import { connect } from 'node:net'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type HttpListener, listenHttp } from '../support/http-listener.ts'
import { startWriteSite, type WriteSite } from './write-site.ts'

const PATH = '/v2/team/app/manifests/latest'
const MIB = 1024 * 1024

let reply: (response: ServerResponse) => void
let primary: HttpListener
let site: WriteSite
beforeEach(async () => {
  primary = await listenHttp((_request, response) => reply(response))
  site = await startWriteSite(primary.url, { idleMs: 300 })
})
afterEach(async () => {
  await site[Symbol.asyncDispose]()
  await primary[Symbol.asyncDispose]()
})

const ask = () => site.api.request('DELETE', PATH)

describe('an answer of the primary', () => {
  it('reaches the client with its end-to-end headers, and none that speak for the wrong host or hop', async () => {
    reply = (response) =>
      response
        .writeHead(405, {
          'x-kept': 'yes',
          warning: '299 - "old"',
          'retry-after': '5',
          connection: 'x-hop, keep-alive',
          'x-hop': 'no',
          'alt-svc': 'h3=":443"',
          'x-request-id': 'of-the-primary',
          'geo-registry-source': 'stale',
        })
        .end('{"errors":[]}')

    const { status, headers, body } = await ask()

    expect(status).toBe(405)
    expect(body.toString()).toBe('{"errors":[]}')
    expect(headers).toMatchObject({ 'x-kept': 'yes', warning: '299 - "old"', 'retry-after': '5' })
    expect(headers['geo-registry-source']).toBe('primary')
    expect(headers['x-request-id']).not.toContain('primary')
    expect(headers).not.toHaveProperty('x-hop')
    expect(headers).not.toHaveProperty('alt-svc')
  })

  it.each([
    ['with a length', { 'content-length': 1000 }],
    ['without one', {}],
  ])('that breaks off cuts the connection of its client, %s', async (_, headers) => {
    reply = (response) => {
      response.writeHead(400, headers)
      response.write('{"errors":', () => response.destroy())
    }

    await expect(ask()).rejects.toThrow()
  })

  it('that comes in pieces is passed on piece by piece', async () => {
    const rest = Promise.withResolvers<void>()
    reply = (response) => {
      response.writeHead(400, { 'content-length': 4 }).write('ab')
      void rest.promise.then(() => response.end('cd'))
    }
    const socket = connect(site.port, '127.0.0.1')
    socket.write(`DELETE ${PATH} HTTP/1.1\r\nHost: x\r\n\r\n`)
    let text = ''
    socket.on('data', (data) => {
      text += data
    })

    await once(socket, 'data')
    while (!text.endsWith('ab')) await once(socket, 'data')
    rest.resolve()
    while (!text.endsWith('abcd')) await once(socket, 'data')
    socket.destroy()
  })

  it('that nobody reads ends, and so does the request to the primary', async () => {
    const ended = Promise.withResolvers<void>()
    reply = (response) => {
      response.once('close', () => ended.resolve())
      response.writeHead(400, { 'content-length': 64 * MIB })
      response.write(Buffer.alloc(64 * MIB))
    }
    const socket = connect(site.port, '127.0.0.1').pause()
    socket.on('error', () => undefined)
    socket.write(`DELETE ${PATH} HTTP/1.1\r\nHost: x\r\n\r\n`)

    await ended.promise
    socket.destroy()
  })

  it('leaves the connections at both ends usable for the next request', async () => {
    const ports = new Set<number | undefined>()
    reply = (response) => {
      ports.add(response.socket?.remotePort)
      response.writeHead(204).end()
    }
    for (let n = 0; n < 5; n += 1) expect((await ask()).status).toBe(204)

    expect(ports.size).toBe(1)
  })
})
