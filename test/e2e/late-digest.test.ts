/** An answer to a question that was asked before is not always one to who comes later, though both ask as the same. */
import { expect, it } from 'vitest'
import { buildImage } from '../support/images.ts'
import { startLyingPrimary } from '../support/lying-primary.ts'
import type { RegistryApi } from '../support/registry-api.ts'
import { until } from '../support/wait.ts'
import { startOneSite } from './one-site.ts'

const NAME = 'team/app'

/** The statuses of two pulls by digest: one whose question the primary has answered before `change`, and one after. */
async function pullAround(isHeld: boolean, change: 'push to the primary' | 'delete through the site') {
  await using primary = await startLyingPrimary()
  await using one = await startOneSite(primary.url)
  const client: RegistryApi = await one.client({ [NAME]: ['pull', 'delete'] })
  const image = await buildImage({ layers: [10] })
  if (isHeld) await primary.hold(NAME, image)
  const path = `/v2/${NAME}/manifests/${image.digest}`
  const gate = primary.gate('GET', path)
  const early = client.getManifest(NAME, image.digest)
  await until(() => primary.asked('GET', path).length === 1, { what: 'the first question' })
  if (change === 'push to the primary') await primary.hold(NAME, image)
  else expect((await client.deleteManifest(NAME, image.digest)).status).toBe(202)
  const late = client.getManifest(NAME, image.digest)
  // Sent after it and answered: the late pull is waiting by now.
  await client.request('GET', '/v2/')
  gate.open()
  return [(await early).status, (await late).status]
}

it('finds a manifest that was pushed while somebody else’s miss was on its way', async () => {
  expect(await pullAround(false, 'push to the primary')).toEqual([404, 200])
})

it('does not find a manifest that was deleted while somebody else’s pull was on its way', async () => {
  expect(await pullAround(true, 'delete through the site')).toEqual([200, 404])
})
