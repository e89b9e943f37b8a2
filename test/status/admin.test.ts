import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createLogger } from '../../src/log.ts'
import { createMetrics } from '../../src/metrics.ts'
import { type AdminPorts, createAdminApp, startAdmin } from '../../src/status/admin.ts'
import { fakeControl } from './fake-control.ts'

const TOKEN = 'correct horse'
const bearer = (token: string) => ({ headers: { authorization: `Bearer ${token}` } })

describe('admin listener', () => {
  let ports: AdminPorts
  let token: string | undefined
  let logged: string[]
  let asked: object[]
  beforeEach(() => {
    token = undefined
    logged = []
    asked = []
    ports = {
      ready: async () => undefined,
      metrics: () => createMetrics().registry.metrics(),
      collectGarbage: async (options) => {
        asked.push(options)
        return { removedBlobs: 3, removedBytes: 1024 }
      },
    }
  })
  const log = createLogger({ destination: { write: (line) => void logged.push(line) } })
  const app = () => createAdminApp(ports, { log, token: () => token })

  it('is alive whatever the site says', async () => {
    ports = {
      ready: () => Promise.reject(new Error('store gone')),
      metrics: () => Promise.reject(new Error('no')),
      collectGarbage: () => Promise.reject(new Error('no')),
    }
    const response = await app().request('/-/liveness')

    expect(response.status).toBe(200)
    expect(await response.json()).toEqual({ status: 'ok' })
  })

  it('is ready until the site gives a reason', async () => {
    expect((await app().request('/-/readiness')).status).toBe(200)

    ports = { ...ports, ready: async () => 'the store cannot be read' }
    const response = await app().request('/-/readiness')

    expect(response.status).toBe(503)
    expect(await response.json()).toEqual({ status: 'failed', reason: 'the store cannot be read' })
  })

  it('is not ready when readiness itself fails, and logs why', async () => {
    ports = { ...ports, ready: () => Promise.reject(new Error('EIO')) }
    const response = await app().request('/-/readiness')

    expect(response.status).toBe(503)
    expect(await response.text()).not.toContain('EIO')
    expect(logged.join()).toContain('EIO')
  })

  it('shows the metrics as Prometheus reads them', async () => {
    const response = await app().request('/metrics')

    expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8')
    expect(await response.text()).toMatch(/^geo_registry_fills_in_flight 0$/m)
  })

  it('collects garbage, or only counts', async () => {
    expect(await (await app().request('/gc', { method: 'POST' })).json()).toEqual({
      removedBlobs: 3,
      removedBytes: 1024,
    })
    await app().request('/gc?dryrun=true', { method: 'POST' })

    expect(asked).toEqual([{ dryRun: false }, { dryRun: true }])
  })

  it('collects nothing when it cannot be sure what was meant', async () => {
    const statuses = [
      (await app().request('/gc')).status,
      (await app().request('/gc?dryrun=1', { method: 'POST' })).status,
      (await app().request('/gc?dryrun=', { method: 'POST' })).status,
    ]

    expect(statuses).toEqual([404, 400, 400])
    expect(asked).toEqual([])
  })

  it('runs one garbage collection at a time, and another after one that failed', async () => {
    const first = Promise.withResolvers<object>()
    ports = { ...ports, collectGarbage: () => first.promise }
    const site = app()
    const running = site.request('/gc', { method: 'POST' })

    expect((await site.request('/gc', { method: 'POST' })).status).toBe(409)
    first.reject(new Error('disk'))
    expect((await running).status).toBe(500)
    expect((await site.request('/gc', { method: 'POST' })).status).toBe(500)
  })

  it('has a status only where a replicator runs', async () => {
    expect((await app().request('/status')).status).toBe(404)

    ports = { ...ports, replication: fakeControl() }
    expect(await (await app().request('/status')).json()).toMatchObject({ site: { name: 'tokyo' } })
  })

  it('asks for its token everywhere but for health', async () => {
    token = TOKEN
    const replication = fakeControl()
    ports = { ...ports, replication }
    const site = app()
    const refused = ['/metrics', '/status', '/repositories', '/plan', '/nowhere'].map((path) =>
      site.request(path),
    )
    const wrong = ['', 'correct', `${TOKEN}s`, TOKEN.toUpperCase()].map((guess) =>
      site.request('/gc', { method: 'POST', ...bearer(guess) }),
    )
    const hands = ['/pause', '/brake/release', '/repositories/resync?all=true', '/rebuild']
    wrong.push(...hands.map((path) => site.request(path, { method: 'POST' })))

    for (const response of await Promise.all([...refused, ...wrong])) {
      expect(response.status).toBe(401)
      expect(response.headers.get('www-authenticate')).toBe('Bearer realm="geo-registry admin"')
    }
    expect([...asked, ...replication.asked]).toEqual([])
    expect((await site.request('/-/liveness')).status).toBe(200)
    expect((await site.request('/-/readiness')).status).toBe(200)
    expect((await site.request('/metrics', bearer(TOKEN))).status).toBe(200)
  })

  it('goes by the new token as soon as its file was read again', async () => {
    token = TOKEN
    const site = app()
    token = 'rotated'

    expect((await site.request('/metrics', bearer(TOKEN))).status).toBe(401)
    expect((await site.request('/metrics', bearer('rotated'))).status).toBe(200)
  })

  it("does not do what another site's page tells a browser to ask for", async () => {
    const from = (site: string) =>
      app().request('/gc', { method: 'POST', headers: { 'sec-fetch-site': site } })

    expect((await from('cross-site')).status).toBe(403)
    expect((await from('same-site')).status).toBe(403)
    expect(asked).toEqual([])
    expect((await from('same-origin')).status).toBe(200)
  })

  it('does not answer to a name that leads here, as long as no token is asked for', async () => {
    const by = (host: string) => app().request(`http://${host}/gc`, { method: 'POST' })

    expect((await by('rebound.example:5011')).status).toBe(403)
    expect((await by('localhost.example')).status).toBe(403)
    expect(asked).toEqual([])
    for (const host of ['localhost:5011', '127.0.0.1:5011', '[::1]:5011']) {
      expect((await by(host)).status, host).toBe(200)
    }
    token = TOKEN
    const site = await app().request('http://registry.example:5011/metrics', bearer(TOKEN))
    expect(site.status).toBe(200)
  })

  it('refuses bodies nobody needs', async () => {
    const body = 'x'.repeat(64 * 1024 + 1)

    expect((await app().request('/gc', { method: 'POST', body })).status).toBe(413)
    expect(asked).toEqual([])
  })

  describe('on a socket', () => {
    let stack: AsyncDisposableStack
    beforeEach(() => {
      stack = new AsyncDisposableStack()
    })
    afterEach(async () => await stack.disposeAsync())

    it('tells the port it got, and leaves the globals of the process alone', async () => {
      const before = [globalThis.Request, globalThis.Response]
      const listen = { host: '127.0.0.1', port: 0 }
      const admin = stack.use(await startAdmin(listen, ports, { log, token: () => token }))

      const response = await fetch(`http://127.0.0.1:${admin.address.port}/-/liveness`)

      expect(admin.address).toEqual({ host: '127.0.0.1', port: expect.any(Number) })
      expect(response.status).toBe(200)
      expect([globalThis.Request, globalThis.Response]).toEqual(before)
    })

    it('says why it cannot listen', async () => {
      const options = { log, token: () => token }
      const admin = stack.use(await startAdmin({ host: '127.0.0.1', port: 0 }, ports, options))

      await expect(startAdmin(admin.address, ports, options)).rejects.toThrow('EADDRINUSE')
      await expect(startAdmin({ host: '192.0.2.1', port: 0 }, ports, options)).rejects.toThrow(
        'EADDRNOTAVAIL',
      )
    })

    it('is given back even while a client holds on', async () => {
      ports = { ...ports, collectGarbage: () => new Promise(() => {}) }
      const admin = await startAdmin({ host: '127.0.0.1', port: 0 }, ports, { log, token: () => token })
      const socket = connect(admin.address.port, '127.0.0.1')
      socket.write('POST /gc HTTP/1.1\r\nhost: localhost\r\n\r\n')
      await new Promise((resolve) => socket.once('connect', resolve))
      const ended = text(socket).catch(() => 'reset')

      await admin[Symbol.asyncDispose]()

      await ended
      expect(socket.destroyed).toBe(true)
    })
  })
})
