import type { RequestListener } from 'node:http'
import { describe, expect, it } from 'vitest'
import { listenHttp } from '../support/http-listener.ts'
import { read, readLast } from './readers.ts'

const BODY = Buffer.alloc(300_000, 'x')

const whole: RequestListener = (_, response) => {
  response.writeHead(200, { 'content-length': BODY.length })
  response.end(BODY)
}

describe('the clients of the bench', () => {
  it('read all bodies of a connection, one after the other', async () => {
    await using server = await listenHttp(whole)
    const request = { path: '/', headers: {} }

    const [connection] = await read([{ url: server.url, requests: [request, request] }])

    expect(connection?.bodyBytes).toBe(2 * BODY.length)
    expect(connection?.readings).toHaveLength(2)
  })

  it('leave in the middle of a body when they have what they came for', async () => {
    await using server = await listenHttp(whole)
    const requests = [{ path: '/', headers: {}, takeBytes: 1000 }]

    const [connection] = await read([{ url: server.url, requests }])

    expect(connection?.bodyBytes).toBeGreaterThanOrEqual(1000)
    expect(connection?.bodyBytes).toBeLessThan(BODY.length)
  })

  it('time the first byte of the body, not of the head', async () => {
    await using server = await listenHttp((_, response) => {
      response.writeHead(200, { 'content-length': BODY.length })
      response.flushHeaders()
      setTimeout(() => response.end(BODY), 200)
    })

    const reading = await readLast(server.url, [{ path: '/', headers: {} }])

    expect(reading.firstByteMs).toBeGreaterThan(190)
  })

  it('read as slowly as they were told', async () => {
    await using server = await listenHttp(whole)
    const requests = [{ path: '/', headers: {} }]

    const [connection] = await read([{ url: server.url, requests, bytesPerSecond: 1e6 }])

    expect(connection?.bodyBytes).toBe(BODY.length)
    // The last read, of at most 64 KiB, is not paused after.
    expect(connection?.elapsedMs).toBeGreaterThan(230)
  })

  it('call a refusal and a body that was cut failures, whatever else arrived', async () => {
    await using server = await listenHttp((request, response) => {
      response.writeHead(request.url === '/refused' ? 429 : 200, { 'content-length': BODY.length })
      response.write(BODY.subarray(1), () => response.destroy())
    })

    for (const path of ['/refused', '/cut']) {
      await expect(read([{ url: server.url, requests: [{ path, headers: {} }] }])).rejects.toThrow(
        'did not get its bytes',
      )
    }
  })
})
