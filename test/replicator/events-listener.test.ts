import { once } from 'node:events'
import { Agent, type Dispatcher, request } from 'undici'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import {
  type EventsListenerOptions,
  type Refusal,
  startEventsListener,
} from '../../replicator/events-listener.ts'
import type { Notice } from '../../replicator/notification.ts'
import type { HttpListener } from '../../src/http-listener.ts'
import { createLogger } from '../../src/log.ts'
import { createMetrics, type Metrics } from '../../src/metrics.ts'
import { openRaw } from '../e2e/raw-http.ts'
import { until } from '../support/wait.ts'

const SECRET = 'aTwenty-characters_secret'
const V1 = 'application/vnd.docker.distribution.events.v1+json'
const ENVELOPE = JSON.stringify({
  events: [{ id: 'e1', action: 'push', target: { repository: 'team/app', tag: 'v1' } }, { action: 'pull' }],
})

let accepted: Notice[]
let accept: (notices: readonly Notice[]) => Promise<void>
let logged: string[]
let refused: Refusal[]
let metrics: Metrics
let secret: string | undefined
let open: AsyncDisposableStack
let agent: Agent
beforeEach(() => {
  accepted = []
  accept = async (notices) => void accepted.push(...notices)
  logged = []
  refused = []
  metrics = createMetrics()
  secret = SECRET
  open = new AsyncDisposableStack()
  agent = open.adopt(new Agent(), (made) => made.destroy())
})
afterEach(() => open.disposeAsync())

async function start(options: Partial<EventsListenerOptions> = {}): Promise<HttpListener> {
  const log = createLogger({ destination: { write: (line) => void logged.push(line) } })
  const listener = await startEventsListener(
    {
      accept: ({ notices }) => accept(notices),
      onRefused: (result) => void refused.push(result),
      log,
      metrics,
    },
    { host: '127.0.0.1', port: 0, secret: () => secret, ...options },
  )
  return open.use(listener)
}

type Post = Partial<Pick<Dispatcher.RequestOptions, 'method' | 'body'>> & {
  readonly headers?: Readonly<Record<string, string>>
  readonly path?: string
}

async function post({ address }: HttpListener, { headers, path, ...rest }: Post = {}) {
  const answer = await request(`http://127.0.0.1:${address.port}${path ?? '/notifications'}`, {
    method: 'POST',
    body: ENVELOPE,
    headers: { 'content-type': V1, authorization: SECRET, ...headers },
    dispatcher: agent,
    ...rest,
  })
  return { status: answer.statusCode, headers: answer.headers, body: await answer.body.text() }
}

const counted = async (result: string) => {
  const { values } = await metrics.notifications.get()
  return values.find(({ labels }) => labels.result === result)?.value ?? 0
}

/** The head of a request, as it stands on the wire; it announces nothing about its body unless told to. */
const head = (...headers: string[]) =>
  [
    'POST /notifications HTTP/1.1',
    'host: x',
    `authorization: ${SECRET}`,
    `content-type: ${V1}`,
    ...headers,
    '',
    '',
  ].join('\r\n')

describe('a notification', () => {
  it.each([
    V1,
    'application/vnd.docker.distribution.events.v2+json',
    'application/json',
    'application/json; charset=utf-8',
    'Application/JSON ;charset=UTF-8',
  ])('of type %s is accepted with 204 and no body', async (type) => {
    const listener = await start()

    const answer = await post(listener, { headers: { 'content-type': type } })

    expect([answer.status, answer.body]).toEqual([204, ''])
    expect(accepted).toMatchObject([{ id: 'e1', repository: 'team/app', tag: 'v1' }])
    expect(await counted('accepted')).toBe(1)
    expect(await metrics.registry.getSingleMetricAsString('geo_registry_events_ignored_total')).toContain(
      '{reason="pull"} 1',
    )
  })

  it('is answered once it is accepted and not before', async () => {
    const { promise: stored, resolve } = Promise.withResolvers<void>()
    accept = () => stored
    const listener = await start()
    let status: number | undefined
    const answered = post(listener).then((answer) => {
      status = answer.status
    })
    const asked = await post(listener, { path: '/elsewhere' })

    expect([asked.status, status]).toEqual([404, undefined])
    resolve()
    await answered
    expect(status).toBe(204)
  })

  it('leaves its connection open for the next one', async () => {
    const { address } = await start()
    await using connection = await openRaw(address.port)
    const message = `${head(`content-length: ${Buffer.byteLength(ENVELOPE)}`)}${ENVELOPE}`

    for (const count of [1, 2, 3]) {
      connection.socket.write(message)
      await until(() => connection.statuses().length === count, { what: `answer ${count}` })
    }

    expect(connection.statuses()).toEqual([204, 204, 204])
    expect(connection.received()).not.toMatch(/connection: close|content-length/i)
  })

  it('that cannot be stored is answered 503, so that it comes again, and the log says why', async () => {
    accept = () => Promise.reject(new Error('no space left'))
    const listener = await start()

    const answer = await post(listener)

    expect([answer.status, answer.headers['retry-after']]).toEqual([503, '1'])
    expect(answer.body).not.toContain('no space left')
    expect(logged.join()).toContain('no space left')
    expect([await counted('unavailable'), await counted('accepted')]).toEqual([1, 0])
  })
})

describe('who may post', () => {
  it.each([
    ['nothing', {}],
    ['another secret', { authorization: 'b'.repeat(SECRET.length) }],
    ['a scheme before it', { authorization: `Bearer ${SECRET}` }],
    ['its beginning', { authorization: SECRET.slice(0, -1) }],
    ['more than it', { authorization: `${SECRET}x` }],
    ['another case', { authorization: SECRET.toUpperCase() }],
    ['it elsewhere', { 'x-secret': SECRET }],
  ])('is nobody who sends %s: 401, counted, logged without the secret', async (_name, headers) => {
    const listener = await start()

    const answer = await request(`http://127.0.0.1:${listener.address.port}/notifications`, {
      method: 'POST',
      headers: { 'content-type': V1, ...headers },
      body: ENVELOPE,
      dispatcher: agent,
    })

    expect(answer.statusCode).toBe(401)
    expect(accepted).toEqual([])
    expect(await counted('unauthorized')).toBe(1)
    expect(logged.join()).toContain('notification refused')
    expect(logged.join().toLowerCase()).not.toContain(SECRET.slice(1, -1).toLowerCase())
    expect(await answer.body.text()).not.toContain(SECRET.slice(1, -1))
  })

  it('is whoever knows the secret as it is now', async () => {
    const listener = await start()
    secret = 'another'

    expect((await post(listener)).status).toBe(401)
    expect((await post(listener, { headers: { authorization: 'another' } })).status).toBe(204)
  })

  it('is everybody where no secret is set', async () => {
    secret = undefined
    const listener = await start()

    expect((await post(listener, { headers: { authorization: 'anything' } })).status).toBe(204)
  })

  it('is decided by bytes, whatever language the secret is in', async () => {
    secret = 'schlüssel-鍵'
    const listener = await start()
    const onTheWire = Buffer.from(secret).toString('latin1')

    expect((await post(listener, { headers: { authorization: onTheWire } })).status).toBe(204)
    expect((await post(listener, { headers: { authorization: 'schlüssel-?' } })).status).toBe(401)
  })
})

describe('what is refused', () => {
  it.each([
    'text/plain',
    '',
    'application/jsonx',
    'multipart/form-data',
    'application/vnd.docker.distribution.events.v3',
  ])('is the type %j, with 415', async (type) => {
    const listener = await start()

    expect((await post(listener, { headers: { 'content-type': type } })).status).toBe(415)
    expect([accepted, await counted('media_type')]).toEqual([[], 1])
  })

  it.each(['', 'not json', '{"events":7}', '[]', '{"events":['])(
    'is the body %j, with 400 and what was expected',
    async (body) => {
      const listener = await start()

      const answer = await post(listener, { body })

      expect(answer.status).toBe(400)
      expect(answer.body).toContain('expected')
      expect([accepted, await counted('malformed')]).toEqual([[], 1])
    },
  )

  it.each([
    ['GET', '/notifications', 405],
    ['PUT', '/notifications', 405],
    ['HEAD', '/notifications', 405],
    ['POST', '/', 404],
    ['POST', '/notifications/', 404],
    ['POST', '/v2/', 404],
    ['GET', '/metrics', 404],
  ] as const)('is %s %s, with %i', async (method, path, status) => {
    const listener = await start()

    const answer = await post(listener, {
      method,
      path,
      body: method === 'GET' || method === 'HEAD' ? null : ENVELOPE,
    })

    expect(answer.status).toBe(status)
    expect(accepted).toEqual([])
    expect((await counted('path')) + (await counted('method'))).toBe(1)
  })

  it('makes nobody believe that an event was refused, as long as it comes without the secret', async () => {
    const listener = await start()
    const headers = { authorization: 'guessed' }
    for (const [method, path] of [
      ['GET', '/notifications'],
      ['PUT', '/notifications'],
      ['POST', '/notifications'],
      ['POST', '/'],
    ] as const) {
      await post(listener, { method, path, headers, ...(method === 'GET' && { body: null }) })
    }
    expect(refused).toEqual([])

    await post(listener, { body: 'not json' })
    expect(refused).toEqual(['malformed'])
  })

  it('is a body announced as too large, before any of it is sent', async () => {
    const { address } = await start()
    await using connection = await openRaw(address.port)

    connection.socket.write(head(`content-length: ${100 * 1024 * 1024}`))

    await until(() => connection.isClosed, { what: 'the connection to be closed' })
    expect(connection.statuses()).toEqual([413])
    expect(await counted('too_large')).toBe(1)
  })

  it('is a body in chunks that grows too large, without reading on', async () => {
    const { address } = await start()
    await using connection = await openRaw(address.port)
    const chunk = `10000\r\n${'x'.repeat(0x10000)}\r\n`
    connection.socket.write(head('transfer-encoding: chunked'))

    let sent = 0
    while (connection.statuses().length === 0) {
      if (connection.socket.write(chunk)) sent += 0x10000
      else await Promise.race([once(connection.socket, 'drain'), once(connection.socket, 'data')])
      await new Promise(setImmediate)
      expect(sent).toBeLessThan(32 * 1024 * 1024)
    }

    expect(connection.statuses()).toEqual([413])
    await until(() => connection.isClosed, { what: 'the connection to be closed' })
    expect([accepted, await counted('too_large')]).toEqual([[], 1])
  })

  it('is nothing of exactly the limit', async () => {
    const listener = await start()
    const padded = (length: number) => ENVELOPE.padEnd(length, ' ')

    expect((await post(listener, { body: padded(16 * 1024 * 1024) })).status).toBe(204)
    expect((await post(listener, { body: padded(16 * 1024 * 1024 + 1) })).status).toBe(413)
  })

  it('is what comes too fast, with 429, and a flood without the secret takes nothing of the allowance', async () => {
    const listener = await start({ burst: 2, requestsPerSecond: 0.001 })
    for (let index = 0; index < 20; index++) {
      expect((await post(listener, { headers: { authorization: 'wrong' } })).status).toBe(401)
    }

    const statuses = [await post(listener), await post(listener), await post(listener)].map(
      ({ status }) => status,
    )

    expect(statuses).toEqual([204, 204, 429])
    expect(await counted('limited')).toBe(1)
  })

  it('is taken again when time has passed', async () => {
    const listener = await start({ burst: 1, requestsPerSecond: 20 })
    expect((await post(listener)).status).toBe(204)

    await vi.waitFor(async () => expect((await post(listener)).status).toBe(204), { timeout: 5000 })
  })
})

describe('a sender that does not behave', () => {
  it('is cut when its request takes too long to arrive', async () => {
    const { address } = await start({ requestTimeoutMs: 100 })
    await using headless = await openRaw(address.port)
    await using bodiless = await openRaw(address.port)
    headless.socket.write('POST /notifications HTTP/1.1\r\nhost: x\r\n')
    bodiless.socket.write(`${head('content-length: 100')}{`)

    await until(() => headless.isClosed && bodiless.isClosed, { what: 'both connections to be closed' })

    expect(headless.statuses()).toEqual([408])
    expect(accepted).toEqual([])
  })

  it('and leaves in the middle of a body has sent nothing', async () => {
    const { address } = await start()
    await using connection = await openRaw(address.port)
    connection.socket.write(`${head('content-length: 1000')}${ENVELOPE}`)
    await until(() => connection.socket.bytesWritten > 100, { what: 'bytes to be sent' })

    connection.socket.end()

    await vi.waitFor(async () => expect(await counted('aborted')).toBe(1))
    expect(accepted).toEqual([])
  })

  it('does not hold up the end of the listener', async () => {
    let calls = 0
    accept = () => {
      calls += 1
      return new Promise<void>(() => {})
    }
    const listener = await start()
    await using connection = await openRaw(listener.address.port)
    await using idle = await openRaw(listener.address.port)
    connection.socket.write(`${head(`content-length: ${ENVELOPE.length}`)}${ENVELOPE}`)
    await until(() => calls === 1, { what: 'the notification to be read' })
    idle.socket.write('POST')

    const before = performance.now()
    await listener[Symbol.asyncDispose]()

    expect(performance.now() - before).toBeLessThan(5000)
    await until(() => connection.isClosed && idle.isClosed, { what: 'both connections to be closed' })
  })
})

it('cannot listen where another does, and says so', async () => {
  const { address } = await start()

  await expect(start({ port: address.port })).rejects.toThrow(/EADDRINUSE/)
})

it('shows no fault of its own to the sender, and shows it in the log', async () => {
  const listener = await start({ secret: vi.fn().mockThrow(new Error('the secret cannot be read')) })

  const answer = await post(listener)

  expect([answer.status, answer.body.includes('secret')]).toEqual([500, false])
  expect(logged.join()).toContain('the secret cannot be read')
})

it('takes a fault of its own, once the whole body has come, for no abort of the sender', async () => {
  vi.spyOn(metrics.eventsIgnored, 'inc').mockThrow(new Error('no count'))

  expect((await post(await start())).status).toBe(500)
  expect([await counted('failed'), await counted('aborted')]).toEqual([1, 0])
})
