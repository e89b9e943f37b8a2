import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import pino from 'pino'
import { afterEach, describe, expect, it } from 'vitest'
import type { App } from '../../proxy/app.ts'
import { createBodySender } from '../../proxy/body.ts'
import { createClientQuota } from '../../proxy/client-quota.ts'
import { answer, writeHead } from '../../proxy/exchange.ts'
import { type Listener, type ListenerOptions, startListener } from '../../proxy/listener.ts'
import { createMetrics } from '../../src/metrics.ts'
import { OciError } from '../../src/oci/errors.ts'
import { until } from '../support/wait.ts'

let stack = new AsyncDisposableStack()
afterEach(async () => {
  await stack.disposeAsync()
  stack = new AsyncDisposableStack()
})

async function serve(app: App, options: Partial<ListenerOptions> & { connections?: number } = {}) {
  const lines: Record<string, unknown>[] = []
  const log = pino({ base: null }, { write: (line) => void lines.push(JSON.parse(line)) })
  const metrics = createMetrics()
  const listener: Listener = await startListener(
    {
      app,
      log,
      metrics,
      quota: createClientQuota('connections', options.connections ?? 100, metrics),
      challenge: () => new OciError('UNAUTHORIZED'),
    },
    { host: '127.0.0.1', port: 0, trustedProxies: [], ...options },
  )
  const deadline = new AbortController()
  stack.defer(async () => {
    deadline.abort()
    await listener.close(deadline.signal)
  })
  return {
    url: `http://127.0.0.1:${listener.address.port}`,
    port: listener.address.port,
    listener,
    lines,
    metrics,
  }
}

describe('the public listener', () => {
  it('answers an error nobody foresaw with 500 in the words of the specification, and logs it once', async () => {
    const { url, lines } = await serve(async () => {
      throw new Error('secret detail')
    })
    const response = await fetch(`${url}/v2/`)

    expect(response.status).toBe(500)
    expect(await response.text()).toMatch(/"UNKNOWN"/)
    await until(() => lines.length === 2, { what: 'the failure and the access line' })
    expect(JSON.stringify(lines[1])).not.toContain('secret detail')
  })

  it('cuts the connection when it fails after the head has left', async () => {
    const { url } = await serve(async (exchange) => {
      writeHead(exchange, 200, { 'content-length': '100' })
      exchange.response.write('half')
      throw new Error('the source broke')
    })
    const response = await fetch(`${url}/v2/`)

    expect(response.status).toBe(200)
    await expect(response.text()).rejects.toThrow()
  })

  it('repeats a sane request id, makes one otherwise, and logs it with GitLab’s names and without the query', async () => {
    const { url, lines } = await serve(async (exchange) => answer(exchange, 200, {}, 'ok'))
    const kept = await fetch(`${url}/v2/?_state=secret`, {
      headers: { 'x-request-id': 'abc-1', 'user-agent': 'me/1' },
    })
    const made = await fetch(`${url}/v2/`, { headers: { 'x-request-id': 'x'.repeat(200) } })

    expect(kept.headers.get('x-request-id')).toBe('abc-1')
    expect(made.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/)
    await until(() => lines.length === 2, { what: 'both access lines' })
    expect(lines[0]).toMatchObject({
      correlation_id: 'abc-1',
      method: 'GET',
      status: 200,
      system: 'http',
      uri: '/v2/?…',
      user_agent: 'me/1',
      written_bytes: 2,
      msg: 'access',
    })
    expect(JSON.stringify(lines)).not.toContain('secret')
  })

  it('tells one client that has too many requests under way to wait, and counts it', async () => {
    const gate = Promise.withResolvers<void>()
    const { url, metrics } = await serve(
      async (exchange) => {
        await gate.promise
        answer(exchange, 200, {}, 'ok')
      },
      { connections: 1 },
    )
    const first = fetch(`${url}/v2/`)
    await until(async () => (await metrics.httpInFlight.get()).values.some(({ value }) => value === 1), {
      what: 'the first to be under way',
    })
    const second = await fetch(`${url}/v2/`)
    gate.resolve()

    expect([second.status, second.headers.get('retry-after')]).toEqual([429, '5'])
    expect((await first).status).toBe(200)
    expect((await fetch(`${url}/v2/`)).status).toBe(200)
  })

  it('tells the handler when its client has gone', async () => {
    const seen = Promise.withResolvers<AbortSignal>()
    const { port } = await serve((exchange) => {
      seen.resolve(exchange.signal)
      return new Promise(() => undefined)
    })
    const socket = connect(port, '127.0.0.1')
    socket.write('GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n')
    const signal = await seen.promise
    socket.destroy()

    await until(() => signal.aborted, { what: 'the signal' })
  })

  it('finishes what is in flight before it closes, and takes no more', async () => {
    const gate = Promise.withResolvers<void>()
    const started = Promise.withResolvers<void>()
    const { url, listener } = await serve(async (exchange) => {
      started.resolve()
      await gate.promise
      answer(exchange, 200, {}, 'ok')
    })
    const inFlight = fetch(`${url}/v2/`)
    await started.promise
    const closed = listener.close(new AbortController().signal)
    await expect(fetch(`${url}/v2/`)).rejects.toThrow()
    gate.resolve()

    expect(await (await inFlight).text()).toBe('ok')
    await closed
  })

  it.each([
    ['a header flood', `GET /v2/ HTTP/1.1\r\nhost: x\r\n${'a: b\r\n'.repeat(20_000)}\r\n`, '431'],
    ['a request that is none', 'NONSENSE\r\n\r\n', '400'],
    [
      'two lengths that differ',
      'POST /v2/ HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello',
      '400',
    ],
    [
      'a length beside chunks',
      'POST /v2/ HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n',
      '400',
    ],
  ])('refuses %s and hangs up', async (_title, bytes, status) => {
    const { port } = await serve(async (exchange) => answer(exchange, 200, {}, 'ok'))
    const socket = connect(port, '127.0.0.1')
    socket.write(bytes)

    expect(await text(socket)).toMatch(new RegExp(`^HTTP/1.1 ${status}`))
  })
})

describe('blob bodies', () => {
  const zeros = {
    read: async (buffer: Buffer, length: number) => buffer.fill(0, 0, length).subarray(0, length).length,
  }

  it('reach a client whole, across small and large buffers', async () => {
    const body = createBodySender()
    stack.defer(() => body.close())
    const sizeBytes = 5_000_001
    const { url } = await serve(async (exchange) => {
      writeHead(exchange, 200, { 'content-length': String(sizeBytes) })
      await body.send(exchange, zeros, 0, sizeBytes)
      exchange.response.end()
    })

    expect((await (await fetch(`${url}/v2/`)).arrayBuffer()).byteLength).toBe(sizeBytes)
  })

  it('are cut for a client that takes no byte within the idle time, without hurting another', async () => {
    const body = createBodySender({ idleTimeoutMs: 2000, largePairs: 1 })
    stack.defer(() => body.close())
    const failures: unknown[] = []
    const { url, port } = await serve(async (exchange) => {
      const sizeBytes = 50_000_000
      writeHead(exchange, 200, { 'content-length': String(sizeBytes) })
      await body.send(exchange, zeros, 0, sizeBytes).catch((error: unknown) => {
        failures.push(error)
        throw error
      })
      exchange.response.end()
    })
    const stalled = connect(port, '127.0.0.1').pause()
    stalled.on('error', () => undefined)
    stalled.write('GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n')
    const other = await (await fetch(`${url}/v2/`)).arrayBuffer()

    expect(other.byteLength).toBe(50_000_000)
    await until(() => failures.length === 1, { what: 'the stalled client to be cut' })
    stalled.destroy()
  })

  it('are cut, never ended cleanly, when their source ends early', async () => {
    const body = createBodySender()
    stack.defer(() => body.close())
    const { url } = await serve(async (exchange) => {
      writeHead(exchange, 200, { 'content-length': '100' })
      await body.send(exchange, { read: async () => 0 }, 0, 100)
    })

    await expect(fetch(`${url}/v2/`).then((response) => response.text())).rejects.toThrow()
  })

  // Node drops what is written between the end of a connection and its word of it, callback and all.
  it.each([
    ['from a source', zeros],
    ['from memory', { bytes: Buffer.alloc(5_000_000) }],
  ])('%s end with a client that leaves at any moment', async (_, source) => {
    const body = createBodySender()
    stack.defer(() => body.close())
    const failures: unknown[] = []
    const { url } = await serve(async (exchange) => {
      const { socket } = exchange.response
      const leaving =
        'bytes' in source
          ? source
          : {
              read: async (buffer: Buffer, length: number) => {
                if (exchange.writtenBytes > 1_000_000) {
                  await until(() => socket?.writableLength === 0, {
                    what: 'the client to have it all',
                    everyMs: 1,
                  })
                  socket?.destroy()
                }
                return await source.read(buffer, length)
              },
            }
      writeHead(exchange, 200, { 'content-length': '5000000' })
      exchange.response.flushHeaders()
      if ('bytes' in source) socket?.destroy()
      await body.send(exchange, leaving, 0, 5_000_000).catch((error: unknown) => {
        failures.push(error)
        throw error
      })
    })

    await expect(fetch(`${url}/v2/`).then((response) => response.text())).rejects.toThrow()
    await until(() => failures.length === 1, { what: 'the sender to know that the client has left' })
    expect(failures).toMatchObject([{ kind: 'aborted' }])
  })
})
