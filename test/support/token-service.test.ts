/** The stand-in for GitLab's `/jwt/auth` and the real registry agree with each other, and with facts/gitlab.md 4.1. */
import { decodeJwt, decodeProtectedHeader } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type DockerRegistry, startDockerRegistry } from './docker-registry.ts'
import { mintToken, repositoryAccess, type SigningAlgorithm, signingKey } from './keys.ts'
import { basic, bearer, fetchToken } from './login.ts'
import { startTokenService, type TokenService } from './token-service.ts'

const owned = new AsyncDisposableStack()
let tokens: TokenService
let registry: DockerRegistry

beforeAll(async () => {
  const users = [
    { name: 'alice', password: 'a:b', repositories: { 'team/*': ['pull', 'push'] } },
    { name: 'root', password: 'root', repositories: { '*': ['*'] }, admin: true },
    { name: 'deploy', password: 'deploy', repositories: { 'team/*': ['pull'] }, authType: 'deploy_token' },
  ]
  const anonymous = { 'public/*': ['pull'] }
  tokens = owned.use(await startTokenService({ key: await signingKey(), users, anonymous }))
  registry = owned.use(await startDockerRegistry({ auth: tokens }))
})
afterAll(() => owned.disposeAsync())

const ALICE = { username: 'alice', password: 'a:b' }

describe('token service', () => {
  it('grants several scopes, repeated or in one value, and silently leaves out what is not granted', async () => {
    tokens.projectIds.set('team/a', 7)
    const scopes = ['repository:team/a:pull,push,delete repository:team/b:pull', 'repository:other/x:pull']

    const claims = decodeJwt(await fetchToken(tokens, scopes, ALICE))

    expect(claims).toMatchObject({
      iss: tokens.issuer,
      aud: 'container_registry',
      sub: 'alice',
      auth_type: 'personal_access_token',
      access: [
        {
          type: 'repository',
          name: 'team/a',
          actions: ['pull', 'push'],
          meta: { project_path: 'team/a', project_id: 7 },
        },
        { type: 'repository', name: 'team/b', actions: ['pull'] },
      ],
    })
    expect((claims.exp ?? 0) - (claims.iat ?? 0)).toBe(300)
    expect((claims.iat ?? 0) - (claims.nbf ?? 0)).toBe(5)
  })

  it('logs a user in without scopes, with an empty token that the registry takes', async () => {
    const token = await fetchToken(tokens, [], ALICE)
    const answer = await fetch(`${registry.url}/v2/`, { headers: { authorization: bearer(token) } })

    expect(decodeJwt(token)['access']).toEqual([])
    expect(decodeProtectedHeader(token)).toEqual({ typ: 'JWT', alg: 'RS256', kid: tokens.key.kid })
    expect(answer.status).toBe(200)
  })

  it('leaves the subject out for anonymous callers and deploy tokens', async () => {
    const anonymous = decodeJwt(await fetchToken(tokens, ['repository:public/a:pull,push']))
    const deploy = decodeJwt(
      await fetchToken(tokens, ['repository:team/a:pull'], { username: 'deploy', password: 'deploy' }),
    )

    expect(anonymous).toMatchObject({ access: [{ name: 'public/a', actions: ['pull'] }] })
    expect([anonymous.sub, deploy.sub]).toEqual([undefined, undefined])
  })

  it('grants the catalog to admins only', async () => {
    const scope = ['registry:catalog:*']
    const admin = await fetchToken(tokens, scope, { username: 'root', password: 'root' })
    const answer = await fetch(`${registry.url}/v2/_catalog`, { headers: { authorization: bearer(admin) } })

    expect(answer.status).toBe(200)
    expect(decodeJwt(await fetchToken(tokens, scope, ALICE))['access']).toEqual([])
  })

  it.each([
    ['a wrong password', 'GET', '?service=container_registry', basic('alice', 'wrong'), 401],
    ['an anonymous caller with nothing', 'GET', '?service=container_registry', undefined, 403],
    ['another service', 'GET', '?service=dependency_proxy', basic('alice', 'a:b'), 404],
    ['another account', 'GET', '?service=container_registry&account=bob', basic('alice', 'a:b'), 404],
    ['POST', 'POST', '?service=container_registry', basic('alice', 'a:b'), 404],
  ])('refuses %s', async (_, method, query, authorization, status) => {
    const headers: Record<string, string> = authorization === undefined ? {} : { authorization }

    expect((await fetch(`${tokens.realm}${query}`, { method, headers })).status).toBe(status)
    expect(tokens.requests.at(-1)).toMatchObject({ method, status })
  })

  it('denies everything but pull in maintenance mode', async () => {
    tokens.maintenance = true
    try {
      const claims = decodeJwt(await fetchToken(tokens, ['repository:team/a:pull,push'], ALICE))
      expect(claims).toMatchObject({ access: [{ actions: ['pull'] }] })
    } finally {
      tokens.maintenance = false
    }
  })

  it('goes away and comes back on its port', async () => {
    await tokens.stop()
    await expect(fetchToken(tokens, [], ALICE)).rejects.toThrow()
    await tokens.start()

    await expect(fetchToken(tokens, [], ALICE)).resolves.toBeTypeOf('string')
  })
})

describe('keys', () => {
  it.each<SigningAlgorithm>(['RS256', 'RS384', 'RS512', 'ES256', 'ES384'])(
    'signs tokens that a real registry takes, by the kid alone (%s)',
    async (algorithm) => {
      const key = await signingKey({ algorithm, name: `key-${algorithm}` })
      await using strict = await startDockerRegistry({ auth: { ...tokens, key } })
      const ask = async (token: string) =>
        (await fetch(`${strict.url}/v2/a/tags/list`, { headers: { authorization: bearer(token) } })).status
      const access = [repositoryAccess('a')]

      expect(await ask(await mintToken(key, { access }))).toBe(404) // Let in: no such repository.
      expect(await ask(await mintToken(key, { access, kid: 'AAAA:BBBB' }))).toBe(401)
      expect(await ask(await mintToken(key, { access, iss: 'somebody-else' }))).toBe(401)
      expect(await ask(await mintToken(key, { access, alg: 'none' }))).toBe(401)
      expect(await ask(await mintToken(key, { access, alg: 'HS256' }))).toBe(401)
      expect(await ask(await mintToken(tokens.key, { access }))).toBe(401)
    },
  )
})
