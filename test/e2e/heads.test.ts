/** Law 6: heads leave at once and bytes follow as they come, in either direction; containerd waits 30 s for a head. */
import { PassThrough } from 'node:stream'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { contentBytes, randomContent } from '../support/content.ts'
import { buildImage, type Image } from '../support/images.ts'
import { pauseInBody } from '../support/lies.ts'
import { type LyingPrimary, startLyingPrimary } from '../support/lying-primary.ts'
import { locationOf, type OpenAnswer, type RegistryApi } from '../support/registry-api.ts'
import { until } from '../support/wait.ts'
import { type OneSite, sourceOf, startOneSite } from './one-site.ts'

const NAME = 'team/app'
/** The end of a fill that is shown only once the digest is known to be right. */
const HELD_BACK_BYTES = 64 * 1024

let primary: LyingPrimary
let one: OneSite
let reader: RegistryApi

beforeAll(async () => {
  primary = await startLyingPrimary()
  one = await startOneSite(primary.url)
  reader = await one.client({ [NAME]: ['pull'] })
})
afterAll(async () => {
  await one[Symbol.asyncDispose]()
  await primary[Symbol.asyncDispose]()
})

async function heldBlob(seed: string, layerBytes: number) {
  const image: Image = await buildImage({ seed, layers: [layerBytes], gzip: false })
  await primary.hold(NAME, image)
  const [, layer] = image.blobs
  if (!layer) throw new Error('an image has layers')
  return { layer, path: `/v2/${NAME}/blobs/${layer.digest}` }
}

/** Everything that has come within `bytes`, and the body left open. */
async function received(answer: OpenAnswer, bytes: number): Promise<Buffer> {
  const chunks: Buffer[] = []
  answer.body.on('data', (chunk: Buffer) => chunks.push(chunk))
  return await until(
    () => {
      const all = Buffer.concat(chunks)
      return all.length >= bytes && all
    },
    { what: `${bytes} bytes of the body` },
  )
}

describe('a primary that answers a head and then takes its time', () => {
  it('has its head passed on before there is a body', async () => {
    const { layer, path } = await heldBlob('head', 300_000)
    const release = Promise.withResolvers<void>()
    primary.lie('GET', path, pauseInBody(release.promise, 0), { times: 1 })

    const answer = await reader.open(path)

    expect([answer.status, sourceOf(answer)]).toEqual([200, 'fill'])
    expect(answer.headers['content-length']).toBe(String(layer.sizeBytes))
    release.resolve()
    expect(await received(answer, layer.sizeBytes)).toEqual(await contentBytes(layer))
  })

  it('has its bytes passed on as they come, all but those held back for the digest', async () => {
    const { layer, path } = await heldBlob('body', 400_000)
    const release = Promise.withResolvers<void>()
    const paused = layer.sizeBytes - 1
    primary.lie('GET', path, pauseInBody(release.promise, paused), { times: 1 })
    const answer = await reader.open(path)

    const shown = await received(answer, layer.sizeBytes - HELD_BACK_BYTES)

    expect(shown).toEqual((await contentBytes(layer)).subarray(0, layer.sizeBytes - HELD_BACK_BYTES))
    release.resolve()
    await until(() => answer.body.readableEnded, { what: 'the rest' })
  })

  it('has its head passed on for a lone range of a cold blob too', async () => {
    const { layer, path } = await heldBlob('range', 300_000)
    const release = Promise.withResolvers<void>()
    primary.lie('GET', path, pauseInBody(release.promise, 0), { times: 1 })

    const answer = await reader.open(path, { headers: { range: 'bytes=1000-1999' } })

    expect([answer.status, sourceOf(answer)]).toEqual([206, 'primary'])
    release.resolve()
    expect(await received(answer, 1000)).toEqual((await contentBytes(layer)).subarray(1000, 2000))
  })
})

describe('a push through the site', () => {
  it('reaches the primary byte by byte, before the client has sent the rest', async () => {
    const developer = await one.client({ [NAME]: ['pull', 'push'] })
    const content = await randomContent(3_000_000, { seed: 'streamed push' })
    const bytes = await contentBytes(content)
    const session = locationOf(await developer.startUpload(NAME))
    const body = new PassThrough()
    const patching = developer.patchUpload(NAME, session, body)
    body.write(bytes.subarray(0, 1_000_000))
    const [patch] = await until(() => patchesOf(primary), { what: 'the upload to begin at the primary' })

    await until(() => patch?.bodyBytes === 1_000_000, { what: 'what was sent so far to be there' })
    expect(patch?.complete).toBe(false)
    body.end(bytes.subarray(1_000_000))
    const patched = await patching

    expect(patched.status).toBe(202)
    const put = await developer.finishUpload(NAME, locationOf(patched), content.digest)
    expect(put.status).toBe(201)
  })
})

function patchesOf(of: LyingPrimary) {
  const patches = of.asked('PATCH', /uploads/)
  return patches.length > 0 && patches
}
