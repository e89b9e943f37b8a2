/** Law 5: a HEAD's 404 says nothing of who says it, so a reader hears of it only when a GET has said it in words. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { buildImage } from '../support/images.ts'
import { html, ociError } from '../support/lies.ts'
import { type LyingPrimary, startLyingPrimary } from '../support/lying-primary.ts'
import type { RegistryApi } from '../support/registry-api.ts'
import { type OneSite, startOneSite } from './one-site.ts'

const NAME = 'team/app'
/** Held here under a type that this does not name, so the primary is asked in the client's own words. */
const ELSEWHERE = { accept: '*/*' }
let primary: LyingPrimary
let one: OneSite
let reader: RegistryApi

beforeAll(async () => {
  primary = await startLyingPrimary()
  one = await startOneSite(primary.url)
  reader = await one.client({ [NAME]: ['pull'] })
  await primary.hold(NAME, await buildImage({ layers: [10] }), 'v1')
  await reader.getManifest(NAME, 'v1')
})
afterAll(async () => {
  await one[Symbol.asyncDispose]()
  await primary[Symbol.asyncDispose]()
})

it.each([
  ['an ingress’s page', html(404), 502],
  ['the registry’s own', ociError(404, 'MANIFEST_UNKNOWN'), 404],
] as const)('%s with status 404 is told alike to HEAD and GET', async (_what, lie, status) => {
  const tellTheTruth = primary.lie('*', /./, lie)
  const get = await reader.getManifest(NAME, 'v1', ELSEWHERE)
  const head = await reader.headManifest(NAME, 'v1', ELSEWHERE)
  tellTheTruth()

  expect([get.status, head.status]).toEqual([status, status])
})

it('is answered with the head of that GET when it finds something after all', async () => {
  const tellTheTruth = primary.lie('HEAD', /./, html(404))
  const head = await reader.headManifest(NAME, 'v1', ELSEWHERE)
  tellTheTruth()

  expect(head.status).toBe(200)
})
