/** What the primary says it has: by real lists of both kinds, and by lists that lie. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Inventory } from '../../replicator/inventory.ts'
import { createInventory } from '../../replicator/open-inventory.ts'
import { formatScopes, parseScopes } from '../../src/auth/scope.ts'
import { createLogger } from '../../src/log.ts'
import { createMintedTokenSource } from '../../src/upstream/token-source.ts'
import type { Upstream } from '../../src/upstream/upstream.ts'
import { allOf, inventoryContract, type ListedPrimary } from '../contracts/inventory.contract.ts'
import { nameOf } from '../store/store-fixture.ts'
import { startDockerRegistry } from '../support/docker-registry.ts'
import { startGitlabApi } from '../support/gitlab-api.ts'
import { buildArtifact } from '../support/images.ts'
import { type Access, DEFAULT_ISSUER, DEFAULT_SERVICE, mintToken, signingKey } from '../support/keys.ts'
import { html, ociError, silence, tooManyRequests, truncatedBody } from '../support/lies.ts'
import { bearer } from '../support/login.ts'
import { type Lie, type LyingPrimary, sendHonestly, startLyingPrimary } from '../support/lying-primary.ts'
import { pushImage } from '../support/push-image.ts'
import { createRegistryApi } from '../support/registry-api.ts'
import { type Client, clientOf } from '../upstream/primary.ts'

const log = createLogger({ level: 'silent' })

inventoryContract('the lists every registry has', { kind: 'oci', requestsFor: () => 1 }, () =>
  openListed({ gitlab: false }),
)
inventoryContract(
  "GitLab's own lists",
  { kind: 'gitlab', requestsFor: (count) => Math.ceil(count / 1000) },
  () => openListed({ gitlab: true }),
)

async function openListed({ gitlab }: { gitlab: boolean }): Promise<ListedPrimary> {
  await using starting = new AsyncDisposableStack()
  const registry = starting.use(await startDockerRegistry())
  // Its links name the host that clients know, which is not where this site reaches it.
  const front = gitlab
    ? starting.use(await startGitlabApi(registry, { host: 'https://gitlab.example' }))
    : registry
  const api = starting.use(createRegistryApi(registry.url))
  const client = clientOf(front.url)
  starting.defer(() => client.dispatcher.close())
  let asked = 0
  const counting: Pick<Upstream, 'origin' | 'forward'> = {
    origin: client.upstream.origin,
    forward: (ask) => {
      asked++
      return client.upstream.forward(ask)
    },
  }
  const owned = starting.move()
  return {
    inventory: createInventory({ upstream: counting, log }),
    async hold(name, tags) {
      const image = buildArtifact({ payload: name })
      await pushImage(api, name, tags[0], image)
      const folder = join(registry.root, 'docker/registry/v2/repositories', name, '_manifests/tags')
      for (const tag of tags.slice(1)) {
        await mkdir(join(folder, tag, 'current'), { recursive: true })
        await writeFile(join(folder, tag, 'current/link'), image.digest)
      }
      return image.digest
    },
    async holdEmpty(names) {
      for (const name of names) {
        const folder = join(registry.root, 'docker/registry/v2/repositories', name)
        await mkdir(join(folder, '_layers'), { recursive: true })
        await mkdir(join(folder, '_manifests/tags'), { recursive: true })
      }
    },
    requests() {
      const before = asked
      asked = 0
      return before
    },
    stop: () => front.stop(),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

describe('a primary that wants to know who asks', () => {
  it.each([false, true])(
    "is shown the site's token for just the list that is read (GitLab: %s)",
    async (gitlab) => {
      const key = await signingKey()
      const auth = {
        realm: 'http://127.0.0.1/jwt/auth',
        service: DEFAULT_SERVICE,
        issuer: DEFAULT_ISSUER,
        key,
      }
      await using registry = await startDockerRegistry({ auth })
      await using front = gitlab ? await startGitlabApi(registry) : undefined
      await using api = createRegistryApi(registry.url, {
        authorize: (scope) => mint(parseScopes(scope) ?? []),
      })
      await pushImage(api, 'team/app', 'v1', buildArtifact())
      const asked: string[] = []
      const tokens = createMintedTokenSource((scopes) => {
        asked.push(formatScopes(scopes))
        return mint(scopes).then((header) => header.slice('Bearer '.length))
      })
      const { upstream, dispatcher } = clientOf(front?.url ?? registry.url, { tokens: () => tokens })
      const inventory = createInventory({ upstream, log })

      expect(await allOf(inventory)).toEqual(['team/app'])
      expect((await inventory.tags(nameOf('team/app'))).map(({ tag }) => tag)).toEqual(['v1'])
      expect(asked).toEqual(['registry:catalog:*', '', 'repository:team/app:pull'])
      await dispatcher.close()

      async function mint(access: readonly Access[]): Promise<string> {
        return bearer(await mintToken(key, { access }))
      }
    },
  )
})

describe('a primary that lies about its lists', () => {
  const TAGS = '/v2/team/app/tags/list'
  const CATALOG = '/v2/_catalog'
  const name = nameOf('team/app')
  let primary: LyingPrimary
  let client: Client
  let inventory: Inventory

  beforeEach(async () => {
    primary = await startLyingPrimary()
    client = clientOf(primary.url, { timeouts: { headMs: 300 } })
    inventory = createInventory({ upstream: client.upstream, log }, { bodyMs: 300 })
  })
  afterEach(async () => {
    await client.dispatcher.close()
    await primary[Symbol.asyncDispose]()
  })

  /** Answers each request with the next page, and the last one for ever. `{next}` is the query of its `Link`. */
  function pages(path: string, ...answers: readonly { body: unknown; link?: string }[]): void {
    let at = 0
    primary.lie('GET', path, (ask) => {
      const { body, link } = answers[Math.min(at++, answers.length - 1)] ?? { body: null }
      const headers = { 'content-type': 'application/json', ...(link === undefined ? {} : { link }) }
      sendHonestly({ ...ask, honest: { status: 200, headers, body: Buffer.from(JSON.stringify(body)) } })
    })
  }
  const tagPage = (...tags: string[]) => ({ name, tags })

  it.each([
    ['an HTML 401', html(401), 'unauthorized'],
    ['an HTML 403', html(403), 'denied'],
    ["an ingress's HTML 404", html(404), 'faulty'],
    ['a 404 that speaks of a manifest', ociError(404, 'MANIFEST_UNKNOWN'), 'faulty'],
    ['a 404 that denies the route', ociError(404, 'NOT_FOUND'), 'faulty'],
    ['a sign-in page with 200', html(200), 'faulty'],
    ['an empty 200', bodyOf(''), 'faulty'],
    ['a body cut short under a fitting length', truncatedBody(), 'faulty'],
    ['the tags of another repository', bodyOf('{"name":"team/other","tags":["v1"]}'), 'faulty'],
    ['a list without tags', bodyOf('{"name":"team/app"}'), 'faulty'],
    ['tags that are no texts', bodyOf('{"name":"team/app","tags":[1]}'), 'faulty'],
    ['a tag outside the grammar', bodyOf('{"name":"team/app","tags":["../../etc"]}'), 'faulty'],
    ['an HTML 502', html(502), 'unavailable'],
    ['a 429', tooManyRequests('1'), 'limited'],
    ['no answer', silence(), 'unavailable'],
  ] as const)('takes %s for no list of tags', async (_what, lie: Lie, kind) => {
    await primary.hold(name, buildArtifact(), 'v1')
    primary.lie('GET', TAGS, lie)

    await expect(inventory.tags(name)).rejects.toMatchObject({ name: 'UpstreamError', kind })
  })

  it('says absent only when NAME_UNKNOWN is said of the repository itself', async () => {
    primary.lie('GET', TAGS, ociError(404, 'NAME_UNKNOWN'))
    await expect(inventory.tags(name)).rejects.toMatchObject({ kind: 'absent' })

    primary.lie('GET', CATALOG, ociError(404, 'NAME_UNKNOWN'))
    await expect(allOf(inventory)).rejects.toMatchObject({ kind: 'faulty' })
  })

  it('takes a next page that is not there for a fault, not for the end', async () => {
    let first = true
    primary.lie('GET', TAGS, (ask) => {
      const answer = first
        ? linkedTo(JSON.stringify(tagPage('a', 'b')), `${TAGS}?n=2&last=b`)
        : ociError(404, 'NAME_UNKNOWN')
      first = false
      return answer(ask)
    })

    await expect(inventory.tags(name)).rejects.toMatchObject({ kind: 'faulty' })
  })

  it.each([
    ['the same page again', [{ body: tagPage('a', 'b'), link: next('?last=b') }]],
    [
      'pages in a circle, under ever new links',
      [
        { body: tagPage('a', 'b'), link: next('?last=b') },
        { body: tagPage('c', 'd'), link: next('?last=d') },
        { body: tagPage('a', 'b'), link: next('?last=b2') },
      ],
    ],
    ['an empty page before the end', [{ body: tagPage(), link: next('?last=b') }]],
    ['a link to itself', [{ body: tagPage('a', 'b'), link: next('?n=1000') }]],
    [
      'a link into another list',
      [{ body: tagPage('a'), link: '</v2/team/other/tags/list?last=a>; rel="next"' }],
    ],
    ['a link that is none', [{ body: tagPage('a'), link: '<http://[>; rel="next"' }]],
  ] as const)('takes a list for faulty that answers with %s', async (_what, answers) => {
    pages(TAGS, ...answers)

    await expect(inventory.tags(name)).rejects.toMatchObject({ kind: 'faulty' })
    expect(primary.asked('GET', TAGS).length).toBeLessThan(5)
  })

  it.each([
    ['relative to the host', `<${TAGS}?n=2&last=b>; rel="next"`],
    ['relative to the page', '<list?n=2&last=b>; rel=next'],
    ['of nothing but a query', '<?n=2&last=b>; rel="next"; title="a, b"'],
    ['behind one to the page before', `<${TAGS}?before=a>; rel="previous", <${TAGS}?n=2&last=b>; rel="next"`],
    ['under the name that clients know', `<https://registry.example${TAGS}?n=2&last=b>; rel="next"`],
  ])('follows a link %s, always to the primary it asked', async (_what, link) => {
    pages(TAGS, { body: tagPage('a', 'b'), link }, { body: tagPage('c') })

    expect((await inventory.tags(name)).map(({ tag }) => tag)).toEqual(['a', 'b', 'c'])
    expect(primary.asked('GET', TAGS).map(({ url }) => url)).toEqual([`${TAGS}?n=1000`, `${TAGS}?n=2&last=b`])
  })

  it('knows that a repository whose tags are null or [] has none', async () => {
    pages(TAGS, { body: { name, tags: null } }, { body: { name, tags: [] } })

    expect([await inventory.tags(name), await inventory.tags(name)]).toEqual([[], []])
  })

  it('gives an empty catalog as it is: whoever would remove by it has to ask the brake', async () => {
    pages(CATALOG, { body: { repositories: [] } })

    expect(await allOf(inventory)).toEqual([])
  })

  it('leaves out of the catalog what is no repository name, and keeps the rest', async () => {
    pages(CATALOG, { body: { repositories: ['team/app', 'Team/App', '../etc', 'team/b'] } })

    expect(await allOf(inventory)).toEqual(['team/app', 'team/b'])
  })

  it.each([
    ['an HTML page', html(200)],
    ["an ingress's 404", html(404)],
    ['tags', bodyOf('{"name":"team/app","tags":["v1"]}')],
    ['a catalog cut short', bodyOf('{"repositories":["team/app"')],
  ])('takes %s for no catalog', async (_what, lie) => {
    primary.lie('GET', CATALOG, lie)

    await expect(allOf(inventory)).rejects.toMatchObject({ kind: 'faulty' })
  })

  it('gives what came before a catalog breaks, and then says that it broke', async () => {
    let asked = 0
    primary.lie('GET', CATALOG, (ask) => {
      const page = linkedTo('{"repositories":["a","b"]}', `${CATALOG}?n=1000&last=b`)
      return (asked++ === 0 ? page : html(502))(ask)
    })
    const seen: string[] = []

    const reading = (async () => {
      for await (const page of inventory.repositories()) seen.push(...page)
    })()

    await expect(reading).rejects.toMatchObject({ kind: 'unavailable' })
    expect(seen).toEqual(['a', 'b'])
  })

  it('asks a registry with a sign-in page at /gitlab/v1/ for the lists every registry has', async () => {
    primary.lie('GET', '/gitlab/v1/', html(200))

    expect(await inventory.kind()).toBe('oci')
  })

  it('does not take an outage for a primary without the API', async () => {
    primary.lie('GET', '/gitlab/v1/', html(503), { times: 1 })

    await expect(inventory.kind()).rejects.toMatchObject({ kind: 'unavailable' })
    expect(await inventory.kind()).toBe('oci')
  })

  it('asks anew which lists there are after 10 minutes, and after a fault of the API', async () => {
    let nowMs = 0
    inventory = createInventory({ upstream: client.upstream, log }, { now: () => nowMs })
    const takeBack = primary.lie('GET', '/gitlab/v1/', bodyOf('{}'))
    await primary.hold(name, buildArtifact(), 'v1')

    expect(await inventory.kind()).toBe('gitlab')
    takeBack()
    expect(await inventory.kind()).toBe('gitlab')
    await expect(inventory.tags(name)).rejects.toMatchObject({ kind: 'faulty' })
    expect((await inventory.tags(name)).map(({ tag }) => tag)).toEqual(['v1'])

    primary.lie('GET', '/gitlab/v1/', bodyOf('{}'))
    nowMs += 10 * 60_000 - 1
    expect(await inventory.kind()).toBe('oci')
    nowMs += 1
    expect(await inventory.kind()).toBe('gitlab')
  })

  it("asks for a tag's digest itself where GitLab's list has one that cannot be verified here", async () => {
    primary.lie('GET', '/gitlab/v1/', bodyOf('{}'))
    primary.lie('GET', /^\/gitlab\/v1\/repositories\//, bodyOf('[{"name":"v1","digest":"md5:0"}]'))

    expect(await inventory.tags(name)).toEqual([{ tag: 'v1', digest: undefined }])
  })

  it.each(['{"name":"v1"}', '[{"name":"v1"}]', '[null]', '[{"digest":"sha256:0"}]'])(
    "takes %s for no list of GitLab's",
    async (body) => {
      primary.lie('GET', '/gitlab/v1/', bodyOf('{}'))
      primary.lie('GET', /^\/gitlab\/v1\/repositories\//, bodyOf(body))

      await expect(inventory.tags(name)).rejects.toMatchObject({ kind: 'faulty' })
    },
  )

  function next(query: string): string {
    return `<${TAGS}${query}>; rel="next"`
  }
})

function bodyOf(text: string): Lie {
  return (ask) =>
    sendHonestly({
      ...ask,
      honest: { status: 200, headers: { 'content-type': 'application/json' }, body: Buffer.from(text) },
    })
}

function linkedTo(text: string, target: string): Lie {
  return (ask) =>
    sendHonestly({
      ...ask,
      honest: { status: 200, headers: { link: `<${target}>; rel="next"` }, body: Buffer.from(text) },
    })
}
