import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer as createHttpServer, type IncomingMessage } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import type { TLSSocket } from 'node:tls'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { clientOf, httpPrimary, portOf, releasers } from './primary.ts'

const run = promisify(execFile)
const owed = releasers()
afterEach(() => owed.release())

function client(origin: string, options: Parameters<typeof clientOf>[1] = {}) {
  const made = clientOf(origin, options)
  owed.add(made.dispatcher.close)
  return made
}

describe('the connections to the primary', () => {
  it('reach it by an IPv6 address', async () => {
    const primary = await httpPrimary((_request, response) => response.end(), '::1')
    owed.add(primary.close)

    await expect(client(primary.origin).dispatcher.ping()).resolves.toBeUndefined()
    expect(primary.requests[0]?.headers.host).toBe(new URL(primary.origin).host)
  })

  it('are kept over the pauses between two pings, unless the primary says less', async () => {
    const primary = await httpPrimary((_request, response) => response.end())
    primary.server.keepAliveTimeout = 0 // Says nothing, closes nothing.
    owed.add(primary.close)
    const { dispatcher } = client(primary.origin)
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    owed.add(() => vi.useRealTimers())

    await dispatcher.ping()
    await vi.advanceTimersByTimeAsync(25_000)
    await dispatcher.ping()

    expect(primary.requests[1]?.socket === primary.requests[0]?.socket).toBe(true)
  })

  it('are kept warm by a ping every 20 s, whatever became of the one before', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    owed.add(() => vi.useRealTimers())
    const state = { status: 401 }
    const primary = await httpPrimary((_request, response) => response.writeHead(state.status).end())
    owed.add(primary.close)
    const { dispatcher } = client(primary.origin)

    dispatcher.warm()
    dispatcher.warm()
    await vi.waitFor(() => expect(primary.requests).toHaveLength(1))
    state.status = 502
    await vi.advanceTimersByTimeAsync(20_000)
    await vi.waitFor(() => expect(primary.requests).toHaveLength(2))
    await vi.advanceTimersByTimeAsync(20_000)
    await vi.waitFor(() => expect(primary.requests).toHaveLength(3))
    await dispatcher.close()
    await vi.advanceTimersByTimeAsync(60_000)

    expect(primary.requests.map(({ method, url }) => `${method} ${url}`)).toEqual(Array(3).fill('GET /v2/'))
  })

  it('call a ping answered 500 an outage, and 401 an answer', async () => {
    const state = { status: 401 }
    const primary = await httpPrimary((_request, response) => response.writeHead(state.status).end())
    owed.add(primary.close)
    const { dispatcher } = client(primary.origin)

    await expect(dispatcher.ping()).resolves.toBeUndefined()
    state.status = 500
    await expect(dispatcher.ping()).rejects.toMatchObject({ kind: 'unavailable' })
  })
})

/** A forward proxy: absolute-form requests and CONNECT, for whoever knows the password. */
async function egressProxy() {
  const asked: string[] = []
  const authorizations: (string | undefined)[] = []
  const server = createHttpServer((request, response) => {
    asked.push(`${request.method} ${request.url}`)
    authorizations.push(request.headers['proxy-authorization'])
    response.writeHead(200, { 'x-by': 'proxy' }).end()
  })
  server.on('connect', (request: IncomingMessage, socket) => {
    asked.push(`CONNECT ${request.url}`)
    authorizations.push(request.headers['proxy-authorization'])
    const target = new URL(`http://${request.url}`)
    const onward = connect(Number(target.port), target.hostname, () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n')
      socket.pipe(onward).pipe(socket)
    })
    onward.on('error', () => socket.destroy())
    socket.on('error', () => onward.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  owed.add(() => server.close())
  owed.add(() => server.closeAllConnections())
  return { url: `http://site:p%40ss@127.0.0.1:${portOf(server)}`, asked, authorizations }
}

describe('the connections to a primary over TLS', () => {
  let folder: string
  const file = (name: string) => join(folder, name)

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'geo-registry-tls-'))
    const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2']
    for (const ca of ['ca', 'other-ca']) {
      await run('openssl', [
        'req',
        '-x509',
        ...newKey,
        '-subj',
        `/CN=${ca}`,
        '-keyout',
        file(`${ca}.key`),
        '-out',
        file(`${ca}.crt`),
      ])
    }
    for (const name of ['server', 'site', 'next-site']) {
      await run('openssl', [
        'req',
        '-x509',
        ...newKey,
        '-subj',
        `/CN=${name}`,
        '-addext',
        'subjectAltName=IP:127.0.0.1',
        '-addext',
        'basicConstraints=critical,CA:FALSE',
        '-CA',
        file('ca.crt'),
        '-CAkey',
        file('ca.key'),
        '-keyout',
        file(`${name}.key`),
        '-out',
        file(`${name}.crt`),
      ])
    }
  })
  afterAll(() => rm(folder, { recursive: true }))

  async function tlsPrimary(requestCert = false) {
    const names: (string | undefined)[] = []
    const server = createHttpsServer(
      {
        cert: await readFile(file('server.crt')),
        key: await readFile(file('server.key')),
        ca: await readFile(file('ca.crt')),
        requestCert,
        rejectUnauthorized: false,
      },
      (request, response) => {
        const { subject } = (request.socket as TLSSocket).getPeerCertificate()
        names.push(subject && String(subject.CN))
        response.end()
      },
    )
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    owed.add(() => server.close())
    owed.add(() => server.closeAllConnections())
    return { origin: `https://127.0.0.1:${portOf(server)}`, names }
  }

  it('trust the CA of the configuration and no stranger', async () => {
    const { origin } = await tlsPrimary()

    await expect(
      client(origin, { tls: { cafile: file('ca.crt') } }).dispatcher.ping(),
    ).resolves.toBeUndefined()
    for (const tls of [undefined, { cafile: file('other-ca.crt') }]) {
      await expect(client(origin, { tls }).dispatcher.ping()).rejects.toMatchObject({
        kind: 'unavailable',
        unreachable: false,
      })
    }
  })

  it('show the client certificate to the primary and to nobody else', async () => {
    const primary = await tlsPrimary(true)
    const storage = await tlsPrimary(true)
    const tls = { cafile: file('ca.crt'), certificatefile: file('site.crt'), keyfile: file('site.key') }
    const { dispatcher } = client(primary.origin, { tls })

    await dispatcher.ping()
    const answer = await dispatcher.send({
      operation: 'blob',
      method: 'GET',
      url: `${storage.origin}/`,
      headers: {},
      headMs: 2000,
    })
    answer.body.destroy()

    expect(primary.names).toEqual(['site'])
    expect(storage.names).toEqual([undefined])
  })

  it('change to a new certificate when told, and keep the old one when the new is bad', async () => {
    const primary = await tlsPrimary(true)
    for (const part of ['crt', 'key']) await copyFile(file(`site.${part}`), file(`current.${part}`))
    const tls = { cafile: file('ca.crt'), certificatefile: file('current.crt'), keyfile: file('current.key') }
    const { dispatcher } = client(primary.origin, { tls })
    await dispatcher.ping()

    await copyFile(file('next-site.crt'), file('current.crt')) // Its key has not been written yet.
    expect(() => dispatcher.reload()).toThrow()
    await dispatcher.ping()
    await copyFile(file('next-site.key'), file('current.key'))
    dispatcher.reload()
    await dispatcher.ping()

    expect(primary.names).toEqual(['site', 'site', 'next-site'])
  })

  it('are refused at the start when a file is missing or no certificate', async () => {
    await writeFile(file('no.crt'), 'nothing')

    expect(() => clientOf('https://127.0.0.1', { tls: { cafile: file('missing.crt') } })).toThrow(
      /missing\.crt/,
    )
    expect(() =>
      clientOf('https://127.0.0.1', { tls: { certificatefile: file('no.crt'), keyfile: file('site.key') } }),
    ).toThrow()
  })

  it('go through the HTTPS proxy by CONNECT, with its password and ours apart', async () => {
    const primary = await tlsPrimary(true)
    const proxy = await egressProxy()
    const tls = { cafile: file('ca.crt'), certificatefile: file('site.crt'), keyfile: file('site.key') }
    const { dispatcher } = client(primary.origin, { tls, proxy: { https: proxy.url } })

    await dispatcher.ping()
    await turn()
    await dispatcher.ping()

    expect(proxy.asked).toEqual([`CONNECT ${new URL(primary.origin).host}`])
    expect(proxy.authorizations).toEqual([`Basic ${Buffer.from('site:p@ss').toString('base64')}`])
    expect(primary.names).toEqual(['site', 'site'])
  })

  it('go past the proxy where NO_PROXY says so, and never through the other scheme’s', async () => {
    const primary = await tlsPrimary()
    const proxy = await egressProxy()
    const tls = { cafile: file('ca.crt') }

    await client(primary.origin, {
      tls,
      proxy: { https: proxy.url, no: 'x.example.com,127.0.0.1' },
    }).dispatcher.ping()
    await client(primary.origin, { tls, proxy: { http: proxy.url } }).dispatcher.ping()

    expect(proxy.asked).toEqual([])
  })
})

describe('the connections through an HTTP proxy', () => {
  it('ask it for plain addresses, and look at no environment variable', async () => {
    const primary = await httpPrimary((_request, response) => response.end())
    owed.add(primary.close)
    const proxy = await egressProxy()
    vi.stubEnv('http_proxy', 'http://127.0.0.1:1')
    vi.stubEnv('no_proxy', '*')
    owed.add(() => vi.unstubAllEnvs())

    await client(primary.origin, { proxy: { http: proxy.url } }).dispatcher.ping()
    await client(primary.origin).dispatcher.ping()

    expect(proxy.asked).toEqual([`GET ${primary.origin}/v2/`])
    expect(primary.requests).toHaveLength(1)
  })

  it('are an outage when the proxy is down or refuses', async () => {
    const gone = await httpPrimary(() => {})
    await gone.close()
    const refusing = await httpPrimary(() => {})
    refusing.server.on('connect', (_request, socket) => socket.end('HTTP/1.1 502 Bad Gateway\r\n\r\n'))
    owed.add(refusing.close)

    await expect(
      client('https://registry.example.com', { proxy: { https: gone.origin } }).dispatcher.ping(),
    ).rejects.toMatchObject({ kind: 'unavailable', unreachable: true })
    await expect(
      client('https://registry.example.com', { proxy: { https: refusing.origin } }).dispatcher.ping(),
    ).rejects.toMatchObject({ kind: 'unavailable', unreachable: false })
  })

  it('report a proxy that wants a password as an outage', async () => {
    const proxy = await httpPrimary((_request, response) => response.writeHead(407).end('password?'))
    owed.add(proxy.close)

    await expect(
      client('http://registry.example.com', { proxy: { http: proxy.origin } }).dispatcher.ping(),
    ).rejects.toMatchObject({ name: 'UpstreamError' })
  })
})
