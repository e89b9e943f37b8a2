import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readdir } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { Readable } from 'node:stream'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { digestOf } from '../../src/oci/digest.ts'
import { nameOf } from '../store/store-fixture.ts'
import { listenHttp } from '../support/http-listener.ts'
import { locationOf } from '../support/registry-api.ts'
import { startUploadPrimary, type UploadPrimary } from './upload-primary.ts'
import { startWriteSite, type WriteSite } from './write-site.ts'

const MIB = 1024 * 1024
const NAME = nameOf('team/app')

let primary: UploadPrimary
let site: WriteSite
beforeEach(async () => {
  primary = await startUploadPrimary()
  site = await startWriteSite(primary.url, { idleMs: 2000 })
})
afterEach(async () => {
  await site[Symbol.asyncDispose]()
  await primary[Symbol.asyncDispose]()
})

/** A connection of which the test decides every byte. */
async function rawRequest(head: string): Promise<Socket> {
  const socket = connect(site.port, '127.0.0.1')
  socket.on('error', () => undefined)
  await once(socket, 'connect')
  socket.write(head.replaceAll('\n', '\r\n'))
  return socket
}

const patch = (path: string, length: number) =>
  rawRequest(`PATCH ${path} HTTP/1.1\nHost: x\nContent-Length: ${length}\n\n`)

describe('an upload', () => {
  it('survives a chunk out of order: 416, the state can be asked for, and the blob is here in the end', async () => {
    const bytes = randomBytes(2000)
    const started = await site.api.startUpload(NAME)
    const first = await site.api.patchUpload(NAME, locationOf(started), bytes.subarray(0, 1000), {
      start: 0,
      end: 999,
    })

    const wrong = await site.api.patchUpload(NAME, locationOf(first), randomBytes(10), {
      start: 1500,
      end: 1509,
    })
    const state = await site.api.request('GET', locationOf(first))
    const second = await site.api.patchUpload(NAME, locationOf(state), bytes.subarray(1000), {
      start: 1000,
      end: 1999,
    })
    const done = await site.api.finishUpload(NAME, locationOf(second), digestOf(bytes))

    expect([wrong.status, state.status, second.status, done.status]).toEqual([416, 204, 202, 201])
    expect(await site.store.blobs.read(digestOf(bytes), MIB)).toEqual(bytes)
  })

  it('whose client leaves in the middle reaches the primary as a broken one, and can be taken up again', async () => {
    const bytes = randomBytes(4 * MIB)
    const path = locationOf(await site.api.startUpload(NAME))
    const socket = await patch(path, bytes.length)
    socket.write(bytes.subarray(0, MIB))
    await vi.waitFor(() => expect(primary.taken.length).toBe(MIB))
    socket.destroy()

    const resumed = await vi.waitFor(async () => {
      const state = await site.api.request('GET', path)
      expect(state.headers['range']).toBe(`0-${MIB - 1}`)
      const range = { start: MIB, end: bytes.length - 1 }
      return site.api.patchUpload(NAME, locationOf(state), bytes.subarray(MIB), range)
    })
    const done = await site.api.finishUpload(NAME, locationOf(resumed), digestOf(bytes))

    expect([resumed.status, done.status]).toEqual([202, 201])
    expect(await site.captures('kept')).toBe(1)
  })

  it('is kept as the primary has it when only a part of a request was taken', async () => {
    const bytes = randomBytes(3000)
    const started = await site.api.startUpload(NAME)
    primary.instead = (request, response) => {
      request.resume().once('end', () => {
        primary.taken = bytes.subarray(0, 1000)
        response
          .writeHead(202, { location: '/v2/team/app/blobs/uploads/u-1?_state=part', range: '0-999' })
          .end()
      })
      return true
    }
    const first = await site.api.patchUpload(NAME, locationOf(started), bytes)
    primary.instead = () => false
    const done = await site.api.finishUpload(NAME, locationOf(first), digestOf(bytes), bytes.subarray(1000))

    expect(first.headers['range']).toBe('0-999')
    expect(done.status).toBe(201)
    expect(await site.store.blobs.read(digestOf(bytes), MIB)).toEqual(bytes)
  })

  it('is answered while its body is still coming, on a connection that then closes', async () => {
    const started = await site.api.startUpload(NAME)
    primary.instead = (_request, response) => {
      const body = '{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}'
      response
        .writeHead(401, { 'content-length': body.length, 'www-authenticate': 'Bearer realm="x"' })
        .end(body)
      return true
    }
    const socket = await patch(locationOf(started), 1024 * MIB)
    socket.write(randomBytes(100))

    let text = ''
    socket.on('data', (data) => {
      text += data
    })
    await vi.waitFor(() => expect(text).toContain('authentication required'))

    expect(text).toMatch(/^HTTP\/1\.1 401 /)
    expect(text).toMatch(/\r\nconnection: close\r\n/i)
    expect(text).toMatch(/\r\nwww-authenticate: Bearer realm="x"\r\n/i)
    socket.destroy()
  })

  it('is kept when the client comes back with a token after such an answer', async () => {
    const bytes = randomBytes(1000)
    const started = await site.api.startUpload(NAME)
    primary.instead = (request, response) => {
      if (request.headers.authorization !== undefined) return false
      request.resume().once('end', () => response.writeHead(401, { 'content-length': 0 }).end())
      return true
    }
    const refused = await site.api.patchUpload(NAME, locationOf(started), bytes)
    primary.instead = () => false
    const taken = await site.api.patchUpload(NAME, locationOf(started), bytes)
    const done = await site.api.finishUpload(NAME, locationOf(taken), digestOf(bytes))

    expect([refused.status, taken.status, done.status]).toEqual([401, 202, 201])
    expect(await site.captures('kept')).toBe(1)
  })

  it('whose client sends nothing any more ends with 408', async () => {
    await site[Symbol.asyncDispose]()
    site = await startWriteSite(primary.url, { idleMs: 100 })
    const socket = await patch(locationOf(await site.api.startUpload(NAME)), 1000)
    socket.write(randomBytes(10))

    const [head] = await once(socket, 'data')

    expect(String(head)).toMatch(/^HTTP\/1\.1 408 .*connection: close/is)
    socket.destroy()
  })

  it('ends with 503 when the primary stops taking bytes', async () => {
    await site[Symbol.asyncDispose]()
    site = await startWriteSite(primary.url, { idleMs: 200 })
    const started = await site.api.startUpload(NAME)
    primary.instead = () => true
    const socket = await patch(locationOf(started), 1024 * MIB)
    const pump = Readable.from(
      (async function* () {
        for (let n = 0; n < 1024; n += 1) yield Buffer.alloc(MIB)
      })(),
    ).pipe(socket)
    pump.on('error', () => undefined)

    const [head] = await once(socket, 'data')

    expect(String(head)).toMatch(/^HTTP\/1\.1 503 /)
    socket.destroy()
  })

  it('ends with 503 when the answer to its last request is lost, and nothing is kept', async () => {
    const bytes = randomBytes(1000)
    const started = await site.api.startUpload(NAME)
    primary.instead = (request) => {
      request.resume().once('end', () => request.socket.destroy())
      return true
    }

    const done = await site.api.finishUpload(NAME, locationOf(started), digestOf(bytes), bytes)

    expect(done.status).toBe(503)
    expect(await site.store.blobs.stat(digestOf(bytes))).toBeUndefined()
    expect(primary.seen.filter(({ method }) => method === 'PUT')).toHaveLength(1)
  })

  it('in one request that the primary takes is here', async () => {
    const bytes = randomBytes(5000)
    primary.instead = (request, response) => {
      request.resume().once('end', () => response.writeHead(201, { 'content-length': 0 }).end())
      return true
    }

    const done = await site.api.request('POST', `/v2/${NAME}/blobs/uploads/?digest=${digestOf(bytes)}`, {
      body: bytes,
    })

    expect(done.status).toBe(201)
    expect(await site.store.blobs.read(digestOf(bytes), MIB)).toEqual(bytes)
    expect(await site.store.index.link(NAME, 'layer', digestOf(bytes))).toBeDefined()
  })

  it('in one request that the primary turns into a session is uploaded again, and then is here', async () => {
    const bytes = randomBytes(5000)
    primary.instead = (request, response) => {
      if (request.method !== 'POST') return false
      request.resume().once('end', () => {
        response
          .writeHead(202, { location: '/v2/team/app/blobs/uploads/u-1?_state=0', 'content-length': 0 })
          .end()
      })
      return true
    }
    const path = `/v2/${NAME}/blobs/uploads/?digest=${digestOf(bytes)}`
    const started = await site.api.request('POST', path, { body: bytes })

    const done = await site.api.finishUpload(NAME, locationOf(started), digestOf(bytes), bytes)

    expect([started.status, done.status]).toEqual([202, 201])
    expect(await site.captures('kept')).toBe(1)
    expect(await readdir(site.spools)).toEqual([])
  })

  it('for which the primary tells another digest than was pushed is not kept', async () => {
    const bytes = randomBytes(100)
    const started = await site.api.startUpload(NAME)
    primary.instead = (request, response) => {
      const other = digestOf(Buffer.from('other'))
      request.resume().once('end', () => response.writeHead(201, { 'docker-content-digest': other }).end())
      return true
    }

    expect((await site.api.finishUpload(NAME, locationOf(started), digestOf(bytes), bytes)).status).toBe(201)
    expect(await site.store.blobs.stat(digestOf(bytes))).toBeUndefined()
  })

  it('over the bytes a client may send in an hour gets 429 with the time to wait, also without a length', async () => {
    await site[Symbol.asyncDispose]()
    site = await startWriteSite(primary.url, { uploadBytesPerHour: 10_000 })
    const location = locationOf(await site.api.startUpload(NAME))

    const declared = await site.api.patchUpload(NAME, location, randomBytes(10_001))
    const within = await site.api.patchUpload(NAME, location, randomBytes(6000))
    const streamed = await site.api.patchUpload(
      NAME,
      location,
      Readable.from([randomBytes(3000), randomBytes(3000)]),
    )

    expect([declared.status, within.status, streamed.status]).toEqual([429, 202, 429])
    expect(Number(streamed.headers['retry-after'])).toBeGreaterThan(3500)
    expect(streamed.body.toString()).toContain('TOOMANYREQUESTS')
  })
})

describe('what the primary sees of an upload', () => {
  it('is its own host, this site as the forwarded one, the client, and one try', async () => {
    await site[Symbol.asyncDispose]()
    site = await startWriteSite(primary.url, { publicUrl: 'https://registry.example.com:5010' })

    await site.api.request('POST', `/v2/${NAME}/blobs/uploads/?a=%2B&b=+`, {
      headers: {
        authorization: 'Bearer t',
        'x-request-id': 'abc-1',
        'x-forwarded-host': 'evil.example.net',
        'x-forwarded-for': '198.51.100.7',
        forwarded: 'host=evil.example.net',
        'x-custom': 'kept',
      },
    })

    expect(primary.seen).toHaveLength(1)
    const { url, headers } = primary.seen[0] ?? {}
    expect(url).toBe(`/v2/${NAME}/blobs/uploads/?a=%2B&b=+`)
    expect(headers).toMatchObject({
      host: new URL(primary.url).host,
      authorization: 'Bearer t',
      'x-forwarded-host': 'registry.example.com:5010',
      'x-forwarded-proto': 'https',
      'x-request-id': 'abc-1',
      'x-custom': 'kept',
    })
    expect(headers?.['x-forwarded-for']).toMatch(/127\.0\.0\.1$/)
    expect(headers?.['x-forwarded-for']).not.toContain('198.51.100.7')
    expect(headers).not.toHaveProperty('forwarded')
  })

  it('is the host the client asked for when this site has no name of its own', async () => {
    await site.api.startUpload(NAME)

    expect(primary.seen[0]?.headers).toMatchObject({
      'x-forwarded-host': `127.0.0.1:${site.port}`,
      'x-forwarded-proto': 'http',
    })
  })

  it('comes back signed as it was, whatever form the Location has', async () => {
    for (const location of [
      (path: string) => path,
      (path: string) => primary.url + path,
      (path: string) => `http://127.0.0.1:${site.port}${path}`,
    ]) {
      primary.location = location
      const bytes = randomBytes(100)
      const patched = await site.api.patchUpload(NAME, locationOf(await site.api.startUpload(NAME)), bytes)
      const done = await site.api.finishUpload(NAME, locationOf(patched), digestOf(bytes))

      expect(locationOf(patched)).toBe('/v2/team/app/blobs/uploads/u-1?_state=n%2B100%3D')
      expect(done.status).toBe(201)
      expect(primary.seen.at(-1)?.url).toMatch(
        /^\/v2\/team\/app\/blobs\/uploads\/u-1\?_state=n%2B100%3D&digest=/,
      )
    }
    expect(await site.captures('kept')).toBe(3)
  })

  it('goes to another host without the caller: no credential, no cookie, no address', async () => {
    const seen: Record<string, unknown>[] = []
    await using storage = await listenHttp((request, response) => {
      seen.push({ url: request.url, ...request.headers })
      request.resume().once('end', () => response.writeHead(201, { 'content-length': 0 }).end())
    })
    primary.location = (path) => `${storage.url}/bucket${path}`
    const bytes = randomBytes(100)
    const started = await site.api.startUpload(NAME)
    const location = locationOf(started)

    const done = await site.api.request('PUT', `${location}&digest=${digestOf(bytes)}`, {
      headers: { authorization: 'Bearer secret', cookie: 'session=secret' },
      body: bytes,
    })

    expect(location).toMatch(/^\/v2\/team\/app\/blobs\/uploads\/[0-9a-f]+\?_geo=/)
    expect(done.status).toBe(201)
    expect(seen).toHaveLength(1)
    expect(seen[0]).toMatchObject({
      url: `/bucket/v2/team/app/blobs/uploads/u-1?_state=n%2B0%3D&digest=${digestOf(bytes)}`,
      host: new URL(storage.url).host,
    })
    expect(JSON.stringify(seen)).not.toMatch(/secret|x-forwarded/)
    expect(await site.store.blobs.stat(digestOf(bytes))).toBe(100)
  })

  it('is nothing when a sealed location is used for another repository', async () => {
    primary.location = (path) => `http://127.0.0.1:1${path}`
    const location = locationOf(await site.api.startUpload(NAME))

    const answer = await site.api.request('PUT', location.replace('team/app', 'team/other'))

    expect(answer.status).toBe(404)
    expect(answer.body.toString()).toContain('BLOB_UPLOAD_UNKNOWN')
    expect(primary.seen).toHaveLength(1)
  })
})
