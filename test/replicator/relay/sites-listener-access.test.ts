/** Who may ask, how often and how, and what becomes of those who do not behave. */
import { once } from 'node:events'
import { request as httpsRequest } from 'node:https'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openRaw, rawRequest } from '../../e2e/raw-http.ts'
import { signingKey } from '../../support/keys.ts'
import { until } from '../../support/wait.ts'
import { type ListeningRelay, startListeningRelay, TOKENS } from './listening-relay.ts'
import { noticeOf } from './log-fixture.ts'

let owned: AsyncDisposableStack
beforeEach(() => {
  owned = new AsyncDisposableStack()
})
afterEach(() => owned.disposeAsync())

const start = async (...args: Parameters<typeof startListeningRelay>): Promise<ListeningRelay> =>
  owned.use(await startListeningRelay(...args))

const bearer = (token: string) => ({ authorization: `Bearer ${token}` })

/** Also those that follow a body without a line's end. */
const statusesIn = (text: string) => [...text.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => status)

const siteOf = ({ listener }: ListeningRelay) => listener.sites()[0]

describe('a token', () => {
  it.each([
    ['none', {}],
    ['an empty one', { authorization: 'Bearer ' }],
    ['another', bearer('token-of-nobody')],
    ['its beginning', bearer(TOKENS.berlin.slice(0, -1))],
    ['more than it', bearer(`${TOKENS.berlin}x`)],
    ['another case', bearer(TOKENS.berlin.toUpperCase())],
    ['without its scheme', { authorization: TOKENS.berlin }],
    ['in Basic', { authorization: `Basic ${Buffer.from(`berlin:${TOKENS.berlin}`).toString('base64')}` }],
    ['two of them', bearer(`${TOKENS.berlin} ${TOKENS.oslo}`)],
  ])(
    '(%s) gets 401, a sentence, and nothing of the log',
    async (_name, { authorization = '' }: { authorization?: string }) => {
      const relay = await start()
      await relay.log.append([noticeOf('secret-event')])

      const answer = await relay.ask('after=0&wait=20000', { authorization })

      expect([answer.status, answer.headers['www-authenticate']]).toEqual([401, 'Bearer'])
      expect(answer.text).toContain('expected \\"Authorization: Bearer\\"')
      for (const text of [answer.text, relay.lines.join()]) {
        expect(text).not.toContain('secret-event')
        expect(text).not.toContain(relay.log.id.slice(1, -1).concat('"'))
        expect(text).not.toMatch(/token-of/i)
      }
      expect(siteOf(relay)?.lastSeenMs).toBe(undefined)
    },
  )

  it('is the one that holds now', async () => {
    const relay = await start()
    relay.tokens['berlin'] = 'renewed'

    expect((await relay.ask('after=0')).status).toBe(401)
    expect((await relay.ask('after=0', bearer('renewed'))).status).toBe(200)
    expect((await relay.ask('after=0', { authorization: 'bearer   renewed' })).status).toBe(200)
  })

  it('that is empty lets nobody in', async () => {
    const relay = await start()
    relay.tokens['berlin'] = ''

    expect((await relay.ask('after=0', { authorization: 'Bearer ' })).status).toBe(401)
    expect((await relay.ask('after=0', { authorization: '' })).status).toBe(401)
  })

  it('tells which site asks', async () => {
    const relay = await start()
    await relay.ask('after=0', bearer(TOKENS.oslo))

    expect(relay.listener.sites().map(({ name, through }) => [name, through])).toEqual([
      ['berlin', undefined],
      ['oslo', 0],
    ])
  })
})

describe('what is no question for the log', () => {
  it.each(['/', '/log/', '/logs', '/LOG', '/v2/', '/metrics', '//', '/log%2f', '/notifications'])(
    'is %s: 404 without a look at who asks',
    async (path) => {
      const relay = await start()

      expect((await relay.ask(path)).status).toBe(404)
      expect((await relay.ask(path, { authorization: '' })).status).toBe(404)
    },
  )

  it.each(['POST', 'HEAD', 'PUT', 'DELETE', 'OPTIONS'])('is %s: 404', async (method) => {
    const { listener } = await start()
    await using raw = await openRaw(listener.address.port)
    raw.socket.write(rawRequest(method, '/log?after=0', bearer(TOKENS.berlin)))

    await until(() => raw.isClosed, { what: 'an answer' })
    expect(raw.statuses()).toEqual([404])
  })

  it.each([
    'after=-1',
    'after=x',
    'after=1e3',
    'after=',
    'after=99999999999999999999',
    'after=0&wait=soon',
    'after=0&round=1.5',
  ])('is %s: 400 and what was expected', async (query) => {
    const relay = await start()

    const answer = await relay.ask(query)

    expect(answer.status).toBe(400)
    expect(answer.text).toMatch(/(after|wait|round): expected a number/)
  })

  it('is a number without the log that it is of', async () => {
    const relay = await start()

    const answer = await relay.ask('/log?after=0')

    expect([answer.status, answer.text]).toEqual([400, expect.stringContaining('expected the id of the log')])
  })

  it('is one with a body, or with too much of a head', async () => {
    const { listener, log } = await start()
    const path = `/log?after=0&log=${log.id}`
    const statusOf = async (headers: Record<string, string>) => {
      await using raw = await openRaw(listener.address.port)
      raw.socket.write(rawRequest('GET', path, { ...bearer(TOKENS.berlin), ...headers }))
      await until(() => raw.isClosed, { what: 'the connection to be closed' })
      return raw.statuses()
    }

    expect(await statusOf({ 'content-length': '1000000' })).toEqual([413])
    expect(await statusOf({ 'transfer-encoding': 'chunked' })).toEqual([413])
    expect(await statusOf({ 'x-long': 'x'.repeat(20_000) })).toEqual([431])
    expect(await statusOf({ 'content-length': '0' })).toEqual([200])
  })
})

describe('limits', () => {
  it('let a site ask a few times at once and refuse more, whatever others do', async () => {
    const relay = await start({ maxRequestsPerSite: 2, maxWaitMs: 25_000 })
    const leave = new AbortController()
    const held = [1, 2].map(() => relay.ask('after=0&wait=20000', {}, leave.signal).catch(() => 'left'))
    await until(() => siteOf(relay)?.asking === 2, { what: 'both to be held' })

    const refused = await relay.ask('after=0&wait=20000')
    expect([refused.status, refused.headers['retry-after']]).toEqual([429, '1'])
    expect(refused.text).toContain('of berlin at once')
    expect((await relay.ask('after=0', bearer(TOKENS.oslo))).status).toBe(200)

    leave.abort()
    expect(await Promise.all(held)).toEqual(['left', 'left'])
    await until(async () => (await relay.ask('after=0')).status === 200, { what: 'its place to be free' })
  })

  it('of connections hold, and the rest are served', async () => {
    const relay = await start({ maxConnections: 2 })
    await using first = await openRaw(relay.listener.address.port)
    await using second = await openRaw(relay.listener.address.port)
    first.socket.write('GET')
    second.socket.write('GET')
    await using third = await openRaw(relay.listener.address.port)

    await until(() => third.isClosed, { what: 'the third to be closed' })
    expect([first.isClosed, second.isClosed]).toEqual([false, false])
    await first[Symbol.asyncDispose]()
    await until(async () => (await relay.ask('after=0')).status === 200, { what: 'room for another' })
  })
})

describe('a site that does not behave', () => {
  it('and hangs up is forgotten at once', async () => {
    const relay = await start({ maxRequestsPerSite: 1 })
    for (let turn = 0; turn < 5; turn++) {
      const leave = new AbortController()
      const left = relay.ask('after=0&wait=20000', {}, leave.signal).catch(() => 'left')
      await until(() => siteOf(relay)?.asking === 1, { what: 'the question to be held' })
      expect((await relay.ask('after=0')).status).toBe(429)
      const before = performance.now()
      leave.abort()
      expect(await left).toBe('left')
      await until(() => siteOf(relay)?.asking === 0, { what: 'it to be forgotten', everyMs: 2 })
      expect(performance.now() - before).toBeLessThan(2000)
      const { looks } = relay
      relay.changed()
      expect(relay.looks).toBe(looks)
    }
  })

  it('and never takes its answers is cut, holds one page at most, and slows nobody', async () => {
    const relay = await start({ idleTimeoutMs: 1000, maxWaitMs: 100, maxRequestsPerSite: 2 })
    for (let turn = 0; turn < 3; turn++) {
      await relay.log.append(Array.from({ length: 1000 }, (_, index) => noticeOf(`${turn}-${index}`)))
    }
    await using slow = await openRaw(relay.listener.address.port)
    slow.socket.pause()
    const ask = rawRequest('GET', `/log?after=0&log=${relay.log.id}`, bearer(TOKENS.berlin))
    slow.socket.write(ask.replace('connection: close', 'connection: keep-alive').repeat(100))

    let looks = 0
    const isStuck = () => {
      looks = siteOf(relay)?.asking === 1 ? looks + 1 : 0
      return looks >= 10
    }
    await until(isStuck, { what: 'an answer that is not taken', everyMs: 5 })
    const before = performance.now()
    for (let turn = 0; turn < 10; turn++) expect((await relay.ask('after=0')).status).toBe(200)
    expect(performance.now() - before).toBeLessThan(5000)

    await until(() => siteOf(relay)?.asking === 0, { what: 'the slow one to be cut' })
    slow.socket.resume()
    await until(() => slow.isClosed, { what: 'its connection to be closed' })
    expect(statusesIn(slow.received()).length).toBeLessThan(100)
  })

  it('and asks ahead without end is cut, before its questions fill the memory', async () => {
    const relay = await start({ maxWaitMs: 25_000 })
    await using raw = await openRaw(relay.listener.address.port)
    const held = `/log?after=0&log=${relay.log.id}&wait=25000`
    raw.socket.write(rawRequest('GET', held, { ...bearer(TOKENS.berlin), connection: 'keep-alive' }))
    await until(() => siteOf(relay)?.asking === 1, { what: 'the question to be held' })

    raw.socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n'.repeat(1000))

    await until(() => raw.isClosed, { what: 'the connection to be cut' })
    await until(() => siteOf(relay)?.asking === 0, { what: 'the question to be forgotten' })
    expect((await relay.ask('after=0')).status).toBe(200)
  })

  it('and asks ahead on one connection is answered in turn', async () => {
    const relay = await start({ maxRequestsPerSite: 1 })
    await relay.log.append([noticeOf('a')])
    await using raw = await openRaw(relay.listener.address.port)
    const ask = rawRequest('GET', `/log?after=0&log=${relay.log.id}`, bearer(TOKENS.berlin))

    raw.socket.write(ask.replace('connection: close', 'connection: keep-alive').repeat(3) + ask)

    await until(() => raw.isClosed, { what: 'all answers' })
    expect(statusesIn(raw.received())).toEqual(['200', '200', '200', '200'])
  })

  it('does not hold up the end of the listener, and those who wait are answered', async () => {
    const relay = await start()
    const held = relay.ask('after=0&wait=20000')
    await until(() => siteOf(relay)?.through === 0, { what: 'the question to be held' })
    await using idle = await openRaw(relay.listener.address.port)
    idle.socket.write('GET')

    const before = performance.now()
    await relay.listener[Symbol.asyncDispose]()

    expect(performance.now() - before).toBeLessThan(5000)
    const answer = await held
    expect([answer.status, answer.headers['connection']]).toEqual([200, 'close'])
    await until(() => idle.isClosed, { what: 'the idle connection to be closed' })
  })
})

it('says in the log, and not to the site, what is wrong with the relay itself', async () => {
  const relay = await start({
    sites: [
      {
        name: 'berlin',
        token: () => {
          throw new Error('the token cannot be read')
        },
      },
    ],
  })

  const answer = await relay.ask('after=0')

  expect([answer.status, answer.text.includes('token')]).toEqual([500, false])
  expect(relay.lines.join()).toContain('the token cannot be read')
})

it('cannot listen where another does, and says so', async () => {
  const { listener } = await start()

  await expect(start({ port: listener.address.port })).rejects.toThrow(/EADDRINUSE/)
})

it('speaks TLS with its certificate, and with the renewed one to new connections', async () => {
  const [one, two] = await Promise.all(['one', 'two'].map((name) => signingKey({ name, algorithm: 'ES256' })))
  if (!one || !two) throw new Error('no keys')
  const tlsOf = (key: typeof one) => ({
    cert: Buffer.from(key.certificatePem),
    key: Buffer.from(key.privateKeyPem),
  })
  const relay = await start({ tls: tlsOf(one) })
  const ask = async (ca: string) => {
    const asked = httpsRequest({
      ...{ host: '127.0.0.1', port: relay.listener.address.port, path: '/log', ca, agent: false },
      headers: bearer(TOKENS.berlin),
    })
    asked.end()
    const [response] = await once(asked, 'response')
    response.resume()
    return response.statusCode
  }

  expect(await ask(one.certificatePem)).toBe(200)
  relay.listener.renewTls(tlsOf(two))
  expect(await ask(two.certificatePem)).toBe(200)
  await expect(ask(one.certificatePem)).rejects.toThrow(/self-signed|verify/)
})
