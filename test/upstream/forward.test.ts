import { once } from 'node:events'
import { createServer, request as httpRequest, type RequestListener } from 'node:http'
import { PassThrough, Readable } from 'node:stream'
import { buffer, text } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import { afterEach, describe, expect, it, vi } from 'vitest'
import type { ForwardAsk } from '../../src/upstream/upstream.ts'
import { clientOf, httpPrimary, portOf, releasers } from './primary.ts'

const CALLER = { kind: 'caller', authorization: 'Bearer secret' } as const

const owed = releasers()
afterEach(() => owed.release())

async function primary(answer: RequestListener, options: Parameters<typeof clientOf>[1] = {}) {
  const server = await httpPrimary(answer)
  owed.add(server.close)
  const client = clientOf(server.origin, options)
  owed.add(client.dispatcher.close)
  const ask = (rest: Partial<ForwardAsk> & { path?: string }) =>
    client.upstream.forward({
      method: 'GET',
      url: server.origin + (rest.path ?? '/v2/'),
      headers: {},
      operation: 'write',
      credential: CALLER,
      ...rest,
    })
  return { ...client, ask, origin: server.origin, requests: server.requests }
}

describe('a request that is passed on', () => {
  it('arrives with its path to the letter, the upstream as host, the caller as he is, and nothing of the hop', async () => {
    const { ask, requests, origin } = await primary((_request, response) => response.end())
    const path = "/v2/a/blobs/uploads/x?_state=a%2Fb%3D+&digest=sha256:ab&odd=[|'"

    await ask({
      path,
      method: 'DELETE',
      headers: {
        host: 'registry.site.example.com',
        connection: 'keep-alive, x-hop',
        'x-hop': '1',
        'transfer-encoding': 'chunked',
        expect: '100-continue',
        authorization: 'Bearer other',
        'user-agent': 'docker/28',
        'x-forwarded-for': '10.0.0.1',
      },
    })

    expect(requests[0]?.url).toBe(path)
    expect(requests[0]?.headers).toEqual({
      host: new URL(origin).host,
      connection: 'keep-alive',
      authorization: 'Bearer secret',
      'user-agent': 'docker/28',
      'x-forwarded-for': '10.0.0.1',
    })
  })

  it.each([401, 404, 405, 409, 429, 500])(
    'gets a %i of the primary as an answer, body and all',
    async (status) => {
      const { ask } = await primary((_request, response) => {
        response.writeHead(status, { 'x-a': '1', connection: 'x-gone', 'x-gone': '1' }).end('words')
      })

      const answer = await ask({})

      expect(answer.status).toBe(status)
      expect(answer.headers).toMatchObject({ 'x-a': '1' })
      expect(answer.headers).not.toHaveProperty('x-gone')
      expect(await text(answer.body)).toBe('words')
    },
  )

  it('is not redirected, decompressed or repeated', async () => {
    let resets = 0
    const { ask, requests } = await primary((request, response) => {
      if (request.url === '/reset') {
        resets++
        request.socket.destroy()
      } else response.writeHead(307, { location: '/next', 'content-encoding': 'gzip' }).end('not gzip')
    })

    expect(await text((await ask({})).body)).toBe('not gzip')
    expect(requests).toHaveLength(1)
    await expect(ask({ path: '/reset' })).rejects.toMatchObject({ kind: 'unavailable' })
    expect(resets).toBe(1)
  })

  it.each([
    ['with its length', { 'content-length': '3000000' }],
    ['chunked', {}],
  ])('streams its body %s, before the whole of it is there', async (_what, headers) => {
    let received = 0
    const { ask, requests } = await primary(async (request, response) => {
      for await (const piece of request) received += piece.length
      response.writeHead(201).end()
    })
    const body = new PassThrough()

    const answer = ask({ method: 'PATCH', headers, body })
    body.write(Buffer.alloc(1_000_000))
    await vi.waitFor(() => expect(received).toBe(1_000_000))
    body.end(Buffer.alloc(2_000_000))

    expect((await answer).status).toBe(201)
    expect(received).toBe(3_000_000)
    expect(requests[0]?.headers).toMatchObject(
      'content-length' in headers ? headers : { 'transfer-encoding': 'chunked' },
    )
  })

  it('takes no more of its body than a primary that does not read lets it', async () => {
    const { ask, requests } = await primary((request) => void request.pause())
    let taken = 0
    const piece = Buffer.alloc(64 * 1024)
    const body = new Readable({
      read() {
        taken += piece.length
        this.push(taken < 256 * 1024 * 1024 ? piece : null)
      },
    })
    const leave = new AbortController()

    const answer = ask({ method: 'PATCH', body, signal: leave.signal })
    await vi.waitFor(() => expect(requests).toHaveLength(1))
    let before = -1
    await vi.waitUntil(
      () => {
        const settled = taken === before
        before = taken
        return settled
      },
      { interval: 200, timeout: 5000 },
    )

    expect(taken).toBeLessThan(32 * 1024 * 1024) // What two sockets hold.
    leave.abort()
    await expect(answer).rejects.toMatchObject({ kind: 'aborted' })
  })

  it('sends an empty body with a length of 0, and no body for a GET', async () => {
    const { ask, requests } = await primary(
      (request, response) => void request.resume().on('end', () => response.end()),
    )

    await ask({ method: 'POST', headers: { 'content-length': '0' }, body: Readable.from([]) })
    await ask({ method: 'GET' })

    expect(requests[0]?.headers['content-length']).toBe('0')
    expect(requests[1]?.headers).not.toHaveProperty('content-length')
  })

  it('carries no credential to another origin', async () => {
    const { ask } = await primary((_request, response) => response.end())
    const other = await httpPrimary((_request, response) => response.end())
    owed.add(other.close)

    await ask({ url: `${other.origin}/upload?sig=a%2Fb`, method: 'PUT' })

    expect(other.requests[0]?.url).toBe('/upload?sig=a%2Fb')
    expect(other.requests[0]?.headers).not.toHaveProperty('authorization')
  })

  it.each([401, 413])('brings its client a %i that came before the upload was through', async (status) => {
    const { ask } = await primary((_request, response) => {
      response.writeHead(status, { 'content-length': 5 }).end('enough')
    })
    // The site as it will stand between them: a real server whose request is the body.
    const site = createServer((request, response) => {
      ask({ method: 'PATCH', headers: { 'content-length': '100000000' }, body: request })
        .then((answer) => pipeline(answer.body, response.writeHead(answer.status)))
        .catch((error: unknown) => response.destroy(error as Error))
    })
    site.listen(0, '127.0.0.1')
    await once(site, 'listening')
    owed.add(() => site.close())
    owed.add(() => site.closeAllConnections())

    const upload = httpRequest({
      port: portOf(site),
      method: 'PATCH',
      headers: { 'content-length': 100_000_000 },
    })
    upload.write(Buffer.alloc(64 * 1024))
    const [answer] = await once(upload, 'response')

    expect(answer.statusCode).toBe(status)
    expect(await text(answer)).toBe('enoug')
    upload.destroy()
  })

  it('leaves the body of an early answer to its owner, who can still read it out', async () => {
    const { ask } = await primary((_request, response) => response.writeHead(413).end())
    const body = new PassThrough()
    body.write('first')

    const answer = await ask({ method: 'PUT', headers: { 'content-length': '10' }, body })
    await buffer(answer.body)
    expect(body.destroyed).toBe(false)
    await vi.waitFor(() => expect([body.isPaused(), body.listenerCount('data')]).toEqual([true, 0]))
    body.write('more')
    body.resume().end('last')

    await once(body, 'close')
    expect(body.errored).toBe(null)
  })

  it('ends at the primary when its client aborts the upload, and says whose fault that was', async () => {
    let ended: string | undefined
    const { ask, reports } = await primary((request) => {
      request.resume().on('error', () => (ended = 'aborted'))
    })
    const body = new PassThrough()
    body.write('some')

    const answer = ask({ method: 'PATCH', headers: { 'content-length': '100' }, body })
    await vi.waitFor(() => expect(body.readableLength).toBe(0))
    body.destroy()

    await expect(answer).rejects.toMatchObject({ kind: 'aborted' })
    await vi.waitFor(() => expect(ended).toBe('aborted'))
    expect(reports.failed).toHaveLength(1)
  })

  it('ends at the primary when the caller gives up waiting', async () => {
    let closed = false
    const { ask, requests } = await primary((_request, response) =>
      response.on('close', () => (closed = true)),
    )
    const leave = new AbortController()

    const answer = ask({ signal: leave.signal })
    await vi.waitFor(() => expect(requests).toHaveLength(1))
    leave.abort()

    await expect(answer).rejects.toMatchObject({ kind: 'aborted' })
    await vi.waitFor(() => expect(closed).toBe(true))
  })

  it('may take long to upload: only silence counts against it', async () => {
    const { ask } = await primary(
      (request, response) => void request.resume().on('end', () => response.writeHead(201).end()),
      { timeouts: { writeMs: 400 } },
    )
    const body = new PassThrough()
    let pieces = 0
    const drip = setInterval(() => (++pieces < 10 ? body.write('x') : body.end()), 100)
    owed.add(() => clearInterval(drip))

    expect((await ask({ method: 'PUT', body })).status).toBe(201)
    expect(pieces).toBe(10)
  })

  it('is an outage when the primary answers nothing to what was uploaded', async () => {
    const { ask } = await primary((request) => void request.resume(), { timeouts: { writeMs: 200 } })

    await expect(ask({ method: 'PUT', body: Readable.from(['x']) })).rejects.toMatchObject({
      kind: 'unavailable',
      timedOut: true,
    })
  })

  it('waits for the start of an upload no longer than for a read: there is nothing to commit', async () => {
    const { ask } = await primary((request) => void request.resume(), { timeouts: { headMs: 200 } })

    await expect(ask({ method: 'POST' })).rejects.toMatchObject({ kind: 'unavailable', timedOut: true })
  })
})
