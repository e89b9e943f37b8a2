/** The line between two sites behaves like a line: what the end-to-end tests and the benches measure rests on it. */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { type Link, startLink } from './link.ts'

const MIB = 1024 * 1024
/** The byte at an offset of what the sender sends: its place in a page of 251, so that a slip shows. */
const PATTERN = Buffer.from(Array.from({ length: 251 * 1024 }, (_, offset) => offset % 251))

let owned = new AsyncDisposableStack()
beforeEach(() => {
  owned = new AsyncDisposableStack()
})
afterEach(async () => {
  await owned.disposeAsync()
})

/** A server that sends `bytes` of the pattern to whoever says something, then ends; counts what it has sent. */
async function startSender(bytes: number): Promise<{ url: string; sent: () => number }> {
  let sent = 0
  const server = createServer((socket) => {
    socket.on('error', () => {}) // Reset by the tests.
    socket.once('data', () => {
      let left = bytes
      const fill = (): void => {
        while (left > 0) {
          const part = PATTERN.subarray(0, Math.min(left, PATTERN.length))
          left -= part.length
          sent += part.length
          if (!socket.write(part)) return void socket.once('drain', fill)
        }
        socket.end()
      }
      fill()
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  owned.defer(() => void server.close())
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, sent: () => sent }
}

interface Download {
  readonly socket: Socket
  readonly received: () => number
  readonly wrongAt: () => number | undefined
  readonly ended: Promise<'end' | 'reset'>
}

function download(link: Link): Download {
  const socket = connect(link.port, '127.0.0.1')
  owned.defer(() => void socket.destroy())
  let received = 0
  let wrongAt: number | undefined
  socket.on('data', (chunk: Buffer) => {
    for (let index = 0; index < chunk.length && wrongAt === undefined; index++) {
      if (chunk[index] !== (received + index) % 251) wrongAt = received + index
    }
    received += chunk.length
  })
  const ended = new Promise<'end' | 'reset'>((resolve) => {
    socket.once('end', () => resolve('end'))
    socket.once('error', () => resolve('reset'))
  })
  socket.write('go')
  return { socket, received: () => received, wrongAt: () => wrongAt, ended }
}

async function setUp(bytes: number, shape: Omit<Parameters<typeof startLink>[0], 'target'> = {}) {
  const sender = await startSender(bytes)
  const link = owned.use(await startLink({ target: sender.url, ...shape }))
  return { sender, link }
}

describe('link', () => {
  it('carries every byte in order and counts them each way', async () => {
    const { link } = await setUp(16 * MIB)

    const one = download(link)

    expect(await one.ended).toBe('end')
    expect([one.received(), one.wrongAt()]).toEqual([16 * MIB, undefined])
    expect(link.counts()).toMatchObject({ connections: 1, up: 2, down: 16 * MIB })
  })

  it('shares its rate over connections and keeps to it', async () => {
    const { link } = await setUp(8 * MIB, { bytesPerSecond: 40e6 })
    const startedAt = performance.now()

    const both = [download(link), download(link)]
    await Promise.all(both.map(({ ended }) => ended))

    const expectedMs = (16 * MIB) / 40e3
    expect(performance.now() - startedAt).toBeGreaterThan(expectedMs * 0.95)
    expect(performance.now() - startedAt).toBeLessThan(expectedMs * 10) // No tighter: the machine may be busy.
    expect(both.map((one) => [one.received(), one.wrongAt()])).toEqual([
      [8 * MIB, undefined],
      [8 * MIB, undefined],
    ])
  })

  it('adds latency without limiting throughput', async () => {
    const { link } = await setUp(32 * MIB, { latencyMs: 50 })
    const startedAt = performance.now()

    const one = download(link)
    await vi.waitFor(() => expect(one.received()).toBeGreaterThan(0), { timeout: 5000, interval: 1 })
    const firstByteMs = performance.now() - startedAt
    await one.ended

    expect(firstByteMs).toBeGreaterThan(199) // The handshake's round trip, then the request's.
    expect(one.wrongAt()).toBeUndefined()
    // A window of 64 KiB a round trip would take 51 s.
    expect(performance.now() - startedAt).toBeLessThan(5000)
  })

  it('holds little in memory for a client that does not read, and stops the sender', async () => {
    const { link, sender } = await setUp(256 * MIB, { bytesPerSecond: 1e9 })
    const one = download(link)
    one.socket.pause()

    await vi.waitFor(
      async () => {
        const before = sender.sent()
        await new Promise((resolve) => setTimeout(resolve, 200))
        expect(sender.sent()).toBe(before)
      },
      { timeout: 10_000 },
    )
    const stoppedAt = sender.sent()
    one.socket.resume()
    await one.ended

    expect(stoppedAt).toBeLessThan(64 * MIB) // What the kernel buffers of four sockets hold.
    expect([one.received(), one.wrongAt()]).toEqual([256 * MIB, undefined])
  })

  it('resets every connection when it is cut, and serves the next one', async () => {
    const { link } = await setUp(64 * MIB, { bytesPerSecond: 10e6 })
    const one = download(link)
    await vi.waitFor(() => expect(one.received()).toBeGreaterThan(0))

    link.cut()

    expect(await one.ended).toBe('reset')
    const next = download(link)
    await vi.waitFor(() => expect(next.received()).toBeGreaterThan(0))
  })

  it.each([
    ['reset', 'reset'],
    ['end', 'end'],
  ] as const)('cuts after exactly the bytes asked for (%s)', async (how, seen) => {
    const { link } = await setUp(4 * MIB)
    link.cutAfter(1_000_003, { how })

    const one = download(link)

    expect(await one.ended).toBe(seen)
    expect([one.received(), one.wrongAt()]).toEqual([1_000_003, undefined])
    const next = download(link)
    expect(await next.ended).toBe('end')
    expect(next.received()).toBe(4 * MIB)
  })

  it('spoils the one byte it was told to', async () => {
    const { link } = await setUp(4 * MIB, { latencyMs: 1 })
    link.corrupt(1_234_567)

    const one = download(link)
    await one.ended

    expect([one.received(), one.wrongAt()]).toEqual([4 * MIB, 1_234_567])
  })

  it('loses nothing over a stall', async () => {
    const { link } = await setUp(8 * MIB, { bytesPerSecond: 20e6, latencyMs: 5 })
    const one = download(link)
    await vi.waitFor(() => expect(one.received()).toBeGreaterThan(0))

    link.stall()
    const { down } = link.counts()
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(link.counts().down).toBe(down)
    link.resume()

    expect(await one.ended).toBe('end')
    expect([one.received(), one.wrongAt()]).toEqual([8 * MIB, undefined])
  })

  it('swallows what it is sent as a black hole, and resets those connections afterwards', async () => {
    const { link, sender } = await setUp(MIB)
    link.blackhole()

    const one = download(link)
    await vi.waitFor(() => expect(link.counts().open).toBe(1))
    expect(sender.sent()).toBe(0)
    link.resume()

    expect(await one.ended).toBe('reset')
    expect(await download(link).ended).toBe('end')
  })

  it('refuses connections until it accepts again on the same port', async () => {
    const { link } = await setUp(MIB)

    link.refuse()
    expect(await download(link).ended).toBe('reset')
    await link.accept()

    expect(await download(link).ended).toBe('end')
  })

  it('tells the client when the target is not there', async () => {
    const link = owned.use(await startLink({ target: 'http://127.0.0.1:1' }))

    expect(await download(link).ended).toBe('reset')
  })
})
