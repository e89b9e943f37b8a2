/** The whole public listener of a running site under requests of every shape that is still one request of HTTP. */
import { randomUUID } from 'node:crypto'
import { readdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { errorCodesOf } from '../../src/oci/errors.ts'
import { FULL_ACCEPT } from '../../src/oci/media-types.ts'
import { expectSoundStore, treeOf } from '../e2e/store-files.ts'
import { type GeoRegistry, startGeoRegistry } from '../support/geo-registry.ts'
import { buildImage, type Image } from '../support/images.ts'
import { type LyingPrimary, startLyingPrimary } from '../support/lying-primary.ts'
import { HOSTILE_TIMEOUT_MS, holds, LATIN, mutated, PIECES, SEEDED } from './hostile.ts'
import { exchangeRaw, type RawAnswer, type RawRequest, requestBytes } from './raw-exchange.ts'

const NAME = 'team/app'
/** Lies beside the store, where no answer may come from. */
const CANARY = `canary-${randomUUID()}`

let primary: LyingPrimary
let site: GeoRegistry
let image: Image
let around: string[]

beforeAll(async () => {
  primary = await startLyingPrimary()
  image = await buildImage({ seed: 'surface', layers: [2000], gzip: false })
  await primary.hold(NAME, image, 'v1')
  await primary.hold('a'.repeat(255), image, 'v1')
  site = await startGeoRegistry({ primary: primary.url, config: { auth: { none: { push: true } } } })
  await writeFile(join(dirname(site.root), 'data'), CANARY)
  await writeFile(join(dirname(site.root), 'link'), CANARY)
  around = await besides()
  for (const target of [
    `/v2/${NAME}/manifests/v1`,
    ...image.blobs.map(({ digest }) => `/v2/${NAME}/blobs/${digest}`),
  ]) {
    const held = requestBytes({ method: 'GET', target, headers: [['accept', FULL_ACCEPT]] })
    expect((await exchangeRaw(site.port, held, 'GET'))?.status).toBe(200)
  }
})
afterAll(async () => {
  for (const owned of [site, primary]) await owned[Symbol.asyncDispose]()
})

/** Everything in the folder that holds the store, the store apart. */
async function besides(): Promise<string[]> {
  return (await treeOf(dirname(site.root))).filter((line) => !line.startsWith('root'))
}

/** No line of HTTP can hold these; a space ends the target. */
const isTarget = (text: string) => !/[\r\n ]/.test(text) && text !== ''

function targets(held: Image): fc.Arbitrary<string> {
  const digests = held.blobs.map(({ digest }) => digest)
  const names = [
    NAME,
    'a',
    'a'.repeat(255),
    `${'a/'.repeat(127)}b`,
    'a'.repeat(256),
    'team/manifests/v1',
    'x/blobs/uploads',
  ]
  const references = [
    'v1',
    held.digest,
    `sha512:${'a'.repeat(128)}`,
    ...digests,
    'sha256:',
    'md5:abc',
    '_',
    '..',
    '',
  ]
  const kinds = [
    'manifests',
    'blobs',
    'referrers',
    'blobs/uploads',
    'tags',
    'uploads',
    '_layers',
    '_manifests/tags',
  ]
  const proper = fc
    .tuple(fc.constantFrom(...names), fc.constantFrom(...kinds), fc.constantFrom(...references, 'list'))
    .map(([name, kind, last]) => `/v2/${name}/${kind}/${last}`)
  const other = fc.constantFrom(
    '/',
    '/v2',
    '/v2/',
    '/v2/_catalog',
    '/jwt/auth',
    '*',
    'http://x/v2/',
    '/v2//',
    '//v2/',
  )
  const components = fc
    .array(fc.constantFrom(...names, ...kinds, ...references, ...PIECES), { maxLength: 8 })
    .map((parts) => `/v2/${parts.join('/')}`)
  const path = fc.oneof(proper, mutated(proper), mutated(other), other, components)
  const parameter = fc.tuple(
    fc.constantFrom('digest', 'mount', 'from', 'n', 'last', 'tag', '_geo', '_state', 'scope', 'service', 'x'),
    fc.oneof(
      fc.constantFrom(...digests, ...names, ...PIECES, '0', '-1', '1e9', '%', '%zz', `sha256:..%2F..%2Fx`),
      fc.string({ unit: LATIN, maxLength: 6 }),
    ),
  )
  const query = fc
    .array(parameter, { maxLength: 4 })
    .map((all) => (all.length === 0 ? '' : `?${all.map(([name, value]) => `${name}=${value}`).join('&')}`))
  return fc.tuple(path, query).map(([one, two]) => (one + two).replaceAll(/[\r\n ]/g, '%20'))
}

/** Framing is another test's: none here says how long the request is, nor that there is another. */
const headers: fc.Arbitrary<[string, string][]> = fc.array(
  fc.tuple(
    fc.constantFrom(
      ...[
        'accept',
        'accept-encoding',
        'authorization',
        'range',
        'if-range',
        'if-none-match',
        'if-match',
        'host',
      ],
      ...[
        'content-type',
        'content-range',
        'content-encoding',
        'x-request-id',
        'x-forwarded-for',
        'x-forwarded-host',
      ],
      ...[
        'forwarded',
        'via',
        'cookie',
        'te',
        'trailer',
        'origin',
        'connection',
        '__proto__',
        'constructor',
        'x-http-method-override',
      ],
    ),
    fc.oneof(
      fc.constantFrom(
        ...[
          'bytes=0-',
          'bytes=5-1',
          'bytes=-1',
          'bytes=0-0,2-3',
          `bytes=${'0-1,'.repeat(99)}0-1`,
          '*',
          '*/*',
          '"',
          'W/"x"',
        ],
        ...[
          'gzip',
          'Bearer x',
          'Basic !',
          '0-99',
          '5-1',
          'bytes 0-1/2',
          'text/html',
          'close, content-length',
          'for=1',
        ],
        ...[
          '127.0.0.1',
          '::1, x',
          'a'.repeat(8000),
          FULL_ACCEPT,
          'application/vnd.oci.image.index.v1+json;q=0',
        ],
      ),
      fc
        .string({ unit: LATIN, maxLength: 20 })
        .map((text) => text.replaceAll(/[^\t\x20-\x7e\x80-\xff]/g, '')),
    ),
  ),
  { maxLength: 5 },
)

const methods = [
  'GET',
  'GET',
  'HEAD',
  'PUT',
  'POST',
  'PATCH',
  'DELETE',
  'OPTIONS',
  'TRACE',
  'PROPFIND',
  'QUERY',
  'get',
  'X',
]

/** Where the parser refuses a request by itself, no handler has seen it. */
const PARSER_STATUSES = [400, 408, 417, 431]

function expectWellFormed({ method, target }: RawRequest, answer: RawAnswer | undefined): void {
  if (!answer) throw new Error('the site closed the connection without an answer')
  const { status, headers: fields, body, isWhole } = answer
  expect(isWhole).toBe(true)
  expect(body.includes(CANARY) || body.includes('root:x:0:0')).toBe(false)
  if (fields['geo-registry-source'] === undefined) {
    expect([PARSER_STATUSES.includes(status), body.length]).toEqual([true, 0])
    return
  }
  // 502 and 503 are the primary's state; it is here and honest, and has no catalog.
  const allowed = /^\/v2\/_catalog(\?|$)/.test(target) ? [502] : []
  if (status >= 500) expect(allowed, body.toString()).toContain(status)
  if (status >= 400 && method !== 'HEAD') {
    expect(fields['content-type']).toMatch(/^application\/json/)
    expect(errorCodesOf(body)).not.toEqual([])
  }
}

describe(`the public listener (${SEEDED})`, { timeout: HOSTILE_TIMEOUT_MS }, () => {
  it('answers whatever path, query, header and body with HTTP, its errors in OCI’s words, none of them its own', async () => {
    const body = fc.option(fc.oneof(fc.uint8Array({ maxLength: 40 }), fc.constant(image.bytes)), {
      nil: undefined,
    })
    const request = fc.record({
      method: fc.constantFrom(...methods),
      target: targets(image).filter(isTarget),
      headers,
      body: body.map((bytes) => bytes && Buffer.from(bytes)),
    })
    const property = fc.asyncProperty(request, async (sent) => {
      expectWellFormed(sent, await exchangeRaw(site.port, requestBytes(sent), sent.method))
    })

    await holds(property, { runs: 800 })
  })

  it('has read and written nothing outside of the store, and only what belongs there inside', async () => {
    expect(await besides()).toEqual(around)
    await expectSoundStore(site.root)
    const foreign = (await readdir(site.root, { recursive: true })).filter((path) => !isPlaced(path))
    expect(foreign).toEqual([])
  })

  it('has thrown nothing that nobody caught, and is the same process as before', async () => {
    expect(site.lines.filter(({ level }) => level === 'error' || level === 'fatal')).toEqual([])
    expect(site.logs()).not.toMatch(/unhandled|UnhandledPromise|Warning:/i)
    const answer = await exchangeRaw(site.port, requestBytes({ method: 'GET', target: '/v2/' }), 'GET')
    expect(answer?.status).toBe(200)
    expect(site.lines.filter(({ msg }) => msg === 'stopping')).toEqual([])
  })
})

/** Where a path below the root may lie: the layout's folders and our own, by names that the grammar knows. */
function isPlaced(path: string): boolean {
  const [first, second, third, fourth, ...rest] = path.split('/')
  if (first === 'geo-registry') return true
  if (first !== 'docker' || (second ?? 'registry') !== 'registry') return false
  if (third === undefined || third === 'lockfiles') return true
  if (third !== 'v2' || (fourth ?? 'blobs') === 'blobs') return third === 'v2'
  const end = rest.findIndex((part) => part.startsWith('_'))
  const name = rest.slice(0, end === -1 ? undefined : end)
  return fourth === 'repositories' && name.every((part) => /^[a-z0-9]+([._-]+[a-z0-9]+)*$/.test(part))
}
