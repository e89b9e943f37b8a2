/** Headers that choose a part or a form of what is held: whatever they say, what is sent is what its head says it is. */
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { endToEndHeaders, matchesEtag } from '../../src/oci/headers.ts'
import { FULL_ACCEPT, MEDIA_TYPES } from '../../src/oci/media-types.ts'
import { parseContentRange, parseUploadRange } from '../../src/oci/ranges.ts'
import { contentBytes } from '../support/content.ts'
import { type GeoRegistry, startGeoRegistry } from '../support/geo-registry.ts'
import { buildImage, type Image } from '../support/images.ts'
import { type LyingPrimary, startLyingPrimary } from '../support/lying-primary.ts'
import { HOSTILE_TIMEOUT_MS, holds, LATIN, mutated, SEEDED } from './hostile.ts'
import { exchangeRaw, type RawAnswer, requestBytes } from './raw-exchange.ts'

const NAME = 'team/app'

let primary: LyingPrimary
let site: GeoRegistry
let image: Image
let layer: { readonly digest: Digest; readonly bytes: Buffer }

beforeAll(async () => {
  primary = await startLyingPrimary()
  site = await startGeoRegistry({ primary: primary.url })
  image = await buildImage({ seed: 'headers', layers: [3000], gzip: false })
  const [, held] = image.blobs
  if (!held) throw new Error('an image has layers')
  layer = { digest: held.digest, bytes: await contentBytes(held) }
  await primary.hold(NAME, image, 'v1')
  for (const path of [`blobs/${layer.digest}`, 'manifests/v1']) {
    expect((await read(path, [['accept', FULL_ACCEPT]])).status).toBe(200)
  }
})
afterAll(async () => {
  for (const owned of [site, primary]) await owned[Symbol.asyncDispose]()
})

type Fields = readonly (readonly [name: string, value: string])[]

async function read(path: string, headers: Fields): Promise<RawAnswer> {
  const bytes = requestBytes({ method: 'GET', target: `/v2/${NAME}/${path}`, headers })
  const answer = await exchangeRaw(site.port, bytes, 'GET')
  if (!answer?.isWhole) throw new Error('no whole answer')
  return answer
}

const value = (text: string) => text.replaceAll(/[^\t\x20-\x7e\x80-\xff]/g, '')

/** What a part says that it is. */
function expectPart(contentRange: string | undefined, bytes: Buffer): void {
  const range = parseContentRange(contentRange)
  expect(range, contentRange).toBeDefined()
  if (!range) return
  expect(range.sizeBytes).toBe(layer.bytes.length)
  expect(bytes.equals(layer.bytes.subarray(range.start, range.end + 1))).toBe(true)
}

function expectParts(boundary: string, body: Buffer): void {
  const text = body.toString('latin1')
  const [first, ...parts] = `\r\n${text}`.split(`\r\n--${boundary}`)
  expect([first, parts.at(-1)]).toEqual(['', '--\r\n'])
  for (const part of parts.slice(0, -1)) {
    const end = part.indexOf('\r\n\r\n')
    const contentRange = /content-range: ([^\r]*)/.exec(part.slice(0, end))?.[1]
    expectPart(contentRange, Buffer.from(part.slice(end + 4), 'latin1'))
  }
}

function expectBlob({ status, headers, body }: RawAnswer): void {
  expect(status).toBeOneOf([200, 206, 304, 416])
  // However the ranges overlap, they cost no more than the blob.
  expect(body.length).toBeLessThan(layer.bytes.length + 64 * 256)
  if (status === 200) expect(body.equals(layer.bytes)).toBe(true)
  if (status === 416) expect(headers['content-range']).toBe(`bytes */${layer.bytes.length}`)
  if (status !== 206) return
  const boundary = /^multipart\/byteranges; boundary=(\w+)$/.exec(headers['content-type'] ?? '')?.[1]
  if (boundary) expectParts(boundary, body)
  else expectPart(headers['content-range'], body)
}

const position = fc.oneof(
  fc.nat(5000),
  fc.constantFrom('', '-1', '9'.repeat(16), '0x1', '1e3', ' 1', '١', '00000001'),
)
const spec = fc.tuple(position, position).map(([start, end]) => `${start}-${end}`)
const ranges = fc
  .tuple(
    fc.constantFrom('bytes=', 'bytes=', 'bytes=', 'Bytes=', 'bytes =', 'items=', ''),
    fc.array(spec, { maxLength: 70 }),
  )
  .map(([unit, specs]) => unit + specs.join(','))
const range = fc.oneof(ranges, mutated(ranges), mutated(fc.constant('bytes=0-10,20-30,-5'))).map(value)

describe(`a blob that is held (${SEEDED})`, { timeout: HOSTILE_TIMEOUT_MS }, () => {
  it('is sent in the parts that its answer names, whatever Range and If-Range say', async () => {
    const tags = [
      `"${layer.digest}"`,
      `W/"${layer.digest}"`,
      layer.digest,
      '*',
      '"x"',
      'Wed, 21 Oct 2026 07:28:00 GMT',
      '',
    ]
    const condition = fc.option(
      fc.oneof(fc.constantFrom(...tags), mutated(fc.constantFrom(...tags)).map(value)),
      {
        nil: undefined,
      },
    )
    const property = fc.asyncProperty(range, condition, async (asked, ifRange) => {
      const answer = await read(`blobs/${layer.digest}`, [
        ['range', asked],
        ...(ifRange === undefined ? [] : [['if-range', ifRange] as const]),
      ])
      expectBlob(answer)
      // Only the one strong tag may make it a part.
      if (ifRange !== undefined && ifRange.trim() !== `"${layer.digest}"`) expect(answer.status).toBe(200)
    })

    await holds(property, { runs: 400 })
  })

  it('is sent whole, or not changed, whatever If-None-Match says', async () => {
    const tags = [
      `"${layer.digest}"`,
      `W/"${layer.digest}"`,
      layer.digest,
      '*',
      '"x", "y"',
      `"x", "${layer.digest}"`,
    ]
    const header = fc.oneof(fc.constantFrom(...tags), mutated(fc.constantFrom(...tags))).map(value)
    const property = fc.asyncProperty(header, async (given) => {
      const { status, body } = await read(`blobs/${layer.digest}`, [['if-none-match', given]])
      expect(status).toBe(matchesEtag(given.trim(), `"${layer.digest}"`) ? 304 : 200)
      // A client that names neither the blob nor everything has something else.
      if (status === 304) expect(given.includes(layer.digest) || given.includes('*')).toBe(true)
      else expect(body.equals(layer.bytes)).toBe(true)
    })

    await holds(property, { runs: 200 })
  })
})

describe(`a manifest that is held (${SEEDED})`, { timeout: HOSTILE_TIMEOUT_MS }, () => {
  it('is the one that its head names, of a type that was asked for literally or by the primary’s choice', async () => {
    const types = [
      ...Object.values(MEDIA_TYPES),
      FULL_ACCEPT,
      '*/*',
      'application/*',
      'text/html',
      ';q=1',
      ',',
      ';',
    ]
    const lists = fc.array(fc.constantFrom(...types), { maxLength: 5 }).map((all) => all.join(', '))
    const accept = fc.oneof(lists, mutated(lists), fc.string({ unit: LATIN, maxLength: 30 })).map(value)
    const property = fc.asyncProperty(
      accept,
      fc.constantFrom('v1', image.digest),
      async (given, reference) => {
        const { status, headers, body } = await read(`manifests/${reference}`, [['accept', given]])
        expect(status).toBe(200)
        expect([digestOf(body), headers['docker-content-digest']]).toEqual([image.digest, image.digest])
        expect(headers['content-type']).toBe(image.mediaType)
      },
    )

    await holds(property, { runs: 250 })
  })
})

describe(`the readers of headers (${SEEDED})`, { timeout: HOSTILE_TIMEOUT_MS }, () => {
  it('take from a Content-Range only what lies within what it says', async () => {
    const seeds = ['bytes 0-99/1000', 'bytes 0-0/1', 'bytes */5', 'bytes 5-1/10', '0-1023', 'bytes=0-1']
    const header = fc.oneof(mutated(fc.constantFrom(...seeds)), fc.string({ unit: LATIN }))
    const property = fc.property(header, (text) => {
      const range = parseContentRange(text)
      if (range) {
        expect(0 <= range.start && range.start <= range.end && range.end < range.sizeBytes).toBe(true)
        expect(Number.isSafeInteger(range.sizeBytes)).toBe(true)
      }
      const upload = parseUploadRange(text)
      if (upload) expect(Number.isSafeInteger(upload.start) && Number.isSafeInteger(upload.end)).toBe(true)
    })

    await holds(property, { runs: 2000 })
  })

  it('pass on no header of the connection, however it is named', async () => {
    const names = [
      'connection',
      'Keep-Alive',
      'te',
      'x-a',
      'transfer-encoding',
      'etag',
      '__proto__',
      'constructor',
      '',
    ]
    const list = fc.array(fc.constantFrom(...names), { maxLength: 6 }).map((all) => all.join(' , '))
    const property = fc.property(fc.oneof(list, mutated(list)), (connection) => {
      const all = {
        connection,
        'x-a': '1',
        etag: '"a"',
        te: 'trailers',
        upgrade: 'x',
        'transfer-encoding': 'chunked',
      }
      const kept = Object.keys(endToEndHeaders(all))
      const named = connection
        .toLowerCase()
        .split(',')
        .map((name) => name.trim())
      expect(kept.filter((name) => !['x-a', 'etag'].includes(name) || named.includes(name))).toEqual([])
    })

    await holds(property, { runs: 1000 })
  })
})
