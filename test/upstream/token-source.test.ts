import type { RequestListener } from 'node:http'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { parseScopes } from '../../src/auth/scope.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { parseRepositoryName } from '../../src/oci/reference.ts'
import { createMintedTokenSource, createPasswordTokenSource } from '../../src/upstream/token-source.ts'
import { clientOf, type HttpPrimary, httpPrimary, releasers } from './primary.ts'

const SCOPE = 'repository:group/app:pull'
const BASIC = `Basic ${Buffer.from('site:s3cret').toString('base64')}`
const login = () => ({ username: 'site', password: 's3cret' })

const owed = releasers()
afterEach(() => owed.release())

async function server(answer: RequestListener): Promise<HttpPrimary> {
  const started = await httpPrimary(answer)
  owed.add(started.close)
  return started
}

interface World {
  /** Answers for the token service; default a new token each time. */
  token?: RequestListener
  /** The challenge of a 401; `PRIMARY` stands for the primary's origin. */
  challenge?: string
  realm?: string
  now?: () => number
}

/** A primary with its token service at `/token`, and the site's token source. */
async function world({ token, challenge, realm, now }: World = {}) {
  let issued = 0
  const give: RequestListener = (_request, response) =>
    response.end(JSON.stringify({ token: `t${++issued}` }))
  const primary = await server((request, response) => {
    if (request.url?.startsWith('/token')) return (token ?? give)(request, response)
    const words = challenge ?? 'Bearer realm="PRIMARY/token",service="registry"'
    return response.writeHead(401, { 'www-authenticate': words.replaceAll('PRIMARY', primary.origin) }).end()
  })
  const client = clientOf(primary.origin)
  owed.add(client.dispatcher.close)
  const tokens = createPasswordTokenSource(client.dispatcher, { login, realm, now })
  const asked = () => primary.requests.map(({ url, headers }) => `${url} ${headers.authorization ?? ''}`)
  return { primary, tokens, asked, dispatcher: client.dispatcher }
}

describe('the site’s login', () => {
  it('is traded for a token at the realm the primary names, once for each scope', async () => {
    const { tokens, asked } = await world()

    expect(await tokens.authorization(SCOPE)).toBe('Bearer t1')
    expect(await tokens.authorization(SCOPE)).toBe('Bearer t1')
    expect(await tokens.authorization('registry:catalog:*')).toBe('Bearer t2')

    expect(asked()).toEqual([
      '/v2/ ',
      `/token?service=registry&account=site&scope=${encodeURIComponent(SCOPE)} ${BASIC}`,
      `/token?service=registry&account=site&scope=${encodeURIComponent('registry:catalog:*')} ${BASIC}`,
    ])
  })

  it('costs one ping and one token however many want it at once', async () => {
    const { tokens, asked } = await world()

    const all = await Promise.all(Array.from({ length: 20 }, () => tokens.authorization(SCOPE)))

    expect(new Set(all)).toEqual(new Set(['Bearer t1']))
    expect(asked()).toHaveLength(2)
  })

  it('is not lost for the others when one of those who wait gives up', async () => {
    const { tokens } = await world({
      token: (_request, response) => void setTimeout(() => response.end('{"token":"late"}'), 100),
    })
    const leave = new AbortController()

    const impatient = tokens.authorization(SCOPE, leave.signal)
    const patient = tokens.authorization(SCOPE)
    leave.abort()

    await expect(impatient).rejects.toMatchObject({ kind: 'aborted' })
    expect(await patient).toBe('Bearer late')
    await expect(tokens.authorization('x:y:pull', AbortSignal.abort())).rejects.toMatchObject({
      kind: 'aborted',
    })
  })

  it('that is refused rests, whatever it is wanted for: GitLab bans an address after 30 refusals in 3 minutes', async () => {
    let nowMs = 0
    let password = 'wrong'
    const refusing: RequestListener = ({ headers }, response) => {
      const right = headers.authorization === BASIC
      response.writeHead(right ? 200 : 401).end(JSON.stringify({ token: 'at-last' }))
    }
    const { primary, dispatcher } = await world({ token: refusing })
    const tokens = createPasswordTokenSource(dispatcher, {
      login: () => ({ username: 'site', password }),
      now: () => nowMs,
    })
    const logins = () => primary.requests.filter(({ url }) => url?.startsWith('/token')).length

    for (; nowMs < 180_000; nowMs += 1000) {
      const scope = `repository:group/app-${nowMs}:pull`
      await expect(tokens.authorization(scope)).rejects.toMatchObject({ kind: 'unauthorized' })
    }
    const refused = logins()
    password = 's3cret'

    expect(refused).toBeLessThan(15)
    expect(await tokens.authorization(SCOPE)).toBe('Bearer at-last') // At once: it is another login.
  })

  it.each([
    ['says 300 s', '{"token":"t","expires_in":300}', 289_999, 290_000],
    ['says nothing, which means 60 s', '{"access_token":"t"}', 49_999, 50_000],
    ['says 8 s', '{"token":"t","expires_in":8}', 5_999, 6_000],
    ['says nonsense', '{"token":"t","expires_in":-5}', 49_999, 50_000],
  ])(
    'keeps a token a little shorter than it is good for, where the service %s',
    async (_what, body, kept, gone) => {
      let nowMs = 1000
      const { tokens, asked } = await world({
        token: (_request, response) => response.end(body),
        now: () => nowMs,
      })

      await tokens.authorization(SCOPE)
      nowMs = 1000 + kept
      await tokens.authorization(SCOPE)
      expect(asked()).toHaveLength(2)
      nowMs = 1000 + gone
      await tokens.authorization(SCOPE)
      expect(asked()).toHaveLength(3)
    },
  )

  it('goes to no realm elsewhere, whoever names it (CVE-2026-33540)', async () => {
    const thief = await server((_request, response) => response.end('{"token":"t"}'))
    for (const realm of [
      `${thief.origin}/token`,
      '//evil.example.com/',
      'file:///etc/passwd',
      '',
      'PRIMARY@evil.example.com/',
    ]) {
      const { tokens, asked } = await world({ challenge: `Bearer realm="${realm}",service="registry"` })

      await expect(tokens.authorization(SCOPE)).rejects.toMatchObject({
        name: 'UpstreamError',
        kind: 'faulty',
      })
      expect(asked()).toEqual(['/v2/ '])
    }
    expect(thief.requests).toHaveLength(0)
  })

  it('goes to the realm of the configuration, and then no longer to the primary’s own', async () => {
    const gitlab = await server((_request, response) => response.end('{"token":"from-gitlab"}'))
    const at = (realm: string) =>
      world({ challenge: `Bearer realm="${realm}"`, realm: `${gitlab.origin}/jwt/auth` })

    expect(await (await at(`${gitlab.origin}/jwt/auth`)).tokens.authorization(SCOPE)).toBe(
      'Bearer from-gitlab',
    )
    await expect((await at('PRIMARY/token')).tokens.authorization(SCOPE)).rejects.toMatchObject({
      kind: 'faulty',
    })
  })

  it('is never sent in clear when the primary is reached over https', () => {
    const { dispatcher } = clientOf('https://registry.example.com')
    owed.add(dispatcher.close)

    expect(() =>
      createPasswordTokenSource(dispatcher, { login, realm: 'http://gitlab.example.com/jwt/auth' }),
    ).toThrow(/must be https/)
  })

  it('follows no redirect of the token service', async () => {
    const thief = await server((_request, response) => response.end('{"token":"t"}'))
    const { tokens } = await world({
      token: (_request, response) => response.writeHead(307, { location: thief.origin }).end(),
    })

    await expect(tokens.authorization(SCOPE)).rejects.toMatchObject({ kind: 'faulty' })
    expect(thief.requests).toHaveLength(0)
  })

  it('is sent itself where the primary asks for Basic, and not at all where it asks for nothing', async () => {
    const basic = await world({ challenge: 'Basic realm="registry"' })
    expect(await basic.tokens.authorization(SCOPE)).toBe(BASIC)

    const open = await server((_request, response) => response.end('{}'))
    const { dispatcher } = clientOf(open.origin)
    owed.add(dispatcher.close)
    expect(await createPasswordTokenSource(dispatcher, { login }).authorization(SCOPE)).toBe(undefined)
  })

  it.each([
    ['401', 401, '{"errors":[{"code":"UNAUTHORIZED"}]}', 'unauthorized'],
    ['403', 403, '', 'denied'],
    ['429', 429, '', 'limited'],
    ['500', 500, '', 'unavailable'],
    ['404', 404, '', 'faulty'],
    ['a web page', 200, '<html>', 'faulty'],
    ['no token', 200, '{"token":""}', 'faulty'],
    ['a token that is a header', 200, '{"token":"a\\r\\nx: y"}', 'faulty'],
    ['more than 64 KiB', 200, `{"token":"${'t'.repeat(70_000)}"}`, 'faulty'],
  ])(
    'that is answered %s is an upstream error of its kind, and tried afresh half a minute later',
    async (_what, status, body, kind) => {
      let nowMs = 0
      const { tokens, asked } = await world({
        now: () => nowMs,
        token: (_request, response) => response.writeHead(status).end(body),
      })

      await expect(tokens.authorization(SCOPE)).rejects.toMatchObject({ name: 'UpstreamError', kind })
      nowMs += 30_000
      await expect(tokens.authorization(SCOPE)).rejects.toMatchObject({ kind })
      expect(asked()).toHaveLength(3)
    },
  )

  it('that no challenge can be met with is a fault', async () => {
    const { tokens } = await world({ challenge: 'Negotiate' })

    await expect(tokens.authorization(SCOPE)).rejects.toMatchObject({ kind: 'faulty' })
  })
})

describe('a request with the site’s own credential', () => {
  const NAME = parseRepositoryName('group/app') ?? expect.unreachable()
  const DIGEST = digestOf(Buffer.from('x'))

  async function revoking(accepted: () => string) {
    let issued = 0
    const primary = await server((request, response) => {
      const { authorization } = request.headers
      if (request.url?.startsWith('/token'))
        response.end(JSON.stringify({ token: `t${++issued}`, expires_in: 900 }))
      else if (authorization === accepted()) response.writeHead(200, { 'content-length': 1 }).end('x')
      else response.writeHead(401, { 'www-authenticate': `Bearer realm="${primary.origin}/token"` }).end()
    })
    const client = clientOf(primary.origin, {
      tokens: (dispatcher) => createPasswordTokenSource(dispatcher, { login }),
    })
    owed.add(client.dispatcher.close)
    return { ...client, primary }
  }
  const ASK = { credential: { kind: 'site' } } as const

  it('asks once more with a new token when a kept one is refused', async () => {
    let accepted = 'Bearer t1'
    const { upstream, primary } = await revoking(() => accepted)
    await upstream.confirmBlob(NAME, DIGEST, ASK)
    accepted = 'Bearer t2'

    expect(await upstream.confirmBlob(NAME, DIGEST, ASK)).toBe(1)
    expect((await upstream.getBlob(NAME, DIGEST, ASK)).sizeBytes).toBe(1)
    const scopes = primary.requests.flatMap(({ url }) => /scope=([^&]*)/.exec(url ?? '')?.[1] ?? [])
    expect(new Set(scopes.map(decodeURIComponent))).toEqual(new Set([SCOPE]))
  })

  it('is unauthorized, not repeated for ever, where no token will do', async () => {
    const { upstream, primary } = await revoking(() => 'never')

    await expect(upstream.getBlob(NAME, DIGEST, ASK)).rejects.toMatchObject({ kind: 'unauthorized' })
    expect(primary.requests.filter(({ url }) => url?.includes('/blobs/'))).toHaveLength(2)
  })

  it('never stands in for a caller who was refused', async () => {
    const { upstream, primary } = await revoking(() => 'Bearer t1')

    await expect(
      upstream.confirmBlob(NAME, DIGEST, { credential: { kind: 'caller', authorization: 'Bearer caller' } }),
    ).rejects.toMatchObject({ kind: 'unauthorized' })
    expect(primary.requests).toHaveLength(1)
  })

  it('carries a token minted for the one request where a key is configured', async () => {
    const mint = vi.fn(async () => 'minted')
    const tokens = createMintedTokenSource(mint)

    expect(await tokens.authorization(SCOPE)).toBe('Bearer minted')
    expect(mint).toHaveBeenCalledWith(parseScopes(SCOPE))
    expect(tokens.refused(SCOPE)).toBe(false)
    mint.mockRejectedValue(new Error('no key'))
    await expect(tokens.authorization(SCOPE)).rejects.toMatchObject({ kind: 'unauthorized' })
    await expect(tokens.authorization('no scope')).rejects.toMatchObject({ kind: 'unauthorized' })
  })
})
