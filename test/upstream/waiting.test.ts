import type { Socket } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { parseRepositoryName, parseTag, type Reference } from '../../src/oci/reference.ts'
import { clientOf, type HttpPrimary, httpPrimary, releasers, tcpPrimary } from './primary.ts'

const NAME = parseRepositoryName('group/app') ?? expect.unreachable()
const TAG: Reference = { kind: 'tag', tag: parseTag('latest') ?? expect.unreachable() }
const DIGEST: Digest = digestOf(Buffer.from('x'))
const ASK = { credential: { kind: 'caller', authorization: undefined } } as const
const CHECK = { ...ASK, heldDigest: DIGEST, check: true }

const owed = releasers()
afterEach(() => owed.release())

function client(origin: string, options: Parameters<typeof clientOf>[1] = {}) {
  const made = clientOf(origin, options)
  owed.add(made.dispatcher.close)
  return made
}

async function talking(talk: (socket: Socket) => void) {
  const primary = await tcpPrimary(talk)
  owed.add(primary.close)
  return primary
}

/** Repeats a piece until the other side has had enough. */
function flood(socket: Socket, piece: string): void {
  const more = () => {
    while (!socket.destroyed && socket.write(piece));
  }
  socket.on('drain', more)
  more()
}

async function took(run: () => Promise<unknown>): Promise<{ ms: number; error: unknown }> {
  const startedAt = performance.now()
  const error = await run().catch((caught: unknown) => caught)
  return { ms: performance.now() - startedAt, error }
}

describe('waiting for the primary', () => {
  it('ends a tag check on a warm connection within 900 ms, and well within a second, when nothing answers', async () => {
    const primary: HttpPrimary = await httpPrimary((_request, response) => {
      if (primary.requests.length === 1) response.writeHead(401).end()
    })
    owed.add(primary.close)
    const { upstream, dispatcher } = client(primary.origin)
    await dispatcher.ping()

    const { ms, error } = await took(() => upstream.getManifest(NAME, TAG, CHECK))

    expect(error).toMatchObject({ kind: 'unavailable', timedOut: true, unreachable: false })
    expect(ms).toBeGreaterThan(850)
    expect(ms).toBeLessThan(1000)
    expect(primary.requests[1]?.socket === primary.requests[0]?.socket).toBe(true)
  })

  it('does not take a held tag for lost while a long answer to something else is coming', async () => {
    const primary = await httpPrimary((request, response) => {
      if (request.url?.includes('/blobs/')) response.writeHead(200, { 'content-length': 10 }).write('a')
      else response.writeHead(304).end()
    })
    owed.add(primary.close)
    const { upstream } = client(primary.origin)
    const blob = await upstream.getBlob(NAME, DIGEST, ASK)

    expect(await upstream.getManifest(NAME, TAG, CHECK)).toBe('not-modified')
    blob.body.destroy()
  })

  it('knows at once that nobody listens', async () => {
    const gone = await httpPrimary(() => {})
    await gone.close()
    const { upstream, reports } = client(gone.origin)

    const { ms, error } = await took(() => upstream.getBlob(NAME, DIGEST, ASK))

    expect(error).toMatchObject({ kind: 'unavailable', unreachable: true, timedOut: false })
    expect(ms).toBeLessThan(500)
    expect(reports.failed).toEqual([['blob', error]])
  })

  it('knows that the name leads nowhere', async () => {
    const { upstream } = client('http://registry.invalid')

    await expect(upstream.getManifest(NAME, TAG, CHECK)).rejects.toMatchObject({
      kind: 'unavailable',
      unreachable: true,
    })
  })

  it('gives up on a connection that never opens after the connect limit', async () => {
    // TLS to a server that accepts and says nothing.
    const primary = await talking(() => {})
    const { upstream } = client(primary.origin.replace('http:', 'https:'), { timeouts: { connectMs: 300 } })

    const { ms, error } = await took(() => upstream.getManifest(NAME, TAG, ASK))

    expect(error).toMatchObject({ kind: 'unavailable', timedOut: true })
    expect(ms).toBeLessThan(1000)
  })

  it('asks once more when a kept connection was closed under the question, and only then', async () => {
    let connections = 0
    const primary = await talking((socket) => {
      const mine = ++connections
      let asked = 0
      socket.on('data', () => {
        if (mine === 1 && ++asked === 2) socket.destroy()
        else socket.write('HTTP/1.1 304 Not Modified\r\n\r\n')
      })
    })
    const { upstream } = client(primary.origin)

    expect(await upstream.getManifest(NAME, TAG, CHECK)).toBe('not-modified')
    await new Promise(setImmediate)
    expect(await upstream.getManifest(NAME, TAG, CHECK)).toBe('not-modified')
    expect(connections).toBe(2)
  })

  it('asks no third time where every connection is closed', async () => {
    let connections = 0
    const primary = await talking((socket) => {
      connections++
      socket.on('data', () => socket.destroy())
    })

    await expect(client(primary.origin).upstream.getManifest(NAME, TAG, CHECK)).rejects.toMatchObject({
      kind: 'unavailable',
      timedOut: false,
    })
    expect(connections).toBe(2)
  })

  const endless: [string, (socket: Socket) => void, string][] = [
    ['one header without end', (socket) => flood(socket, 'a'.repeat(65_536)), 'faulty'],
    ['headers without end', (socket) => flood(socket, `x: ${'a'.repeat(1000)}\r\n`), 'faulty'],
    ['a flood of tiny headers', (socket) => flood(socket, 'a:b\r\n'.repeat(10_000)), 'faulty'],
  ]
  it.each(endless)('cuts %s short', async (_what, lie, kind) => {
    const primary = await talking((socket) => {
      socket.once('data', () => {
        socket.write('HTTP/1.1 200 OK\r\nx: ')
        lie(socket)
      })
    })

    const { ms, error } = await took(() => client(primary.origin).upstream.getManifest(NAME, TAG, ASK))

    expect(error).toMatchObject({ kind })
    expect(ms).toBeLessThan(5000)
    await vi.waitFor(() => expect(primary.sockets.size).toBe(0))
  })

  it('is not put off by hints that go on for ever', async () => {
    const primary = await talking((socket) => {
      const hint = setInterval(() => socket.write('HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n'), 20)
      socket.on('close', () => clearInterval(hint))
    })
    const { upstream } = client(primary.origin, { timeouts: { headMs: 300 } })

    const { ms, error } = await took(() => upstream.getManifest(NAME, TAG, ASK))

    expect(error).toMatchObject({ kind: 'unavailable', timedOut: true })
    expect(ms).toBeLessThan(1500)
  })

  it.each(['220 smtp.example.com ESMTP\r\n', '\u0000\u0001\u0002', 'HTTP/1.1 200 OK\r\nbad header\r\n\r\n'])(
    'takes %j for a fault of the primary',
    async (words) => {
      const primary = await talking((socket) => socket.on('data', () => socket.write(words)))

      await expect(client(primary.origin).upstream.getManifest(NAME, TAG, ASK)).rejects.toMatchObject({
        kind: 'faulty',
      })
    },
  )

  it('ends a manifest that drips, however steadily', async () => {
    const primary = await httpPrimary((_request, response) => {
      response.writeHead(200, { 'content-length': 1_000_000 })
      const drip = setInterval(() => response.write(' '), 20)
      response.on('close', () => clearInterval(drip))
    })
    owed.add(primary.close)
    const { upstream } = client(primary.origin, { timeouts: { headMs: 400 } })

    await expect(upstream.getManifest(NAME, TAG, ASK)).rejects.toMatchObject({
      kind: 'unavailable',
      timedOut: true,
    })
  })

  it('reads no more of an error body than it needs, and waits for none', async () => {
    const primary = await talking((socket) => {
      socket.once('data', () => {
        socket.write('HTTP/1.1 404 Not Found\r\n\r\n')
        flood(socket, '{"errors":'.repeat(1000))
      })
    })

    await expect(client(primary.origin).upstream.getBlob(NAME, DIGEST, ASK)).rejects.toMatchObject({
      kind: 'faulty',
      status: 404,
      body: undefined,
    })
    await vi.waitFor(() => expect(primary.sockets.size).toBe(0))
  })

  it('ends when the caller leaves, also while an error body is awaited', async () => {
    const leave = new AbortController()
    const primary = await talking((socket) => {
      socket.on('data', () => {
        socket.write('HTTP/1.1 404 Not Found\r\ncontent-length: 99\r\n\r\n{')
        setTimeout(() => leave.abort(), 100)
      })
    })

    const ask = client(primary.origin).upstream.getBlob(NAME, DIGEST, { ...ASK, signal: leave.signal })

    await expect(ask).rejects.toMatchObject({ kind: 'aborted' })
    await vi.waitFor(() => expect(primary.sockets.size).toBe(0))
  })

  it('survives a connection that breaks in the very moment of the answer, unread', async () => {
    const primary = await talking((socket) => {
      socket.on('data', () =>
        socket.write('HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n1', () => socket.resetAndDestroy()),
      )
    })
    const { upstream } = client(primary.origin)

    for (let turn = 0; turn < 20; turn++) {
      const outcome = await upstream
        .getBlob(NAME, DIGEST, ASK)
        .then(({ body }) => buffer(body))
        .catch((error) => error)
      expect(outcome).toMatchObject({ kind: 'unavailable' })
    }
  })
})
