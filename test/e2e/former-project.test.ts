/** Law 3 in time: a token of the project that lived under a path before joins nothing on the new project's word. */
import { expect, it } from 'vitest'
import { buildImage } from '../support/images.ts'
import { mintToken, repositoryAccess } from '../support/keys.ts'
import { pauseInBody } from '../support/lies.ts'
import { bearer } from '../support/login.ts'
import { startLyingPrimary } from '../support/lying-primary.ts'
import { createRegistryApi } from '../support/registry-api.ts'
import { until } from '../support/wait.ts'
import { startOneSite } from './one-site.ts'

const NAME = 'team/app'

it('asks the primary before it follows a fill that somebody of the new project began', async () => {
  await using primary = await startLyingPrimary()
  await using one = await startOneSite(primary.url)
  const image = await buildImage({ layers: [400_000] })
  const layer = image.blobs[1]?.digest ?? ''
  await primary.hold(NAME, image)
  const path = `/v2/${NAME}/blobs/${layer}`
  const release = Promise.withResolvers<void>()
  primary.lie('GET', path, pauseInBody(release.promise), { times: 1 })
  const now = Math.floor(Date.now() / 1000)
  const client = async (projectId: number, iat: number) => {
    const access = [repositoryAccess(NAME, ['pull'], { project_id: projectId })]
    const authorization = bearer(await mintToken(one.key, { access, iat }))
    return createRegistryApi(one.site.url, { authorize: () => authorization })
  }
  await using latter = await client(2, now)
  await using former = await client(1, now - 60)

  const first = latter.getBlob(NAME, layer)
  await until(() => primary.asked('GET', path).length === 1, { what: 'the fill' })
  const second = former.getBlob(NAME, layer)
  const isAsked = () => primary.asked('HEAD', path).length === 1
  await until(isAsked, { what: 'the question for the older token', deadlineMs: 3000 }).finally(
    release.resolve,
  )

  expect((await first).digest).toBe(layer)
  expect((await second).digest).toBe(layer)
})
