import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import type { RequestListener } from 'node:http'
import type { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { setImmediate as turn } from 'node:timers/promises'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { digestOf } from '../../src/oci/digest.ts'
import { parseRepositoryName } from '../../src/oci/reference.ts'
import type { AskOptions } from '../../src/upstream/upstream.ts'
import { clientOf, httpPrimary, releasers } from './primary.ts'

const NAME = parseRepositoryName('group/app') ?? expect.unreachable()
const BYTES = randomBytes(300_000)
const DIGEST = digestOf(BYTES)
const ASK: AskOptions = { credential: { kind: 'caller', authorization: 'Bearer caller' } }
const UNKNOWN = JSON.stringify({ errors: [{ code: 'BLOB_UNKNOWN', message: '' }] })

const owed = releasers()
afterEach(() => owed.release())

async function primary(answer: RequestListener, options: Parameters<typeof clientOf>[1] = {}) {
  const server = await httpPrimary(answer)
  owed.add(server.close)
  const client = clientOf(server.origin, options)
  owed.add(client.dispatcher.close)
  return { ...client, requests: server.requests }
}

/** What Go's file server does with one range. */
function served(bytes: Buffer): RequestListener {
  return (request, response) => {
    const match = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '')
    if (!match) return void response.writeHead(200, { 'content-length': bytes.length }).end(bytes)
    const start = Number(match[1])
    const end = Math.min(match[2] ? Number(match[2]) : bytes.length - 1, bytes.length - 1)
    if (start >= bytes.length) {
      return void response.writeHead(416, { 'content-range': `bytes */${bytes.length}` }).end()
    }
    const part = bytes.subarray(start, end + 1)
    response
      .writeHead(206, {
        'content-length': part.length,
        'content-range': `bytes ${start}-${end}/${bytes.length}`,
      })
      .end(part)
  }
}

describe('a blob from the primary', () => {
  it('that is cut hands out every byte that had come, also to who begins to read after the cut', async () => {
    const left = Promise.withResolvers<void>()
    const { upstream } = await primary((_request, response) => {
      response.socket?.once('close', left.resolve) // Once the client has seen our end of it and ended its own.
      response.writeHead(200, { 'content-length': BYTES.length })
      response.write(BYTES.subarray(0, 50_000), () => response.socket?.end())
    })
    const { body } = await upstream.getBlob(NAME, DIGEST, ASK)
    await left.promise

    const got: Buffer[] = []
    const reading = (async () => {
      for await (const chunk of body as AsyncIterable<Buffer>) got.push(chunk)
    })()

    await expect(reading).rejects.toMatchObject({ kind: 'unavailable' })
    expect(Buffer.concat(got).equals(BYTES.subarray(0, 50_000))).toBe(true)
  })

  it('streams whole, without a Range, uncompressed, and its bytes are counted', async () => {
    const { upstream, requests, metrics } = await primary(served(BYTES))

    const blob = await upstream.getBlob(NAME, DIGEST, ASK)

    expect(blob).toMatchObject({ offset: 0, endOffset: BYTES.length, sizeBytes: BYTES.length })
    expect((await buffer(blob.body)).equals(BYTES)).toBe(true)
    expect(requests[0]?.headers).not.toHaveProperty('range')
    expect(requests[0]?.headers['accept-encoding']).toBe('identity')
    expect((await metrics.upstreamBytes.get()).values[0]?.value).toBe(BYTES.length)
  })

  it.each([
    [{ startByte: 1000 }, 1000, BYTES.length],
    [{ startByte: 5, endByte: 9 }, 5, 10],
    [{ endByte: 0 }, 0, 1],
    [{ startByte: 299_990, endByte: 400_000 }, 299_990, BYTES.length],
  ])('streams the part %j', async (part, offset, endOffset) => {
    const { upstream } = await primary(served(BYTES))

    const blob = await upstream.getBlob(NAME, DIGEST, { ...ASK, ...part })

    expect(blob).toMatchObject({ offset, endOffset, sizeBytes: BYTES.length })
    expect((await buffer(blob.body)).equals(BYTES.subarray(offset, endOffset))).toBe(true)
  })

  it('begins at 0 where the primary ignores ranges', async () => {
    const { upstream } = await primary((_request, response) => response.end(BYTES))

    const blob = await upstream.getBlob(NAME, DIGEST, { ...ASK, startByte: 7, endByte: 8 })

    expect(blob).toMatchObject({ offset: 0, endOffset: BYTES.length })
    blob.body.destroy()
  })

  it('of no bytes at all is had although no range fits it', async () => {
    const { upstream, requests } = await primary(served(Buffer.alloc(0)))

    const blob = await upstream.getBlob(NAME, digestOf(Buffer.alloc(0)), { ...ASK, endByte: 0 })

    expect(blob).toMatchObject({ offset: 0, endOffset: 0, sizeBytes: 0 })
    expect(await buffer(blob.body)).toHaveLength(0)
    expect(requests).toHaveLength(2)
    await expect(upstream.getBlob(NAME, DIGEST, { ...ASK, startByte: 1 })).rejects.toMatchObject({
      kind: 'faulty',
    })
  })

  const part = { 'content-length': 5, 'content-range': 'bytes 5-9/20' }
  const lies: [string, RequestListener][] = [
    ['another range', (_, r) => r.writeHead(206, { ...part, 'content-range': 'bytes 4-8/20' }).end('aaaaa')],
    [
      'more than asked for',
      (_, r) => r.writeHead(206, { 'content-length': 6, 'content-range': 'bytes 5-10/20' }).end('aaaaaa'),
    ],
    [
      'a range and a length that differ',
      (_, r) => r.writeHead(206, { ...part, 'content-length': 4 }).end('aaaa'),
    ],
    ['206 without a range', (_, r) => r.writeHead(206, { 'content-length': 5 }).end('aaaaa')],
    ['an unknown size', (_, r) => r.writeHead(206, { ...part, 'content-range': 'bytes 5-9/*' }).end('aaaaa')],
    ['a 200 without a length', (_, r) => void r.writeHead(200).write('a', () => r.end())],
    [
      'a web page',
      (_, r) => r.writeHead(200, { 'content-length': 6, 'content-type': 'text/html' }).end('<html>'),
    ],
    ['gzip', (_, r) => r.writeHead(200, { 'content-length': 5, 'content-encoding': 'gzip' }).end('aaaaa')],
    [
      'another digest',
      (_, r) =>
        r
          .writeHead(200, { 'content-length': 5, 'docker-content-digest': digestOf(Buffer.from('x')) })
          .end('aaaaa'),
    ],
    ['an ingress speaking', (_, r) => r.writeHead(404).end('<html>')],
  ]
  it.each(lies)('is a fault of the primary when it comes with %s', async (_what, lie) => {
    const { upstream } = await primary(lie)

    await expect(upstream.getBlob(NAME, DIGEST, { ...ASK, startByte: 5, endByte: 9 })).rejects.toMatchObject({
      kind: 'faulty',
    })
  })

  it('in part, when nobody asked for a part, is a fault', async () => {
    const { upstream } = await primary((_request, response) => response.writeHead(206, part).end('aaaaa'))

    await expect(upstream.getBlob(NAME, DIGEST, ASK)).rejects.toMatchObject({ kind: 'faulty' })
  })

  it.each([
    ['keep-alive', {}],
    ['close', { connection: 'close' }],
  ])('that ends short errors as an outage, never ends cleanly (connection: %s)', async (_what, headers) => {
    const { upstream } = await primary((request, response) => {
      response.writeHead(200, { ...headers, 'content-length': BYTES.length })
      response.write(BYTES.subarray(0, 200_000), () => request.socket.end())
    })

    const { body } = await upstream.getBlob(NAME, DIGEST, ASK)

    await expect(buffer(body)).rejects.toMatchObject({ name: 'UpstreamError', kind: 'unavailable' })
  })

  it('that stops coming errors after the idle limit and not while its reader is the one who waits', async () => {
    const { upstream } = await primary(
      (_request, response) => {
        response.writeHead(200, { 'content-length': 1_000_000 })
        response.write(Buffer.alloc(900_000))
      },
      { timeouts: { bodyIdleMs: 300 } },
    )

    const { body } = await upstream.getBlob(NAME, DIGEST, ASK)
    await vi.waitFor(() => expect(body.readableLength).toBeGreaterThanOrEqual(64 * 1024))
    const pausedAt = performance.now()
    await vi.waitUntil(() => performance.now() - pausedAt > 700, { timeout: 2000 })

    expect(body.errored).toBe(null)
    await expect(buffer(body)).rejects.toMatchObject({ kind: 'unavailable', timedOut: true })
  })

  it('holds no more than a buffer for a reader that does not read', async () => {
    let sent = 0
    const { upstream } = await primary(async (_request, response) => {
      response.writeHead(200, { 'content-length': 256 * 1024 * 1024 })
      const piece = Buffer.alloc(1024 * 1024)
      while (!response.destroyed) {
        sent += piece.length
        if (!response.write(piece)) await Promise.race([once(response, 'drain'), once(response, 'close')])
      }
    })

    const { body } = await upstream.getBlob(NAME, DIGEST, ASK)
    let before = -1
    await vi.waitUntil(
      () => {
        const settled = sent === before && sent > 0
        before = sent
        return settled
      },
      { interval: 200, timeout: 5000 },
    )

    expect(body.readableLength).toBeLessThanOrEqual(128 * 1024)
    expect(sent).toBeLessThan(32 * 1024 * 1024) // What two sockets hold.
    body.destroy()
  })

  it.each(['signal', 'destroy'] as const)(
    'is no longer sent by the primary once its reader leaves (%s)',
    async (how) => {
      let closed = false
      const { upstream } = await primary((_request, response) => {
        response.on('close', () => (closed = true))
        response.writeHead(200, { 'content-length': 1_000_000 })
        response.write('a')
      })
      const leave = new AbortController()

      const { body } = await upstream.getBlob(NAME, DIGEST, { ...ASK, signal: leave.signal })
      if (how === 'destroy') body.destroy()
      else {
        leave.abort()
        await expect(buffer(body)).rejects.toMatchObject({ kind: 'aborted' })
      }

      await vi.waitFor(() => expect(closed).toBe(true))
    },
  )

  it('that nobody has asked the primary for yet is not asked for when the caller has gone', async () => {
    const { upstream, requests } = await primary(served(BYTES))

    await expect(
      upstream.getBlob(NAME, DIGEST, { ...ASK, signal: AbortSignal.abort() }),
    ).rejects.toMatchObject({
      kind: 'aborted',
    })
    expect(requests).toHaveLength(0)
  })

  it('leaves the connection for the next question when it was read to its end', async () => {
    const { upstream, requests } = await primary(served(BYTES))

    await drained((await upstream.getBlob(NAME, DIGEST, ASK)).body)
    await turn()
    await drained((await upstream.getBlob(NAME, DIGEST, ASK)).body)

    expect(requests[1]?.socket === requests[0]?.socket).toBe(true)
  })
})

async function drained(body: Readable): Promise<void> {
  body.resume()
  await once(body, 'close')
}

describe('confirming a blob', () => {
  it('costs one HEAD and tells the size', async () => {
    const { upstream, requests } = await primary(served(BYTES))

    expect(await upstream.confirmBlob(NAME, DIGEST, ASK)).toBe(BYTES.length)
    expect(requests.map(({ method }) => method)).toEqual(['HEAD'])
  })

  it.each([
    ['404', 404, {}],
    ['200 without a length', 200, { 'transfer-encoding': 'chunked' }],
    ['a redirect', 307, { location: '/elsewhere' }],
  ])('is settled by the first byte when the HEAD is answered %s', async (_what, status, headers) => {
    const { upstream, requests } = await primary((request, response) => {
      if (request.method === 'HEAD') response.writeHead(status, headers).end()
      else served(BYTES)(request, response)
    })

    expect(await upstream.confirmBlob(NAME, DIGEST, ASK)).toBe(BYTES.length)
    expect(requests.map(({ method, headers }) => [method, headers.range])).toEqual([
      ['HEAD', undefined],
      ['GET', 'bytes=0-0'],
    ])
    expect(requests[1]?.socket === requests[0]?.socket).toBe(true)
  })

  it('is absent by a GET that says so, and unknown by an ingress or a failing primary', async () => {
    let body = UNKNOWN
    const { upstream } = await primary((_request, response) => response.writeHead(404).end(body))
    await expect(upstream.confirmBlob(NAME, DIGEST, ASK)).rejects.toMatchObject({ kind: 'absent' })

    body = '<html>'
    await expect(upstream.confirmBlob(NAME, DIGEST, ASK)).rejects.toMatchObject({ kind: 'faulty' })
  })

  it.each([
    [401, 'unauthorized'],
    [403, 'denied'],
    [429, 'limited'],
    [500, 'unavailable'],
  ])('answered %i is %s', async (status, kind) => {
    const { upstream, requests } = await primary((_request, response) => response.writeHead(status).end())

    await expect(upstream.confirmBlob(NAME, DIGEST, ASK)).rejects.toMatchObject({ kind })
    expect(requests).toHaveLength(1)
  })
})
