/**
 * "Bad input", the primary's side: whatever it sends that is not what was asked for, the client gets 502 or a cut
 * connection, nothing of it is kept, and the next request tries again.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import { errorCodesOf } from '../../src/oci/errors.ts'
import { contentBytes } from '../support/content.ts'
import { buildImage, type Image } from '../support/images.ts'
import {
  endlessHeaders,
  gzipped,
  html,
  redirect,
  shortBody,
  truncatedBody,
  withHeaders,
  wrongBytes,
} from '../support/lies.ts'
import { type Lie, type LyingPrimary, startLyingPrimary } from '../support/lying-primary.ts'
import type { Answer, DrainedAnswer, RegistryApi } from '../support/registry-api.ts'
import { until } from '../support/wait.ts'
import { asWhole, chunked, huge, lengthOffBy, wrongRange } from './framing-lies.ts'
import { type OneSite, sourceOf, startOneSite } from './one-site.ts'
import { expectSoundStore, isPublished, spoolsOf } from './store-files.ts'

const NAME = 'team/app'
const LAYER_BYTES = 300_000
const HELD_BACK_BYTES = 64 * 1024
const OTHER = `sha256:${'0'.repeat(64)}`

let primary: LyingPrimary
let one: OneSite
let reader: RegistryApi
let image: Image
let seed = 0

beforeAll(async () => {
  primary = await startLyingPrimary()
  one = await startOneSite(primary.url, { upstream: { timeouts: { idle: '300ms', head: '1s' } } })
  reader = await one.client({ [NAME]: ['pull'] })
})
afterAll(async () => {
  await one[Symbol.asyncDispose]()
  await primary[Symbol.asyncDispose]()
})
beforeEach(async () => {
  seed += 1
  image = await buildImage({ seed: `lies ${seed}`, layers: [LAYER_BYTES], gzip: false })
  await primary.hold(NAME, image, `v${seed}`)
})

const outcomeOf = ({ status, cut }: DrainedAnswer) => (status === 200 && cut ? 'cut' : String(status))

describe('a blob', () => {
  it.each<[string, Lie, string]>([
    ['a body that ends early', shortBody(), 'cut'],
    ['half of it as if it were all', asWhole(truncatedBody()), 'cut'],
    ['half of it under the range of all', truncatedBody(), '502'],
    ['a wrong first byte', wrongBytes(0), 'cut'],
    ['a wrong last byte', wrongBytes(), 'cut'],
    ['a Content-Length that is too long', asWhole(lengthOffBy(100)), 'cut'],
    ['a Content-Length that is too short', asWhole(lengthOffBy(-100)), 'cut'],
    ['no Content-Length', asWhole(chunked), '502'],
    ['a compressed body', gzipped(), '502'],
    ['headers without end', endlessHeaders(), '502'],
    ['a redirect to itself', redirect(), '502'],
    ['a redirect to a file', redirect('file:///etc/passwd'), '502'],
    ['a web page', html(200), '502'],
    ['another digest in its head', withHeaders({ 'docker-content-digest': OTHER }), '502'],
    ['a part that was not asked for', wrongRange, '502'],
  ])('that the primary sends as %s never ends as if it were right', async (_, lie, expected) => {
    const [, layer] = image.blobs
    if (!layer) throw new Error('an image has layers')
    const takeBack = primary.lie('GET', `/v2/${NAME}/blobs/${layer.digest}`, lie)
    onTestFinished(takeBack)

    const lied = await reader.getBlob(NAME, layer.digest)

    expect(outcomeOf(lied)).toBe(expected)
    // The end is held back of what the primary says it is: up to 100 bytes more than there are.
    if (expected === 'cut')
      expect(lied.sizeBytes).toBeLessThanOrEqual(layer.sizeBytes + 100 - HELD_BACK_BYTES)
    expect(await isPublished(one.site.root, layer.digest)).toBe(false)
    takeBack()
    const honest = await reader.getBlob(NAME, layer.digest)
    expect([honest.status, honest.digest]).toEqual([200, layer.digest])
    await until(() => isPublished(one.site.root, layer.digest), { what: 'the blob to be kept' })
    const hex = layer.digest.slice(7)
    await until(async () => !(await spoolsOf(one.site.root)).some((path) => path.includes(hex)), {
      what: 'its spool to be gone',
    })
    await expectSoundStore(one.site.root)
  })

  it('smaller than what is held back shows nothing of itself when it is wrong', async () => {
    const [config] = image.blobs
    if (!config) throw new Error('an image has a config')
    primary.lie('GET', `/v2/${NAME}/blobs/${config.digest}`, wrongBytes(), { times: 1 })

    const lied = await reader.getBlob(NAME, config.digest)

    expect([outcomeOf(lied), lied.sizeBytes]).toEqual(['cut', 0])
    expect((await reader.getBlob(NAME, config.digest)).digest).toBe(config.digest)
  })

  it('that is cut once is asked for again where it stopped, and its client notices nothing', async () => {
    const [, layer] = image.blobs
    if (!layer) throw new Error('an image has layers')
    const path = `/v2/${NAME}/blobs/${layer.digest}`
    primary.lie('GET', path, shortBody(200_000), { times: 1 })

    const answer = await reader.getBlob(NAME, layer.digest)

    expect([answer.cut, answer.digest]).toEqual([undefined, layer.digest])
    expect(primary.asked('GET', path).map(({ headers }) => headers.range)).toEqual([
      expect.stringMatching(/^bytes=0-/),
      `bytes=200000-${layer.sizeBytes - 1}`,
    ])
  })

  it('is passed through by a lone range with what is wrong with it cut or refused', async () => {
    const [, layer] = image.blobs
    if (!layer) throw new Error('an image has layers')
    const path = `/v2/${NAME}/blobs/${layer.digest}`
    const range = { range: 'bytes=1000-100999' }
    const outcomes: string[] = []
    for (const lie of [shortBody(), html(200), endlessHeaders()]) {
      primary.lie('GET', path, lie, { times: 1 })
      const { status, cut } = await reader.getBlob(NAME, layer.digest, range)
      outcomes.push(cut ? 'cut' : String(status))
    }
    const honest = await reader.request('GET', path, { headers: range })

    expect(outcomes).toEqual(['cut', '502', '502'])
    expect(honest.body).toEqual((await contentBytes(layer)).subarray(1000, 101_000))
  })
})

const REFUSED = '502 BAD_GATEWAY'
/** A connection that breaks is an outage; the client is told to come again. */
const AWAY = '503 UNAVAILABLE'
/** By digest the bytes are their own proof, whatever their head calls them. */
const RIGHT = '200 '

/** What a pull by tag and a pull by digest get. */
const MANIFEST_LIES: [string, Lie, [string, string]][] = [
  ['a body that ends early', shortBody(), [AWAY, AWAY]],
  ['half of it as if it were all', truncatedBody(), [REFUSED, REFUSED]],
  ['a wrong byte', wrongBytes(20), [REFUSED, REFUSED]],
  ['a Content-Length that is too long', lengthOffBy(100), [AWAY, AWAY]],
  ['a Content-Length that is too short', lengthOffBy(-10), [REFUSED, REFUSED]],
  ['a compressed body', gzipped(), [REFUSED, REFUSED]],
  ['headers without end', endlessHeaders(), [REFUSED, REFUSED]],
  ['a redirect to itself', redirect(), [REFUSED, REFUSED]],
  ['a web page', html(200), [REFUSED, REFUSED]],
  ['another digest in its head', withHeaders({ 'docker-content-digest': OTHER }), [REFUSED, RIGHT]],
  [
    'a malformed digest in its head',
    withHeaders({ 'docker-content-digest': 'sha256:beef' }),
    [REFUSED, RIGHT],
  ],
  ['5 MiB, as it says', huge(true), [REFUSED, REFUSED]],
  ['5 MiB, without a length', huge(false), [REFUSED, REFUSED]],
]

const said = ({ status, body }: Answer) => `${status} ${errorCodesOf(body).join()}`

describe('a manifest that the primary sends as', () => {
  it.each(MANIFEST_LIES)('%s is refused', async (_, lie, [byTag, byDigest]) => {
    const takeBack = primary.lie('GET', new RegExp(`^/v2/${NAME}/manifests/`), lie)
    onTestFinished(takeBack)

    expect(said(await reader.getManifest(NAME, `v${seed}`))).toBe(byTag)
    expect(await isPublished(one.site.root, image.digest)).toBe(false)
    const answer = await reader.getManifest(NAME, image.digest)
    expect(said(answer)).toBe(byDigest)
    if (byDigest === RIGHT) expect(answer.headers['docker-content-digest']).toBe(answer.digest)

    takeBack()
    for (const reference of [`v${seed}`, image.digest]) {
      const honest = await reader.getManifest(NAME, reference)
      expect([honest.status, honest.digest]).toEqual([200, image.digest])
    }
    await expectSoundStore(one.site.root)
  })

  it.each(MANIFEST_LIES)('%s takes no tag away from those who have it here', async (_, lie) => {
    const tag = `v${seed}`
    expect((await reader.getManifest(NAME, tag)).digest).toBe(image.digest)
    const newer = await buildImage({ seed: `newer ${seed}`, layers: [100] })
    await primary.hold(NAME, newer, tag)
    const takeBack = primary.lie('GET', `/v2/${NAME}/manifests/${tag}`, lie)
    onTestFinished(takeBack)

    const stale = await reader.getManifest(NAME, tag)

    expect([stale.digest, sourceOf(stale)]).toEqual([image.digest, 'stale'])
    expect(stale.headers['warning']).toMatch(/^299 - /)
    takeBack()
    // A check that timed out has opened the breaker, which looks again every second.
    await until(async () => (await reader.getManifest(NAME, tag)).digest === newer.digest, {
      what: 'the primary to be believed again',
    })
  })
})

describe('a list of tags', () => {
  it.each<[string, Lie, string]>([
    ['a body that ends early', shortBody(), 'cut'],
    ['headers without end', endlessHeaders(), '502'],
    ['a web page', html(200), '502'],
    ['a web page by a type in capitals', withHeaders({ 'content-type': 'Text/HTML' }), '502'],
  ])('that the primary sends as %s is no list', async (_, lie, expected) => {
    primary.lie('GET', `/v2/${NAME}/tags/list`, lie, { times: 1 })

    const { status, cut } = await reader.drain(`/v2/${NAME}/tags/list`)

    expect(cut ? 'cut' : String(status)).toBe(expected)
    expect(JSON.parse((await reader.tags(NAME)).body.toString())).toMatchObject({ name: NAME })
  })
})
