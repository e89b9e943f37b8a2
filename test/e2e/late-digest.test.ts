/** A miss is the answer to a question that was asked before; who asks after the push gets an answer of their own. */
import { expect, it } from 'vitest'
import { buildImage } from '../support/images.ts'
import { startLyingPrimary } from '../support/lying-primary.ts'
import { until } from '../support/wait.ts'
import { startOneSite } from './one-site.ts'

const NAME = 'team/app'

it('finds a manifest that was pushed to the primary while somebody else’s miss was on its way', async () => {
  await using primary = await startLyingPrimary()
  await using one = await startOneSite(primary.url)
  const client = await one.client({ [NAME]: ['pull'] })
  const image = await buildImage({ layers: [10] })
  const gate = primary.gate('GET', `/v2/${NAME}/manifests/${image.digest}`)

  const early = client.getManifest(NAME, image.digest)
  await until(() => primary.requests.length > 0 && primary.asked('GET', /manifests/).length === 1, {
    what: 'the miss',
  })
  await primary.hold(NAME, image)
  const late = client.getManifest(NAME, image.digest)
  // Beside the first on another connection: known to have arrived once a third request after it was answered.
  await client.request('GET', '/v2/')
  gate.open()

  expect((await early).status).toBe(404)
  expect((await late).status).toBe(200)
})
