/** Law 3 through a whole site: nothing to a caller who could not have had it from the primary. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { buildImage, type Image } from '../support/images.ts'
import { mintToken, repositoryAccess, signingKey } from '../support/keys.ts'
import { pauseInBody } from '../support/lies.ts'
import { bearer } from '../support/login.ts'
import { startLyingPrimary } from '../support/lying-primary.ts'
import { pushImage } from '../support/push-image.ts'
import { createRegistryApi } from '../support/registry-api.ts'
import { until } from '../support/wait.ts'
import { type OneSite, REALM, sourceOf, startOneSite } from './one-site.ts'

const ALL = ['pull', 'push', 'delete']

describe('content of a private repository', () => {
  let primary: DockerRegistry
  let one: OneSite
  let image: Image
  let layer: string

  beforeAll(async () => {
    const auth = {
      realm: REALM,
      service: 'container_registry',
      issuer: 'gitlab-issuer',
      key: await signingKey(),
    }
    primary = await startDockerRegistry({ auth })
    one = await startOneSite(primary.url)
    image = await buildImage({ seed: 'private', layers: [40_000] })
    layer = image.blobs[1]?.digest ?? ''
    const owner = await one.client({ 'team/private': ALL }, primary.url)
    await pushImage(owner, 'team/private', 'v1', image)
    const other = await one.client({ 'team/public': ALL }, primary.url)
    await pushImage(other, 'team/public', 'v1', await buildImage({ seed: 'public', layers: [100] }))
    // Everything is here now.
    const reader = await one.client({ 'team/private': ['pull'] })
    await reader.getManifest('team/private', 'v1')
    for (const { digest } of image.blobs) {
      const isHere = async () => sourceOf(await reader.getBlob('team/private', digest)) === 'local'
      await until(isHere, { what: 'the blob to be published' })
    }
  })
  afterAll(async () => {
    await one[Symbol.asyncDispose]()
    await primary[Symbol.asyncDispose]()
  })

  it('is served from here to who may pull it', async () => {
    const reader = await one.client({ 'team/private': ['pull'] })

    expect(sourceOf(await reader.getManifest('team/private', 'v1'))).toBe('local')
    expect(sourceOf(await reader.getBlob('team/private', layer))).toBe('local')
  })

  it.each(['GET', 'HEAD'])(
    'is 401 to %s by a token for another repository, with the scope it needs',
    async (method) => {
      const stranger = await one.client({ 'team/public': ALL })

      for (const path of [`manifests/v1`, `manifests/${image.digest}`, `blobs/${layer}`]) {
        const answer = await stranger.request(method, `/v2/team/private/${path}`)
        expect(answer.status).toBe(401)
        expect(answer.headers['www-authenticate']).toBe(
          `Bearer realm="${REALM}",service="container_registry",scope="repository:team/private:pull",error="insufficient_scope"`,
        )
      }
    },
  )

  it.each(['GET', 'HEAD'])('is 404 to %s through a repository that does not have it', async (method) => {
    const stranger = await one.client({ 'team/public': ['pull'] })

    expect((await stranger.request(method, `/v2/team/public/blobs/${layer}`)).status).toBe(404)
    expect((await stranger.request(method, `/v2/team/public/manifests/${image.digest}`)).status).toBe(404)
    expect((await stranger.request(method, `/v2/team/nowhere/blobs/${layer}`)).status).toBe(401)
  })

  it('is not mounted into a repository of somebody who may not pull it', async () => {
    const stranger = await one.client({ 'team/public': ALL })
    const answer = await stranger.startUpload('team/public', `?mount=${layer}&from=team/private`)

    expect(answer.status).toBe(401)
    expect((await stranger.headBlob('team/public', layer)).status).toBe(404)
  })

  it('is served through a second repository as soon as the primary has it there', async () => {
    const both = await one.client({ 'team/private': ['pull'], 'team/public': ALL })
    expect((await both.startUpload('team/public', `?mount=${layer}&from=team/private`)).status).toBe(201)

    const reader = await one.client({ 'team/public': ['pull'] })
    const answer = await reader.getBlob('team/public', layer)
    expect([answer.digest, sourceOf(answer)]).toEqual([layer, 'local'])
  })

  it('stays hidden from the users of a new project under the same path', async () => {
    const grant = async (projectId: number, iat: number) => {
      const access = [repositoryAccess('team/private', ['pull'], { project_id: projectId })]
      const authorization = bearer(await mintToken(one.key, { access, iat }))
      return createRegistryApi(one.site.url, { authorize: () => authorization })
    }
    const now = Math.floor(Date.now() / 1000)
    await using former = await grant(1, now - 60)
    expect(sourceOf(await former.getBlob('team/private', layer))).toBe('local')
    const there = await one.client({ 'team/private': ALL }, primary.url)
    expect((await there.deleteBlob('team/private', layer)).status).toBe(202)
    await using latter = await grant(2, now)

    expect((await latter.getBlob('team/private', layer)).status).toBe(404)
    expect((await former.getBlob('team/private', layer)).status).toBe(404)
  })
})

describe('a fill under way', () => {
  it('is joined only by callers the primary has confirmed it for, each for its own repository', async () => {
    await using primary = await startLyingPrimary()
    await using one = await startOneSite(primary.url)
    const image = await buildImage({ seed: 'shared', layers: [400_000] })
    const layer = image.blobs[1]?.digest ?? ''
    await primary.hold('team/owner', image)
    const release = Promise.withResolvers<void>()
    primary.lie('GET', `/v2/team/owner/blobs/${layer}`, pauseInBody(release.promise), { times: 1 })
    const owner = await one.client({ 'team/owner': ['pull'] })
    const stranger = await one.client({ 'team/stranger': ['pull'] })

    const first = owner.getBlob('team/owner', layer)
    await until(() => primary.asked('GET', `/v2/team/owner/blobs/${layer}`).length === 1, {
      what: 'the fill',
    })
    const refused = await stranger.getBlob('team/stranger', layer)
    const second = owner.getBlob('team/owner', layer)
    release.resolve()

    expect(refused.status).toBe(404)
    expect((await first).digest).toBe(layer)
    expect((await second).digest).toBe(layer)
    expect(primary.asked('GET', `/v2/team/owner/blobs/${layer}`)).toHaveLength(1)
  })
})
