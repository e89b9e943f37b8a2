/** How canaries are sent, against a server that shows what arrives. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type CanariesOptions, createCanaries } from '../../../replicator/relay/canaries.ts'
import { createCanaryImage } from '../../../replicator/relay/canary-image.ts'
import type { InstanceAddress } from '../../../replicator/relay/instances.ts'
import { listen } from '../../../src/http-listener.ts'
import { createLogger } from '../../../src/log.ts'
import type { TokenSource } from '../../../src/upstream/token-source.ts'
import { type HttpListener, listenHttp } from '../../support/http-listener.ts'
import { signingKey } from '../../support/keys.ts'
import { until } from '../../support/wait.ts'

const REPOSITORY = 'geo-registry/canary'
const image = createCanaryImage()

interface Seen {
  readonly method: string
  readonly url: string
  readonly headers: IncomingMessage['headers']
  readonly remotePort: number
  readonly atMs: number
}

let seen: Seen[]
let answer: (request: IncomingMessage, response: ServerResponse) => void
let refusals: { address: string; why: string; userAgent: string | undefined }[]
let sent: string[]
let forgotten: string[]
let ticks: number
let logged: string[]
let authorization: TokenSource['authorization']
let server: HttpListener
let open: AsyncDisposableStack
beforeEach(async () => {
  seen = []
  answer = (_, response) => found(response)
  refusals = []
  sent = []
  forgotten = []
  ticks = 0
  logged = []
  authorization = async (scope) => `Bearer for ${scope}`
  open = new AsyncDisposableStack()
  server = open.use(await listenHttp((request, response) => serve(request, response)))
})
afterEach(() => open.disposeAsync())

/** With a length, as registries answer: without one the connection is not kept. */
const found = (response: ServerResponse) =>
  void response.writeHead(200, { 'content-length': image.manifest.length }).end()

function serve(request: IncomingMessage, response: ServerResponse): void {
  seen.push({
    method: request.method ?? '',
    url: request.url ?? '',
    headers: request.headers,
    remotePort: request.socket.remotePort ?? 0,
    atMs: performance.now(),
  })
  request.resume()
  request.on('end', () => answer(request, response))
}

function start(options: Partial<CanariesOptions> = {}) {
  const canaries = createCanaries(
    {
      epochs: {
        sending(address) {
          sent.push(address)
          return `geo-registry canary/test.${sent.length}`
        },
        refused: (address, why, userAgent) => void refusals.push({ address, why, userAgent }),
        tick() {
          ticks += 1
        },
      },
      tokens: {
        authorization: (scope, signal) => authorization(scope, signal),
        refused: (scope) => forgotten.push(scope) > 0,
      },
      log: createLogger({ destination: { write: (line) => void logged.push(line) } }),
    },
    { repository: REPOSITORY, kind: 'pull', intervalMs: 50, ...options },
  )
  return open.use(canaries)
}

const address = (key = 'a'): InstanceAddress => ({
  key,
  origin: `http://registry.internal:${server.port}`,
  ip: '127.0.0.1',
})
const enough = (count: number) => until(() => seen.length >= count, { what: `${count} requests` })

describe('a canary', () => {
  it('is an unconditional HEAD of the canary image under the name of the origin, over one kept connection', async () => {
    start().set([address()])

    await enough(4)

    for (const [index, request] of seen.entries()) {
      expect(request).toMatchObject({
        method: 'HEAD',
        url: `/v2/${REPOSITORY}/manifests/${image.digest}`,
        headers: {
          host: `registry.internal:${server.port}`,
          'user-agent': `geo-registry canary/test.${index + 1}`,
          accept: image.mediaType,
          authorization: `Bearer for repository:${REPOSITORY}:pull`,
        },
      })
      expect(request.headers).not.toHaveProperty('if-none-match')
    }
    expect(new Set(seen.map(({ remotePort }) => remotePort)).size).toBe(1)
    expect(refusals).toEqual([])
  })

  it('of kind push puts the manifest again', async () => {
    answer = (_, response) => void response.writeHead(201).end()
    start({ kind: 'push' }).set([address()])

    await enough(2)

    expect(seen[0]).toMatchObject({
      method: 'PUT',
      url: `/v2/${REPOSITORY}/manifests/canary`,
      headers: {
        'content-type': image.mediaType,
        'content-length': String(image.manifest.length),
        authorization: `Bearer for repository:${REPOSITORY}:pull,push`,
      },
    })
    expect(refusals).toEqual([])
  })

  it('goes to each instance once in an interval, and never while another is under way there', async () => {
    let held = 0
    let most = 0
    answer = (_, response) => {
      held += 1
      most = Math.max(most, held)
      setTimeout(() => {
        held -= 1
        response.writeHead(200).end()
      }, 30)
    }
    start({ intervalMs: 100 }).set([address()])

    await enough(6)

    const gaps = seen.slice(1).map(({ atMs }, index) => atMs - (seen[index]?.atMs ?? 0))
    for (const gapMs of gaps) expect(gapMs).toBeGreaterThan(80)
    expect(most).toBe(1)
    expect(ticks).toBeGreaterThan(0)
  })

  it('goes to the addresses that are named, and to no other any longer', async () => {
    const canaries = start()
    canaries.set([address('a'), address('b')])
    await until(() => new Set(sent).size === 2, { what: 'canaries to both' })

    canaries.set([address('b')])
    const before = sent.length
    await until(() => sent.length >= before + 3, { what: 'three more' })

    expect(new Set(sent.slice(before))).toEqual(new Set(['b']))
    expect(refusals).toEqual([])
  })

  it('reaches an instance over TLS by its address, and believes the certificate of its name alone', async () => {
    const key = await signingKey({ hosts: ['registry.internal'] })
    const secure = open.use(
      await listen(createServer({ key: key.privateKeyPem, cert: key.certificatePem }, serve), {
        host: '127.0.0.1',
        port: 0,
        onError: () => {},
      }),
    )
    const at = (name: string) => ({
      key: name,
      origin: `https://${name}:${secure.address.port}`,
      ip: '127.0.0.1',
    })
    start({ tls: { ca: key.certificatePem } }).set([at('registry.internal'), at('other.internal')])

    await enough(1)
    await until(() => refusals.length > 0, { what: 'the refusal' })

    expect(seen[0]?.headers.host).toBe(`registry.internal:${secure.address.port}`)
    expect(new Set(refusals.map((refusal) => refusal.address))).toEqual(new Set(['other.internal']))
    expect(refusals[0]?.why).toContain('altnames')
  })
})

describe('a canary counts as refused', () => {
  it('when it is answered anything but 200, and after a 401 with another token the next time', async () => {
    answer = (_, response) => void response.writeHead(seen.length === 1 ? 401 : 200).end()
    start().set([address()])

    await enough(3)

    expect(refusals).toEqual([
      { address: 'a', why: 'it answered 401', userAgent: 'geo-registry canary/test.1' },
    ])
    expect(forgotten).toEqual([`repository:${REPOSITORY}:pull`])
  })

  it('when there is no answer in time, and the next one is sent nevertheless', async () => {
    answer = (_, response) => void (seen.length > 1 && response.writeHead(200).end())
    start({ timeoutMs: 100 }).set([address()])

    await enough(2)

    expect(refusals).toMatchObject([{ address: 'a', why: 'no answer within 100 ms' }])
  })

  it('when nobody listens', async () => {
    await server.stop()
    start().set([address()])

    await until(() => refusals.length > 1, { what: 'two refusals' })

    expect(refusals[0]?.why).toContain('ECONNREFUSED')
  })

  it('when there is no token for it, or none in time', async () => {
    authorization = async () => {
      throw new Error('the login of the site was refused')
    }
    start({ timeoutMs: 100 }).set([address()])
    await until(() => refusals.length > 0, { what: 'the refusal' })

    expect(refusals[0]).toEqual({
      address: 'a',
      why: 'the login of the site was refused',
      userAgent: undefined,
    })

    authorization = (_, signal) =>
      new Promise((_, reject) => signal?.addEventListener('abort', () => reject(new Error('aborted'))))
    await until(() => refusals.at(-1)?.why.includes('within 100 ms'), { what: 'the late token' })
    expect(refusals.at(-1)?.why).toBe(`no token for repository:${REPOSITORY}:pull within 100 ms`)
    expect(seen).toEqual([])
  })
})

it('sends a canary again whose kept connection was just closed, and calls it refused by nobody', async () => {
  const canaries = start()
  answer = (request, response) => {
    if (seen.length === 2) request.socket.destroy()
    else found(response)
  }
  canaries.set([address()])

  await enough(4)

  expect(seen[2]?.headers['user-agent']).toBe(seen[1]?.headers['user-agent'])
  expect(refusals).toEqual([])
})

it('says in one sentence when the canary image may not be pushed, and tries that again only later', async () => {
  answer = (request, response) => {
    if (request.method === 'HEAD') response.writeHead(404).end()
    else response.writeHead(403).end('{"errors":[{"code":"DENIED"}]}')
  }
  start().set([address()])

  await until(() => seen.filter(({ method }) => method === 'HEAD').length > 5, { what: 'more canaries' })

  expect(seen.filter(({ method }) => method === 'POST')).toHaveLength(1)
  expect(refusals[0]?.why).toBe('it answered 404')
  expect(refusals[1]?.why).toMatch(
    /^the canary image could not be pushed to geo-registry\/canary \(upload: answered 403 .*DENIED.*\); create what /,
  )
  expect(logged.join('')).toContain('there can be no watermark')
})

it('ends at once with a canary and a push under way, and refuses nothing by it', async () => {
  answer = (request, response) => void (request.method === 'HEAD' && response.writeHead(404).end())
  const canaries = start()
  canaries.set([address('a'), address('b')])
  await until(() => seen.some(({ method }) => method === 'POST'), { what: 'the push' })
  const before = refusals.length
  const fromMs = performance.now()

  await canaries[Symbol.asyncDispose]()

  expect(performance.now() - fromMs).toBeLessThan(5_000)
  expect(refusals.slice(before).filter(({ why }) => why !== 'it answered 404')).toEqual([])
})
