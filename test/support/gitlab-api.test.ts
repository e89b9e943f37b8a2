/** The stand-in for GitLab's registry says what facts/gitlab.md 5.1 says. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type DockerRegistry, startDockerRegistry } from './docker-registry.ts'
import { type GitlabApi, startGitlabApi } from './gitlab-api.ts'
import { buildArtifact } from './images.ts'
import { pushImage } from './push-image.ts'
import { createRegistryApi, type RegistryApi } from './registry-api.ts'

let stack: AsyncDisposableStack
let registry: DockerRegistry
let gitlab: GitlabApi
let api: RegistryApi
beforeEach(async () => {
  stack = new AsyncDisposableStack()
  registry = stack.use(await startDockerRegistry())
  gitlab = stack.use(await startGitlabApi(registry))
  api = stack.use(createRegistryApi(gitlab.url))
})
afterEach(() => stack.disposeAsync())

describe('the GitLab API of the kit', () => {
  it('pages through tags in the order of their names, and links both ways', async () => {
    const image = buildArtifact()
    for (const tag of ['b', 'a', 'c']) await pushImage(api, 'team/app', tag, image)
    const list = '/gitlab/v1/repositories/team/app/tags/list/'

    const first = await api.request('GET', `${list}?n=2`)
    const second = await api.request('GET', `${list}?n=2&last=b`)

    const named = (body: Buffer) => JSON.parse(body.toString()).map((tag: { name: string }) => tag.name)
    expect(named(first.body)).toEqual(['a', 'b'])
    expect(JSON.parse(first.body.toString())[0]).toMatchObject({ digest: image.digest })
    expect(first.headers['link']).toBe(`<${gitlab.url}${list}?n=2&last=b>; rel="next"`)
    expect(named(second.body)).toEqual(['c'])
    expect(second.headers['link']).toBe(`<${gitlab.url}${list}?n=2&before=c>; rel="previous"`)
  })

  it('is as strict as GitLab about slashes and numbers', async () => {
    expect((await api.request('GET', '/gitlab/v1')).status).toBe(301)
    const list = '/gitlab/v1/repositories/team/app/tags/list'
    const redirected = await api.request('GET', `${list}?n=2`)
    expect([redirected.status, redirected.headers['location']]).toEqual([301, `${list}/?n=2`])
    expect((await api.request('GET', `${list}/?n=1001`)).status).toBe(400)
  })

  it('says 404 and its version without the metadata database', async () => {
    await using without = await startGitlabApi(registry, { database: false })
    const answer = await api.request('GET', `${without.url}/gitlab/v1/`)

    expect(answer.status).toBe(404)
    expect(answer.headers['gitlab-container-registry-version']).toBeDefined()
  })

  it('renames a repository with all that is under it', async () => {
    const image = buildArtifact()
    await pushImage(api, 'team/app', 'v1', image)
    await pushImage(api, 'team/app/cache', 'v1', image)
    const body = JSON.stringify({ name: 'renamed' })

    const dry = await api.request('PATCH', '/gitlab/v1/repositories/team/app/?dry_run=true', { body })
    const real = await api.request('PATCH', '/gitlab/v1/repositories/team/app/', { body })

    expect([dry.status, real.status]).toEqual([202, 204])
    expect((await api.getManifest('team/renamed', 'v1')).digest).toBe(image.digest)
    expect((await api.getManifest('team/renamed/cache', 'v1')).status).toBe(200)
    expect((await api.getManifest('team/app', 'v1')).status).toBe(404)
    expect((await api.request('PATCH', '/gitlab/v1/repositories/team/app/', { body })).status).toBe(404)
  })
})
