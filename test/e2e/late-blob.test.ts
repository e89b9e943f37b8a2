/** As late-digest.test.ts, for blobs: an answer to a question that was asked before is not one to who comes later. */
import { expect, it } from 'vitest'
import { buildImage } from '../support/images.ts'
import { startLyingPrimary } from '../support/lying-primary.ts'
import { until } from '../support/wait.ts'
import { startOneSite } from './one-site.ts'

const NAME = 'team/app'

it('finds a blob that was pushed while somebody else’s miss was on its way', async () => {
  await using primary = await startLyingPrimary()
  await using one = await startOneSite(primary.url)
  const client = await one.client({ [NAME]: ['pull'] })
  const image = await buildImage({ layers: [10] })
  const digest = image.blobs[1]?.digest ?? ''
  const path = `/v2/${NAME}/blobs/${digest}`
  const gate = primary.gate('GET', path)
  const early = client.getBlob(NAME, digest)
  await until(() => primary.asked('GET', path).length === 1, { what: 'the first question' })
  await primary.hold(NAME, image)
  const late = client.getBlob(NAME, digest)
  await client.request('GET', '/v2/')
  gate.open()

  expect([(await early).status, (await late).status]).toEqual([404, 200])
})
