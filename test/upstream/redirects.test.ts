import type { RequestListener } from 'node:http'
import { buffer } from 'node:stream/consumers'
import { afterEach, describe, expect, it } from 'vitest'
import { digestOf } from '../../src/oci/digest.ts'
import { parseRepositoryName } from '../../src/oci/reference.ts'
import { follow } from '../../src/upstream/redirects.ts'
import type { ForwardAnswer } from '../../src/upstream/upstream.ts'
import { clientOf, type HttpPrimary, httpPrimary, releasers } from './primary.ts'

const NAME = parseRepositoryName('group/app') ?? expect.unreachable()
const BYTES = Buffer.from('a layer')
const DIGEST = digestOf(BYTES)
const ASK = { credential: { kind: 'caller', authorization: 'Bearer secret' } } as const

const owed = releasers()
afterEach(() => owed.release())

async function server(answer: RequestListener): Promise<HttpPrimary> {
  const started = await httpPrimary(answer)
  owed.add(started.close)
  return started
}

function client(primary: HttpPrimary) {
  const made = clientOf(primary.origin)
  owed.add(made.dispatcher.close)
  return made
}

function redirect(location: () => string): RequestListener {
  return (_request, response) => response.writeHead(307, { location: location() }).end('see there')
}

describe('a blob the primary keeps elsewhere', () => {
  it('is fetched there, to the letter of the signed address, without the credential', async () => {
    const signed = "/bucket/blob?X-Sig=a%2Fb+c%3D&list=[1]|'x'&empty="
    const storage = await server((_request, response) => response.end(BYTES))
    const primary = await server(redirect(() => storage.origin + signed))

    const { body } = await client(primary).upstream.getBlob(NAME, DIGEST, { ...ASK, endByte: 100 })

    expect((await buffer(body)).equals(BYTES)).toBe(true)
    expect(primary.requests[0]?.headers.authorization).toBe('Bearer secret')
    expect(storage.requests[0]?.url).toBe(signed)
    expect(storage.requests[0]?.headers).not.toHaveProperty('authorization')
    expect(storage.requests[0]?.headers.range).toBe('bytes=0-100')
    expect(storage.requests[0]?.headers['accept-encoding']).toBe('identity')
  })

  it('is fetched with the credential where the same origin redirects, relatively or not', async () => {
    const primary = await server((request, response) => {
      const next = {
        [`/v2/group/app/blobs/${DIGEST}`]: '../there',
        '/v2/group/app/there': `${primary.origin}/end`,
      }
      const location = next[request.url ?? '']
      if (location) response.writeHead(302, { location }).end()
      else response.end(BYTES)
    })

    const { body } = await client(primary).upstream.getBlob(NAME, DIGEST, ASK)

    expect((await buffer(body)).equals(BYTES)).toBe(true)
    expect(primary.requests.map(({ url, headers }) => [url, headers.authorization]).at(-1)).toEqual([
      '/end',
      'Bearer secret',
    ])
  })

  it('sends no credential back to the primary after a detour over somebody else', async () => {
    const storage = await server(redirect(() => `${primary.origin}/internal`))
    const primary: HttpPrimary = await server((request, response) => {
      if (request.url === '/internal') response.end(BYTES)
      else redirect(() => storage.origin)(request, response)
    })

    const { body } = await client(primary).upstream.getBlob(NAME, DIGEST, ASK)

    expect((await buffer(body)).equals(BYTES)).toBe(true)
    expect(primary.requests[1]?.url).toBe('/internal')
    expect(primary.requests[1]?.headers).not.toHaveProperty('authorization')
  })

  it.each([
    ['a loop', () => '', 2],
    ['an endless chain', (asked: number) => `/${asked}`, 6],
  ])('is a fault when the redirects are %s, after at most 5 hops', async (_what, next, limit) => {
    let asked = 0
    const primary = await server(redirect(() => next(++asked) || `/v2/group/app/blobs/${DIGEST}`))

    await expect(client(primary).upstream.getBlob(NAME, DIGEST, ASK)).rejects.toMatchObject({
      kind: 'faulty',
    })
    expect(asked).toBeLessThanOrEqual(limit)
  })

  it.each(['file:///etc/passwd', 'ftp://127.0.0.1/x', 'gopher://x', 'http://', ''])(
    'is a fault when the address is %j',
    async (location) => {
      const primary = await server(redirect(() => location))

      await expect(client(primary).upstream.getBlob(NAME, DIGEST, ASK)).rejects.toMatchObject({
        kind: 'faulty',
      })
    },
  )

  it('is not followed from https down to http', async () => {
    const asked: string[] = []
    const send = async ({ url }: { url: string }): Promise<ForwardAnswer> => {
      asked.push(url)
      const { Readable } = await import('node:stream')
      return { status: 307, headers: { location: 'http://storage.example.com/x' }, body: Readable.from([]) }
    }
    const first = {
      operation: 'blob',
      method: 'GET',
      url: 'https://registry.example.com/v2/',
      headers: {},
      headMs: 1000,
    } as const

    await expect(follow(send, first)).rejects.toMatchObject({ kind: 'faulty' })
    expect(asked).toHaveLength(1)
  })

  it.each([
    [401, 'faulty'],
    [403, 'faulty'],
    [404, 'faulty'],
    [429, 'unavailable'],
    [503, 'unavailable'],
  ])('answered %i there is %s: only the primary can deny or miss it', async (status, kind) => {
    const storage = await server((_request, response) => {
      response.writeHead(status).end('{"errors":[{"code":"BLOB_UNKNOWN"}]}')
    })
    const primary = await server(redirect(() => storage.origin))

    await expect(client(primary).upstream.getBlob(NAME, DIGEST, ASK)).rejects.toMatchObject({ kind })
  })

  it('at a storage that is down says nothing about reaching the primary', async () => {
    const storage = await httpPrimary(() => {})
    await storage.close()
    const primary = await server(redirect(() => storage.origin))

    await expect(client(primary).upstream.getBlob(NAME, DIGEST, ASK)).rejects.toMatchObject({
      kind: 'unavailable',
      unreachable: false,
    })
  })
})
