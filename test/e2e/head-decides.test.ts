/**
 * Law 4: a HEAD decides whether a client uploads, so a caller who could upload hears the primary's answer, and none when
 * there is none. Otherwise a push in an outage would skip layers on this site's word alone.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { buildImage, type Image } from '../support/images.ts'
import { type LyingPrimary, startLyingPrimary } from '../support/lying-primary.ts'
import type { Answer, RegistryApi } from '../support/registry-api.ts'
import { until } from '../support/wait.ts'
import { type OneSite, sourceOf, startOneSite } from './one-site.ts'
import { cell } from './table-row.ts'

const NAME = 'team/app'
let primary: LyingPrimary
let one: OneSite
let image: Image
let layer: string
let reader: RegistryApi

beforeAll(async () => {
  primary = await startLyingPrimary()
  one = await startOneSite(primary.url)
  image = await buildImage({ layers: [20_000] })
  layer = image.blobs.at(-1)?.digest ?? ''
  await primary.hold(NAME, image, 'v1')
  reader = await one.client({ [NAME]: ['pull'] })
  await reader.getManifest(NAME, 'v1')
  const isHeld = async () => sourceOf(await reader.getBlob(NAME, layer)) === 'local'
  await until(isHeld, { what: 'the layer to be held' })
})
afterAll(async () => {
  await one[Symbol.asyncDispose]()
  await primary[Symbol.asyncDispose]()
})

function heads(api: RegistryApi): Promise<Answer[]> {
  return Promise.all([
    api.headManifest(NAME, 'v1'),
    api.headManifest(NAME, image.digest),
    api.headBlob(NAME, layer),
  ])
}

const cells = async (api: RegistryApi) => (await heads(api)).map((answer) => cell(answer))
const headsAsked = () => primary.asked('HEAD', /./).length

const WRITERS = ['pull,push', 'pull,delete', '*']
const READERS: readonly [string, Readonly<Record<string, readonly string[]>>][] = [
  ['that may only pull', { [NAME]: ['pull'] }],
  ['that may push elsewhere', { [NAME]: ['pull'], 'team/other': ['pull', 'push'] }],
]

describe('a HEAD of what is held', () => {
  it.each(WRITERS)('is the primary’s to answer for a token with %s', async (actions) => {
    const writer = await one.client({ [NAME]: actions.split(',') })
    const before = headsAsked()

    expect(await cells(writer)).toEqual(['200 primary', '200 primary', '200 primary'])
    expect(headsAsked() - before).toBe(3)
  })

  it.each(READERS)('is answered here for a token %s', async (_which, grants) => {
    const before = headsAsked()
    const answers = await heads(await one.client(grants))

    expect(answers.map((answer) => cell(answer))).toEqual(['200 local', '200 local', '200 local'])
    expect(answers.map(({ headers }) => headers['docker-content-digest'])).toEqual([
      image.digest,
      image.digest,
      layer,
    ])
    expect(headsAsked() - before).toBe(0)
  })

  it('is 404 for who may push as soon as the primary has lost it, so that it is uploaded again', async () => {
    primary.forget(NAME, layer)
    try {
      const writer = await one.client({ [NAME]: ['pull', 'push'] })
      expect((await writer.headBlob(NAME, layer)).status).toBe(404)
    } finally {
      await primary.hold(NAME, image, 'v1')
    }
  })

  describe('in an outage', () => {
    beforeAll(() => primary.stop())
    afterAll(() => primary.start())

    it.each(WRITERS)('is 503 for a token with %s', async (actions) => {
      const answers = await heads(await one.client({ [NAME]: actions.split(',') }))

      expect(answers.map(({ status, headers }) => [status, headers['retry-after']])).toEqual([
        [503, '10'],
        [503, '10'],
        [503, '10'],
      ])
    })

    it.each(READERS)('is answered as a pull would be for a token %s', async (_which, grants) => {
      const answers = await heads(await one.client(grants))

      expect(answers.map((answer) => cell(answer))).toEqual(['200 stale, Warning', '200 local', '200 local'])
      expect(answers.map(({ headers }) => headers['content-length'])).toEqual([
        String(image.bytes.length),
        String(image.bytes.length),
        String(image.blobs.at(-1)?.sizeBytes),
      ])
    })
  })
})
