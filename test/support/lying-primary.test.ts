/** The primary that lies is honest until told otherwise, and each lie arrives at the client as it was meant. */
import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { randomContent } from './content.ts'
import { buildMultiArch, type Image } from './images.ts'
import * as lies from './lies.ts'
import { type Lie, type LyingPrimary, startLyingPrimary } from './lying-primary.ts'
import { pushImage } from './push-image.ts'
import { createRegistryApi, type RegistryApi } from './registry-api.ts'
import { until } from './wait.ts'

let primary: LyingPrimary
let api: RegistryApi
let image: Image
let blob: string

beforeEach(async () => {
  primary = await startLyingPrimary()
  api = createRegistryApi(primary.url)
  image = await buildMultiArch()
  await primary.hold('team/app', image, 'v1')
  blob = image.children[0]?.blobs[1]?.digest ?? ''
})
afterEach(async () => {
  await api[Symbol.asyncDispose]()
  await primary[Symbol.asyncDispose]()
})

describe('lying primary', () => {
  it('answers honestly by default: manifests, blobs, ranges, 304, 404', async () => {
    const manifest = await api.getManifest('team/app', 'v1')
    const same = await api.getManifest('team/app', 'v1', { 'if-none-match': `"${image.digest}"` })
    const range = await api.getBlob('team/app', blob, { range: 'bytes=10-19' })

    expect([manifest.status, manifest.digest]).toEqual([200, image.digest])
    expect([same.status, same.body.length]).toEqual([304, 0])
    expect([range.status, range.sizeBytes]).toEqual([206, 10])
    expect((await api.getBlob('team/app', blob)).digest).toBe(blob)
    expect((await api.headBlob('team/other', blob)).status).toBe(404)
    primary.forget('team/app', 'v1')
    expect((await api.getManifest('team/app', 'v1')).body.toString('utf8')).toContain('MANIFEST_UNKNOWN')
  })

  it('takes a push and gives it back', async () => {
    const other = await buildMultiArch({ format: 'docker', seed: 'pushed' })

    await pushImage(api, 'team/new', 'v2', other)

    expect((await api.getManifest('team/new', 'v2')).digest).toBe(other.digest)
    expect(JSON.parse((await api.tags('team/new')).body.toString('utf8'))).toMatchObject({ tags: ['v2'] })
  })

  it('records what it was asked, body lengths included', async () => {
    const content = await randomContent(300_000)
    await api.pushBlob('team/app', content)

    expect(primary.asked('PATCH', /uploads/)).toMatchObject([{ bodyBytes: 300_000, complete: true }])
  })

  it.each<[string, Lie, object]>([
    ['a short body', lies.shortBody(), { status: 200, cut: expect.any(Error) }],
    ['a short body at once', lies.shortBody(0), { status: 200, sizeBytes: 0, cut: expect.any(Error) }],
    ['a truncated body', lies.truncatedBody(), { status: 200, cut: undefined }],
    ['wrong bytes', lies.wrongBytes(), { status: 200, cut: undefined }],
    ['a page', lies.html(200), { status: 200, headers: { 'content-type': 'text/html' } }],
    ['a 404 page', lies.html(404), { status: 404 }],
    ['a 500', lies.ociError(500, 'UNKNOWN'), { status: 500 }],
    ['429', lies.tooManyRequests('7'), { status: 429, headers: { 'retry-after': '7' } }],
    ['405', lies.readOnly(), { status: 405 }],
    ['409', lies.renameInProgress(), { status: 409 }],
    ['403', lies.maintenance(), { status: 403 }],
    ['gzip', lies.gzipped(), { status: 200, headers: { 'content-encoding': 'gzip' } }],
    ['a redirect', lies.redirect(), { status: 307 }],
  ])('tells %s once, then the truth again', async (_, lie, expected) => {
    primary.lie('GET', /\/blobs\//, lie, { times: 1 })

    const told = await api.getBlob('team/app', blob)
    const truth = await api.getBlob('team/app', blob)

    expect(told).toMatchObject(expected)
    expect(told.digest).not.toBe(blob)
    expect(truth.digest).toBe(blob)
  })

  it('never ends its headers', async () => {
    primary.lie('GET', /\/blobs\//, lies.endlessHeaders())

    await expect(api.getBlob('team/app', blob)).rejects.toMatchObject({ code: 'UND_ERR_HEADERS_OVERFLOW' })
  })

  it('is silent, or hangs up', async () => {
    const takeBack = primary.lie('*', /./, lies.silence())
    const signal = AbortSignal.timeout(100)
    await expect(api.request('GET', '/v2/', { signal })).rejects.toMatchObject({ name: 'TimeoutError' })
    takeBack()
    primary.lie('GET', '/v2/', lies.hangUp(), { times: 1 })

    await expect(api.request('GET', '/v2/')).rejects.toThrow()
    expect((await api.request('GET', '/v2/')).status).toBe(200)
  })

  it('holds answers back behind a gate, and bodies in their middle', async () => {
    const gate = primary.gate('GET', '/v2/team/app/manifests/v1')
    let answered = false
    const asking = api.getManifest('team/app', 'v1').then((answer) => {
      answered = true
      return answer
    })
    await until(() => primary.asked('GET', /manifests/).length === 1, { what: 'the request' })
    await delay(50)
    expect(answered).toBe(false)
    gate.open()
    expect((await asking).digest).toBe(image.digest)

    const { promise, resolve } = Promise.withResolvers<void>()
    primary.lie('GET', /\/blobs\//, lies.pauseInBody(promise, 100))
    const { body } = await api.open(`/v2/team/app/blobs/${blob}`)
    const first: Buffer = await new Promise((done) => body.once('data', done))
    resolve()
    expect(first.length).toBe(100)
    await body.toArray()
  })
})
