/** In an outage a site goes on saying that its primary has no referrers API, as it has heard; of referrers it says nothing. */
import { afterEach, describe, expect, it } from 'vitest'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { listenHttp } from '../support/http-listener.ts'
import { buildArtifact, buildImage, buildIndex, cosignTag } from '../support/images.ts'
import { pushImage } from '../support/push-image.ts'
import type { Answer } from '../support/registry-api.ts'
import { type OneSite, sourceOf, startOneSite } from './one-site.ts'

const NAME = 'team/app'
const IMAGE = await buildImage({ layers: [2000] })
const PATH = `/v2/${NAME}/referrers/${IMAGE.digest}`

let owned = new AsyncDisposableStack()
afterEach(async () => {
  await owned.disposeAsync()
  owned = new AsyncDisposableStack()
})

const grants = { [NAME]: ['pull', 'push'] }
const codeOf = ({ body }: Answer) => JSON.parse(body.toString()).errors[0].code

async function startReal(): Promise<{ primary: DockerRegistry; one: OneSite }> {
  const primary = owned.use(await startDockerRegistry())
  const one = owned.use(await startOneSite(primary.url))
  return { primary, one }
}

describe('when the primary is gone that has no referrers API', () => {
  it('a signature is still found under the fallback tag: the site says at once that there is no API', async () => {
    const { primary, one } = await startReal()
    const here = await one.client(grants)
    const signature = buildArtifact({ subject: IMAGE })
    await pushImage(here, NAME, 'v1', IMAGE)
    await pushImage(here, NAME, cosignTag(IMAGE, ''), buildIndex([signature]))
    expect((await here.request('GET', PATH)).status).toBe(404)
    await primary.stop()

    const answer = await here.request('GET', PATH)
    expect([answer.status, codeOf(answer), sourceOf(answer)]).toEqual([404, 'UNSUPPORTED', 'stale'])
    expect(answer.headers['warning']).toMatch(
      /^299 - "the primary registry cannot be reached; last confirmed /,
    )
    expect((await here.getManifest(NAME, cosignTag(IMAGE, ''))).status).toBe(200)
    expect((await here.getManifest(NAME, 'sha256-never-held')).status).toBe(503)
  })

  it('a site that has not heard so yet does not say so', async () => {
    const { primary, one } = await startReal()
    await primary.stop()

    expect((await (await one.client(grants)).request('GET', PATH)).status).toBe(503)
  })

  it('it does not say so for longer than outage.maxstale', async () => {
    const primary = owned.use(await startDockerRegistry())
    const one = owned.use(await startOneSite(primary.url, { outage: { maxstale: '1ms' } }))
    const here = await one.client(grants)
    await here.request('GET', PATH)
    await primary.stop()

    expect((await here.request('GET', PATH)).status).toBe(503)
  })
})

describe('when the primary is gone that has the referrers API', () => {
  it.each([
    ['of an image with referrers', 200, 'application/vnd.oci.image.index.v1+json', '{"schemaVersion":2}'],
    [
      'of a repository that it does not know',
      404,
      'application/json',
      '{"errors":[{"code":"NAME_UNKNOWN","message":"unknown"}]}',
    ],
  ])('nothing is said %s', async (_title, status, type, body) => {
    const primary = owned.use(
      await listenHttp((_request, response) =>
        response.writeHead(status, { 'content-type': type }).end(body),
      ),
    )
    const one = owned.use(await startOneSite(primary.url))
    const here = await one.client(grants)
    expect((await here.request('GET', PATH)).status).toBe(status)
    await primary.stop()

    const answer = await here.request('GET', PATH)
    expect([answer.status, codeOf(answer)]).toEqual([503, 'UNAVAILABLE'])
  })

  it('what an ingress said in its place once is forgotten with its next answer', async () => {
    let status = 404
    const primary = owned.use(
      await listenHttp((_request, response) =>
        response.writeHead(status, { 'content-type': 'text/html' }).end(),
      ),
    )
    const one = owned.use(await startOneSite(primary.url))
    const here = await one.client(grants)
    await here.request('GET', PATH)
    status = 200
    await here.request('GET', PATH)
    await primary.stop()

    expect((await here.request('GET', PATH)).status).toBe(503)
  })
})
