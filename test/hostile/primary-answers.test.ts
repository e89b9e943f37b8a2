/**
 * Answers of a primary, or of what stands in front of it, in every shape: a client never gets wrong bytes as if they
 * were right, nothing wrong is kept, the login goes nowhere else, and nobody waits longer than was configured.
 */
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { errorCodesOf } from '../../src/oci/errors.ts'
import { FULL_ACCEPT, MEDIA_TYPES } from '../../src/oci/media-types.ts'
import { type OneSite, startOneSite } from '../e2e/one-site.ts'
import { expectSoundStore } from '../e2e/store-files.ts'
import { type HttpListener, listenHttp } from '../support/http-listener.ts'
import { buildImage, type Image } from '../support/images.ts'
import { mintToken, repositoryAccess } from '../support/keys.ts'
import {
  type HonestAnswer,
  type Lie,
  type LyingPrimary,
  startLyingPrimary,
} from '../support/lying-primary.ts'
import { until } from '../support/wait.ts'
import { HOSTILE_TIMEOUT_MS, holds, LATIN, SEEDED } from './hostile.ts'
import { exchangeRaw, type RawAnswer, requestBytes } from './raw-exchange.ts'

/** Each question is about a repository of its own, so that many can be under way at once. */
const nameOf = (id: number) => `team/app${id}`
const OTHER = `sha256:${'0'.repeat(64)}`
/** Several of the timeouts below; a blob that breaks off is tried five more times over some four seconds. */
const PATIENCE_MS = 4000
const BLOB_PATIENCE_MS = 10_000

let primary: LyingPrimary
let elsewhere: HttpListener
/** Authorizations that reached the other place. */
const leaked: unknown[] = []
let one: OneSite
let cases = 0

beforeAll(async () => {
  primary = await startLyingPrimary()
  elsewhere = await listenHttp((request, response) => {
    if (request.headers.authorization !== undefined) leaked.push(request.headers.authorization)
    response.end('somebody else')
  })
  one = await startOneSite(primary.url, {
    upstream: { timeouts: { idle: '300ms', head: '600ms', write: '600ms', tag: '300ms' } },
    http: { idletimeout: '1s' },
  })
})
afterAll(async () => {
  for (const owned of [one, elsewhere, primary]) await owned[Symbol.asyncDispose]()
})

/** Stand in for the digest and the size of what is asked for until that is known. */
const RIGHT = '1'.repeat(64)
const RIGHT_BYTES = 300

/** What is wrong with one answer. */
interface Shape {
  readonly status: number | undefined
  /** Names to values; undefined takes the honest one out, `=` keeps it. */
  readonly headers: readonly (readonly [name: string, value: string | undefined])[]
  readonly body: 'honest' | 'none' | 'half' | 'flipped' | 'longer' | 'page' | 'json' | 'error'
  readonly end: 'closed' | 'reset' | 'silent'
}

const digests = (right: string) => [
  right,
  OTHER,
  'sha256:beef',
  '',
  right.toUpperCase(),
  `${right} `,
  'sha1:a',
]
const statuses = [
  200, 200, 200, 206, 206, 201, 202, 204, 304, 301, 302, 303, 307, 308, 400, 401, 403, 404, 405,
]
const shapes = (right: string, size: number): fc.Arbitrary<Shape> => {
  const lengths = [size, size - 1, size + 1, 0, 999_999_999_999_999, 5e6].map(String)
  const values: Record<string, readonly (string | undefined)[]> = {
    'content-length': [...lengths, undefined, '-1', '0x10', '1, 2', '1e3', '18446744073709551616'],
    'docker-content-digest': [...digests(right), undefined],
    'content-type': ['text/html', 'TEXT/HTML', 'application/json', '', 'a'.repeat(9000), undefined],
    'content-range': [
      ...[`bytes 0-${size - 1}/${size}`, `bytes 0-${size - 1}/*`, `bytes 1-${size - 1}/${size}`, 'bytes */0'],
      ...[
        `bytes 0-${size - 1}/999999999999999`,
        `bytes 0-0/${size}`,
        `bytes 0-${size}/${size}`,
        'items 0-1/2',
      ],
    ],
    'content-encoding': ['gzip', 'br', 'identity', 'x'],
    'transfer-encoding': ['chunked', 'gzip, chunked', 'identity', 'chunked, chunked'],
    location: locations(),
    link: ['</v2/x>; rel="next"', '<//evil/x>; rel=next', '<', `<${'<'.repeat(9000)}`],
    etag: [`"${right}"`, `W/"${right}"`, '"x"', `"${OTHER}"`],
    'retry-after': ['0', '-1', '99999999999999', 'soon', '\xe9', ''],
    'www-authenticate': ['Bearer realm="http://evil/"', 'Basic', '\xff', 'Bearer realm="'],
    connection: ['close', 'keep-alive, content-length', 'docker-content-digest', 'upgrade'],
    range: ['0-0', '0-99', '5-1', '0-99999999999999', 'bytes=0-1'],
    warning: ['299 - "x"', '\xff'],
    upgrade: ['h2c', 'websocket'],
    __proto__x: ['1'],
  }
  const header = fc.oneof(
    ...Object.entries(values).map(([name, all]) => fc.tuple(fc.constant(name), fc.constantFrom(...all))),
    fc.tuple(
      fc.constantFrom('x-any', 'set-cookie', 'alt-svc', 'constructor'),
      fc.string({ unit: LATIN, maxLength: 8 }),
    ),
  )
  return fc.record({
    status: fc.oneof(
      fc.constant(undefined),
      fc.constantFrom(...statuses, 416, 429, 500, 502, 503, 599, 600, 999),
      fc.integer({ min: 100, max: 999 }),
    ),
    headers: fc.array(header, { maxLength: 4 }),
    body: fc.constantFrom('honest', 'honest', 'none', 'half', 'flipped', 'longer', 'page', 'json', 'error'),
    end: fc.oneof(
      { weight: 18, arbitrary: fc.constant<'closed'>('closed') },
      { weight: 2, arbitrary: fc.constant<'reset'>('reset') },
      { weight: 1, arbitrary: fc.constant<'silent'>('silent') },
    ),
  })
}

function locations(): string[] {
  return [
    ...[`${elsewhere.url}/blob`, `${elsewhere.url}/v2/team/app/blobs/uploads/u`, 'http://127.0.0.1:1/x'],
    ...['file:///etc/passwd', 'ftp://x/y', 'javascript:1', 'data:,x', '//', '\\\\', 'http://[', '', '?', '#'],
    ...[
      '/v2/team/app1/blobs/uploads/u?x=1',
      '../../../../etc',
      `//${elsewhere.url.slice(7)}/x`,
      '\xff',
      '/\t/x',
    ],
  ]
}

function bodyOf(shape: Shape['body'], honest: Buffer): Buffer {
  const flipped = Buffer.from(honest)
  if (flipped.length > 0) flipped.writeUInt8(flipped.readUInt8(flipped.length - 1) ^ 1, flipped.length - 1)
  const bodies: Record<Shape['body'], Buffer> = {
    honest,
    none: Buffer.alloc(0),
    half: honest.subarray(0, honest.length >> 1),
    flipped,
    longer: Buffer.concat([honest, Buffer.from('more of it')]),
    page: Buffer.from('<html><body>sign in</body></html>'),
    json: Buffer.from('{"schemaVersion":2,"config":{},"layers":[],"__proto__":{"x":1}}'),
    error: Buffer.from('{"errors":[{"code":"BLOB_UNKNOWN","message":"\\u0000"},null,{"code":7}]}'),
  }
  return bodies[shape]
}

/** The answer as bytes: node's own server would not say most of it. */
function toldAs({ status, headers, body, end }: Shape): Lie {
  return ({ request, response, honest }) => {
    const { socket } = response
    if (!socket) return
    const told = bytesOf(honest, status ?? honest.status, headers, bodyOf(body, honest.body))
    socket.write(request.method === 'HEAD' ? told.head : Buffer.concat([told.head, told.body]))
    if (end === 'closed') socket.end()
    if (end === 'reset') setTimeout(() => socket.resetAndDestroy(), 5)
  }
}

function bytesOf(honest: HonestAnswer, status: number, changes: Shape['headers'], body: Buffer) {
  const fields = new Map(Object.entries({ 'content-length': String(body.length), ...honest.headers }))
  for (const [name, value] of changes) {
    if (value === undefined) fields.delete(name)
    else fields.set(name, value)
  }
  const lines = [...fields].map(([name, value]) => `${name}: ${value}`)
  const head = Buffer.from(`HTTP/1.1 ${status} Told\r\n${lines.join('\r\n')}\r\n\r\n`, 'latin1')
  return { head, body }
}

type Ask = readonly [method: string, target: string, body?: Buffer]

function asksOf(name: string, image: Image): Record<string, Ask> {
  const [, layer] = image.blobs
  const blob = `/v2/${name}/blobs/${layer?.digest}`
  return {
    blob: ['GET', blob],
    'blob, its head': ['HEAD', blob],
    'manifest by tag': ['GET', `/v2/${name}/manifests/v1`],
    'manifest by digest': ['GET', `/v2/${name}/manifests/${image.digest}`],
    'manifest, its head': ['HEAD', `/v2/${name}/manifests/v1`],
    tags: ['GET', `/v2/${name}/tags/list`],
    referrers: ['GET', `/v2/${name}/referrers/${image.digest}`],
    'new upload': ['POST', `/v2/${name}/blobs/uploads/`],
    'blob at once': [
      'POST',
      `/v2/${name}/blobs/uploads/?digest=${digestOf(Buffer.from('x'))}`,
      Buffer.from('x'),
    ],
    'piece of an upload': ['PATCH', `/v2/${name}/blobs/uploads/u-1?s=1`, Buffer.from('xyz')],
    'end of an upload': [
      'PUT',
      `/v2/${name}/blobs/uploads/u-1?digest=${digestOf(Buffer.from('x'))}`,
      Buffer.from('x'),
    ],
    'pushed manifest': ['PUT', `/v2/${name}/manifests/pushed`, image.bytes],
    'deleted manifest': ['DELETE', `/v2/${name}/manifests/${image.digest}`],
  }
}

interface Case {
  readonly kind: string
  /** Only for reads; whoever writes may write. */
  readonly mayWrite: boolean
  readonly shape: Shape
}

/** Puts one question while the primary answers it in this shape. */
async function play({ kind, mayWrite, shape }: Case): Promise<void> {
  const id = ++cases
  const name = nameOf(id)
  const image = await buildImage({ seed: `hostile ${id}`, layers: [200], gzip: false })
  await primary.hold(name, image, 'v1')
  const wanted = asksOf(name, image)[kind]
  if (!wanted) throw new Error(`no such question: ${kind}`)
  const isRead = wanted[0] === 'GET' || wanted[0] === 'HEAD'
  const takeBack = primary.lie('*', new RegExp(`^/v2/${name}/`), toldAs(fitted(shape, wanted, image)))
  try {
    const actions = isRead && !mayWrite ? ['pull'] : ['pull', 'push', 'delete']
    const startedAt = performance.now()
    const answer = await ask(wanted, await tokenFor(name, actions))
    const patienceMs = kind === 'blob' ? BLOB_PATIENCE_MS : PATIENCE_MS
    expect(performance.now() - startedAt, kind).toBeLessThan(patienceMs)
    expectTrue(kind, answer, shape.status, image)
  } finally {
    takeBack()
  }
}

async function tokenFor(name: string, actions: readonly string[]): Promise<string> {
  return `Bearer ${await mintToken(one.key, { access: [repositoryAccess(name, actions)] })}`
}

async function ask([method, target, body]: Ask, authorization: string): Promise<RawAnswer> {
  const headers = [
    ['authorization', authorization],
    ['accept', FULL_ACCEPT],
    ...(method === 'PUT' ? [['content-type', MEDIA_TYPES.ociManifest] as const] : []),
  ] as const
  const answer = await exchangeRaw(one.site.port, requestBytes({ method, target, headers, body }), method)
  if (!answer) throw new Error('the site closed the connection without an answer')
  return answer
}

function expectTrue(kind: string, answer: RawAnswer, said: number | undefined, image: Image): void {
  const { status, headers, body, isWhole } = answer
  const isRead = ['blob', 'manifest', 'tags'].some((word) => kind.startsWith(word)) && kind !== 'blob at once'
  // A write's answer is the primary's, whatever it is, and so is that of the referrers.
  if (isRead) expect(status, kind).toBeOneOf([...PLAIN_STATUSES, said])
  expect(status === 500 && said !== 500, `${kind}: ${body.toString()}`).toBe(false)
  if (kind === 'blob' && status === 200 && isWhole) expect(digestOf(body)).toBe(image.blobs[1]?.digest)
  if (kind === 'manifest by digest' && status === 200 && isWhole) expect(digestOf(body)).toBe(image.digest)
  if (
    kind === 'manifest by tag' &&
    status === 200 &&
    isWhole &&
    headers['geo-registry-source'] !== 'primary'
  ) {
    expect(headers['docker-content-digest']).toBe(digestOf(body))
  }
  if (kind === 'tags' && status === 200) expect(headers['content-type'] ?? '').not.toMatch(/^text\//i)
  if (status >= 400 && headers['geo-registry-source'] === 'local' && !kind.endsWith('its head')) {
    expect(errorCodesOf(body), kind).not.toEqual([])
  }
}

const PLAIN_STATUSES = [200, 206, 304, 401, 403, 404, 416, 429, 502, 503]

describe(`an answer of the primary in any shape (${SEEDED})`, { timeout: HOSTILE_TIMEOUT_MS }, () => {
  it('costs no client more than an error, and the store keeps nothing wrong', async () => {
    const kinds = Object.keys(asksOf('a', await buildImage()))
    const one = fc.record({
      kind: fc.constantFrom(...kinds),
      mayWrite: fc.boolean(),
      shape: shapes(`sha256:${RIGHT}`, RIGHT_BYTES),
    })
    // Many at once: some must wait until a timeout is over.
    const property = fc.asyncProperty(fc.array(one, { minLength: 1, maxLength: 40, size: 'max' }), (all) =>
      Promise.all(all.map(play)).then(() => undefined),
    )

    await holds(property, { runs: 8 })

    expect(leaked).toEqual([])
  })

  it('leaves a store that is sound, and no error of the site’s own in its log', async () => {
    await expectSoundStore(one.site.root)
    expect(one.site.lines.filter(({ level }) => level === 'error' || level === 'fatal')).toEqual([])
  })

  it('leaves a site that answers as ever once the primary is honest', async () => {
    const name = nameOf(++cases)
    const image = await buildImage({ seed: 'honest again', layers: [200], gzip: false })
    await primary.hold(name, image, 'v1')
    const asks = asksOf(name, image)
    const token = await tokenFor(name, ['pull'])
    // Connections that the primary left silent are only known as such once a question has waited on them.
    await until(async () => (await ask(asks['manifest by tag'] ?? NONE, token)).status === 200, {
      what: 'the primary to be believed again',
    })
    const blob = await ask(asks['blob'] ?? NONE, token)
    expect([blob.status, digestOf(blob.body)]).toEqual([200, image.blobs[1]?.digest])
  })
})

const NONE: Ask = ['GET', '/v2/']

/** Sizes and digests that were made up become those of what is asked for. */
function fitted(shape: Shape, [, target]: Ask, image: Image): Shape {
  const blob = image.blobs[1]
  const right: Digest | undefined = target.includes('/blobs/') ? blob?.digest : image.digest
  const size = target.includes('/blobs/') ? (blob?.sizeBytes ?? 0) : image.bytes.length
  const suited = (value: string) =>
    value
      .replaceAll(RIGHT, right?.slice(7) ?? '')
      .replaceAll(/\b(299|300|301)\b/g, (text) => String(size + Number(text) - RIGHT_BYTES))
  return { ...shape, headers: shape.headers.map(([name, value]) => [name, value && suited(value)] as const) }
}
