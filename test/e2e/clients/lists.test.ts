/** Tags and catalog page by page through the site: the primary's lists, whose next pages are asked of the site again. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startSkopeo } from '../../support/clients/skopeo.ts'
import { startGeoRegistry } from '../../support/geo-registry.ts'
import { buildImage } from '../../support/images.ts'
import { createLogin } from '../../support/login.ts'
import { startNginx } from '../../support/nginx.ts'
import { type Answer, createRegistryApi, type RegistryApi } from '../../support/registry-api.ts'
import { DEVELOPER, READER, startTwoSites, type TwoSites } from './two-sites.ts'

const owned = new AsyncDisposableStack()
let sites: TwoSites
const repositories = ['team/a', 'team/b/c', 'team/d', 'team/e', 'team/f']

beforeAll(async () => {
  sites = owned.use(await startTwoSites())
  const image = await buildImage({ seed: 'listed', layers: [100] })
  for (const name of repositories) await sites.publish(name, 'v1', image)
  for (const tag of ['1.0', '1.1', 'Latest', '_x']) await sites.publish('team/a', tag, image)
})
afterAll(() => owned.disposeAsync())

const CATALOG = 'registry:catalog:*'

/** Every page, following `Link` as a client does: against the address it asked. */
async function pages(api: RegistryApi, first: string): Promise<Answer[]> {
  const answers: Answer[] = []
  let target: string | undefined = first
  while (target !== undefined && answers.length < 20) {
    const answer: Answer = await api.request('GET', target, { scope: CATALOG })
    expect(answer.status).toBe(200)
    answers.push(answer)
    const next: string | undefined = /^<([^>]+)>; rel="next"$/.exec(answer.headers['link'] ?? '')?.[1]
    target = next && new URL(next, new URL(target, api.url)).href
    if (target !== undefined) expect(new URL(target).origin).toBe(api.url)
  }
  return answers
}

function namesOf(answers: readonly Answer[]): string[] {
  return answers.flatMap(({ body }) => (JSON.parse(body.toString('utf8')) as Catalog).repositories)
}
interface Catalog {
  readonly repositories: string[]
}

describe('the catalog', () => {
  it('is the primary’s, whole and after any name', async () => {
    for (const query of ['', '?last=team%2Fb%2Fc', '?n=1000&last=team/e']) {
      const ask = (api: RegistryApi) => api.request('GET', `/v2/_catalog${query}`, { scope: CATALOG })
      const [here, there] = await Promise.all([ask(sites.here), ask(sites.there)])
      expect([here.status, here.body.toString()]).toEqual([200, there.body.toString()])
      expect(here.headers['geo-registry-source']).toBe('primary')
    }
  })

  it.each([1, 2, 4])('is read to its end by pages of %i, never leaving the site', async (n) => {
    const answers = await pages(sites.here, `/v2/_catalog?n=${n}`)

    expect(namesOf(answers)).toEqual(repositories)
    expect(answers.length).toBeGreaterThanOrEqual(Math.ceil(repositories.length / n))
  })

  it('is not shown to who may only pull', async () => {
    expect((await sites.reader.request('GET', '/v2/_catalog', { scope: CATALOG })).status).toBe(401)
  })

  it('shows a repository at once that was pushed through the site', async () => {
    const before = namesOf(await pages(sites.here, '/v2/_catalog'))
    const { bytes, mediaType, blobs } = await buildImage({ seed: 'new', layers: [10] })
    for (const blob of blobs) await sites.here.pushBlob('team/z', blob)
    await sites.here.putManifest('team/z', 'v1', bytes, mediaType)

    expect(namesOf(await pages(sites.here, '/v2/_catalog'))).toEqual([...before, 'team/z'])
  })
})

describe('the list of tags', () => {
  it('is the primary’s, whatever is asked for', async () => {
    for (const query of ['', '?n=2', '?n=2&last=1.1', '?last=zzz']) {
      const [here, there] = await Promise.all([
        sites.here.tags('team/a', query),
        sites.there.tags('team/a', query),
      ])
      expect([here.status, here.body.toString(), here.headers['link']]).toEqual([
        there.status,
        there.body.toString(),
        there.headers['link'],
      ])
    }
  })

  it('is read by skopeo', async () => {
    await using skopeo = await startSkopeo()
    await skopeo.login(sites.site.host, DEVELOPER.username, DEVELOPER.password)
    const image = `docker://${sites.site.host}/team/a`
    const { stdout } = await skopeo.exec(['list-tags', '--tls-verify=false', image])

    expect(JSON.parse(stdout).Tags.toSorted()).toEqual(['1.0', '1.1', 'Latest', '_x', 'v1'])
  })

  it('is 404 NAME_UNKNOWN for a repository that is not there', async () => {
    const answer = await sites.reader.tags('team/nowhere')

    expect(answer.status).toBe(404)
    expect(answer.body.toString()).toContain('NAME_UNKNOWN')
  })

  // docker-registry 2.8 pages its catalog only; GitLab's pages tags too, with absolute Links where it knows its name.
  it('is read by skopeo to its end where the primary pages it, whatever host its Links name', async () => {
    const page = (tags: string, link: string) =>
      `default_type application/json; ${link} return 200 '{"name":"team/paged","tags":[${tags}]}';`
    const next = 'https://primary.example:8443/v2/team/paged/tags/list?last=b&n=2'
    const link = `add_header Link '<${next}>; rel="next"';`
    const locations = `
      location = /v2/team/paged/tags/list { if ($arg_last = b) { rewrite ^ /last-page last; } ${page('"a","b"', link)} }
      location = /last-page { ${page('"c"', '')} }`
    await using nginx = await startNginx({ servers: [{ extra: locations }] })
    await using paged = await startGeoRegistry({ primary: nginx.url, auth: sites.tokens })
    await using reader = createRegistryApi(paged.url, { authorize: createLogin(sites.tokens, READER) })
    await using skopeo = await startSkopeo()
    await skopeo.login(paged.host, DEVELOPER.username, DEVELOPER.password)
    const image = `docker://${paged.host}/team/paged`
    const { stdout } = await skopeo.exec(['list-tags', '--tls-verify=false', image])

    expect(JSON.parse(stdout).Tags).toEqual(['a', 'b', 'c'])
    // Skopeo looks at the path of a Link alone; others go where it says.
    const { headers } = await reader.tags('team/paged', '?n=2')
    expect(headers['link']).toBe('</v2/team/paged/tags/list?last=b&n=2>; rel="next"')
  })
})
