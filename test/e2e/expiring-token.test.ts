/** A large blob comes in several requests; a token that would be too old for the later ones must not fail the pull. */
import { expect, it } from 'vitest'
import { randomContent } from '../support/content.ts'
import { buildArtifact } from '../support/images.ts'
import { mintToken, repositoryAccess } from '../support/keys.ts'
import { bearer } from '../support/login.ts'
import { startLyingPrimary } from '../support/lying-primary.ts'
import { createRegistryApi } from '../support/registry-api.ts'
import { startOneSite } from './one-site.ts'

const NAME = 'team/app'

it('is used for one request that asks for everything, when it has not long to live', async () => {
  await using primary = await startLyingPrimary()
  await using one = await startOneSite(primary.url)
  const blob = await randomContent(40 * 1024 * 1024)
  await primary.hold(NAME, { ...buildArtifact(), blobs: [blob] })
  const iat = Math.floor(Date.now() / 1000)
  const token = await mintToken(one.key, { access: [repositoryAccess(NAME)], iat, exp: iat + 30 })
  await using client = createRegistryApi(one.site.url, { authorize: () => bearer(token) })

  const answer = await client.getBlob(NAME, blob.digest, { 'x-request-id': 'seen-at-both-ends' })

  expect(answer.digest).toBe(blob.digest)
  const asked = primary.asked('GET', `/v2/${NAME}/blobs/${blob.digest}`)
  expect(asked).toHaveLength(1)
  expect(asked[0]?.headers['x-request-id']).toBe('seen-at-both-ends')
})
