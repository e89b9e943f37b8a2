/** Law 1 at its smallest: an empty body has no tail to hold back, and is still not passed off as something else. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { bytesContent } from '../support/content.ts'
import { buildArtifact } from '../support/images.ts'
import { type LyingPrimary, startLyingPrimary } from '../support/lying-primary.ts'
import type { RegistryApi } from '../support/registry-api.ts'
import { until } from '../support/wait.ts'
import { type OneSite, sourceOf, startOneSite } from './one-site.ts'

const NAME = 'team/app'
const EMPTY = bytesContent(Buffer.alloc(0))
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

it('is cut or refused when it is not what its digest says', async () => {
  const image = buildArtifact({ payload: 'not empty at all' })
  await primary.hold(NAME, image)
  const digest = image.blobs[1]?.digest ?? ''
  primary.lie('GET', `/v2/${NAME}/blobs/${digest}`, ({ response }) => {
    response.writeHead(200, { 'content-length': '0' }).end()
  })

  const answer = await reader.getBlob(NAME, digest).catch((error: unknown) => error)
  expect(answer).not.toMatchObject({ status: 200, cut: undefined })
})

it('is served, cold and warm, and so it is to a client that always asks for a range', async () => {
  await primary.hold(NAME, { ...buildArtifact(), blobs: [EMPTY] })
  const cold = await reader.getBlob(NAME, EMPTY.digest, { range: 'bytes=0-' })
  const isHeld = async () => sourceOf(await reader.getBlob(NAME, EMPTY.digest)) === 'local'
  await until(isHeld, { what: 'the empty blob to be held' })
  const warm = await reader.getBlob(NAME, EMPTY.digest, { range: 'bytes=0-' })

  // As Distribution, whose file server leaves a range of an empty file alone.
  expect([cold.status, cold.digest, cold.cut]).toEqual([200, EMPTY.digest, undefined])
  expect([warm.status, warm.digest, warm.cut]).toEqual([200, EMPTY.digest, undefined])
})
