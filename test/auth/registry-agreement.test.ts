/**
 * The same requests with the same tokens to Debian's docker-registry and to our own decision: whatever it refuses, we
 * refuse, with the same challenge; whatever it lets through, we let through (law 3, to the letter of facts 4.2).
 * A list of audiences is left out: GitLab's registry takes one, Debian's 2.8 does not yet.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseChallenges } from '../../src/auth/challenge.ts'
import { type AccessTarget, requiredAccess } from '../../src/auth/scope.ts'
import { createTokenMinter } from '../../src/auth/token-minter.ts'
import { TokenError, type TokenVerifier } from '../../src/auth/token-verifier.ts'
import { unauthorized } from '../../src/auth/unauthorized.ts'
import { parseRepositoryName } from '../../src/oci/reference.ts'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import {
  DEFAULT_ISSUER,
  DEFAULT_SERVICE,
  mintToken,
  repositoryAccess,
  type SigningKey,
  signingKey,
  type TokenOptions,
} from '../support/keys.ts'
import { tempFolder } from '../support/temp.ts'
import { type VerifierBench, verifierBench } from './verifier.ts'

const REALM = 'https://gitlab.example.com/jwt/auth'

let key: SigningKey
let stranger: SigningKey
let registry: DockerRegistry
let bench: VerifierBench

beforeAll(async () => {
  key = await signingKey()
  stranger = await signingKey({ name: 'stranger' })
  bench = await verifierBench(key)
  registry = await startDockerRegistry({
    auth: { realm: REALM, service: DEFAULT_SERVICE, issuer: DEFAULT_ISSUER, key },
  })
})
afterAll(async () => {
  await registry[Symbol.asyncDispose]()
  await bench[Symbol.asyncDispose]()
})

interface Decision {
  readonly allowed: boolean
  readonly challenge?: unknown
  readonly detail?: unknown
}

function repository(text: string, from?: string): AccessTarget {
  const name = parseRepositoryName(text)
  if (!name) throw new Error(`${text} is no repository name`)
  return { name, from }
}

/** Go writes the resources and actions of a scope in the order of a map, that is in any. */
function comparable(header: string | null | undefined): unknown {
  return parseChallenges(header ?? undefined).map(({ scheme, parameters }) => {
    const scopes = parameters
      .get('scope')
      ?.split(' ')
      .map((scope) => {
        const end = scope.lastIndexOf(':')
        return `${scope.slice(0, end)}:${scope
          .slice(end + 1)
          .split(',')
          .sort()
          .join(',')}`
      })
    return { scheme, ...Object.fromEntries(parameters), scope: scopes?.sort().join(' ') }
  })
}

async function theirs(method: string, path: string, authorization: string | undefined): Promise<Decision> {
  const response = await fetch(registry.url + path, {
    method,
    headers: authorization === undefined ? {} : { authorization },
  })
  const text = await response.text()
  if (response.status !== 401) return { allowed: true }
  const body: unknown = JSON.parse(text)
  return { allowed: false, challenge: comparable(response.headers.get('www-authenticate')), detail: body }
}

async function ours(
  verifier: TokenVerifier,
  method: string,
  target: AccessTarget,
  authorization: string | undefined,
): Promise<Decision> {
  const required = requiredAccess(method, target)
  const refuse = (reason: 'missing' | 'invalid' | 'insufficient_scope'): Decision => {
    const error = unauthorized({ realm: REALM, service: DEFAULT_SERVICE }, required, reason)
    const { code, message } = error
    // `ProjectPath` is GitLab's addition; Distribution 2.8 has the rest.
    const detail: unknown = JSON.parse(
      JSON.stringify({ errors: [{ code, message, detail: error.detail }] }).replaceAll(
        '"ProjectPath":"",',
        '',
      ),
    )
    return { allowed: false, challenge: comparable(error.headers['www-authenticate']), detail }
  }
  try {
    const caller = await verifier.verify(authorization)
    return caller.allows(required) ? { allowed: true } : refuse('insufficient_scope')
  } catch (error) {
    if (error instanceof TokenError) return refuse(error.code)
    throw error
  }
}

const DIGEST = `sha256:${'0'.repeat(64)}`
const REQUESTS: [method: string, path: string, target: AccessTarget][] = [
  ['GET', '/v2/', 'ping'],
  ['GET', '/v2/_catalog', 'catalog'],
  ['GET', '/v2/team/app/manifests/latest', repository('team/app')],
  ['PUT', '/v2/team/app/manifests/latest', repository('team/app')],
  ['POST', '/v2/team/app/blobs/uploads/', repository('team/app')],
  ['POST', `/v2/team/app/blobs/uploads/?mount=${DIGEST}&from=team/base`, repository('team/app', 'team/base')],
  ['POST', `/v2/team/app/blobs/uploads/?mount=${DIGEST}&from=team/app`, repository('team/app', 'team/app')],
  ['DELETE', `/v2/team/app/manifests/${DIGEST}`, repository('team/app')],
  ['GET', '/v2/team/app/tags/list', repository('team/app')],
]

const now = () => Math.floor(Date.now() / 1000)
const TOKENS: Record<string, () => TokenOptions> = {
  'grants nothing': () => ({}),
  'grants pull': () => ({ access: [repositoryAccess('team/app')] }),
  'grants push without pull': () => ({ access: [repositoryAccess('team/app', ['push'])] }),
  'grants pull and push': () => ({ access: [repositoryAccess('team/app', ['pull', 'push'])] }),
  'grants delete': () => ({ access: [repositoryAccess('team/app', ['delete'])] }),
  'grants everything': () => ({ access: [repositoryAccess('team/app', ['*'])] }),
  'grants both of a mount': () => ({
    access: [repositoryAccess('team/app', ['push', 'pull']), repositoryAccess('team/base')],
  }),
  'grants it in two entries': () => ({
    access: [repositoryAccess('team/app'), repositoryAccess('team/app', ['push'])],
  }),
  'grants another repository': () => ({ access: [repositoryAccess('team/app2', ['*'])] }),
  'grants a literal team/*': () => ({ access: [repositoryAccess('team/*', ['*'])] }),
  'grants the catalog': () => ({ access: [{ type: 'registry', name: 'catalog', actions: ['*'] }] }),
  'grants pull on the catalog': () => ({
    access: [{ type: 'registry', name: 'catalog', actions: ['pull'] }],
  }),
  'expired 50 s ago': () => ({ exp: now() - 50 }),
  'expired 70 s ago': () => ({ exp: now() - 70 }),
  'begins in 50 s': () => ({ nbf: now() + 50 }),
  'begins in 70 s': () => ({ nbf: now() + 70 }),
  'has no exp': () => ({ claims: { exp: undefined } }),
  'has another issuer': () => ({ iss: 'other' }),
  'has another audience': () => ({ aud: 'other' }),
  'has access null': () => ({ claims: { access: null } }),
  'has access as text': () => ({ claims: { access: 'all' } }),
  'has sub null': () => ({ claims: { sub: null } }),
  'has an unknown kid': () => ({ kid: 'AAAA:BBBB' }),
  'has no kid': () => ({ kid: null }),
  'is not signed': () => ({ alg: 'none' }),
  'is signed with HS256': () => ({ alg: 'HS256' }),
  'is signed with RS512': () => ({ alg: 'RS512' }),
}

describe("our decision and docker-registry's are the same for a token that", () => {
  it.each(Object.entries(TOKENS))('%s', async (_what, options) => {
    const authorization = `Bearer ${await mintToken(key, options())}`
    bench.nowSeconds = Date.now() / 1000

    for (const [method, path, target] of REQUESTS) {
      const expected = await theirs(method, path, authorization)
      expect(await ours(bench.verifier, method, target, authorization), `${method} ${path}`).toEqual(expected)
    }
  })

  it.each<[string, () => Promise<string | undefined>]>([
    ['is absent', async () => undefined],
    ['is a password', async () => 'Basic cm9vdDpwdw=='],
    ['is text', async () => 'Bearer abc'],
    ['is text with dots', async () => 'Bearer a.b.c'],
    ['is two words', async () => `Bearer ${await mintToken(key)} x`],
    ['is spelled in lower case', async () => `bearer ${await mintToken(key)}`],
    ['is of a stranger', async () => `Bearer ${await mintToken(stranger)}`],
    [
      'is of a stranger under a trusted kid',
      async () => `Bearer ${await mintToken(stranger, { kid: key.kid })}`,
    ],
    ['is cut short', async () => `Bearer ${(await mintToken(key)).slice(0, -8)}`],
  ])('%s', async (_what, header) => {
    const authorization = await header()
    bench.nowSeconds = Date.now() / 1000

    for (const [method, path, target] of REQUESTS) {
      const expected = await theirs(method, path, authorization)
      expect(await ours(bench.verifier, method, target, authorization), `${method} ${path}`).toEqual(expected)
    }
  })
})

describe("the site's own token", () => {
  it.each(['RS256', 'ES256'] as const)('signed with %s is taken by the real registry', async (algorithm) => {
    const site = await signingKey({ algorithm })
    await using folder = await tempFolder('site-key')
    await using primary = await startDockerRegistry({
      auth: { realm: REALM, service: DEFAULT_SERVICE, issuer: DEFAULT_ISSUER, key: site },
    })
    const keyFile = await folder.write('site.key', site.privateKeyPem)
    const minter = await createTokenMinter({ keyFile, issuer: DEFAULT_ISSUER, service: DEFAULT_SERVICE })
    const token = await minter.mint([{ type: 'repository', name: 'team/app', actions: ['pull'] }])
    const status = async (path: string) =>
      (await fetch(primary.url + path, { headers: { authorization: `Bearer ${token}` } })).status

    expect(await status('/v2/')).toBe(200)
    expect(await status('/v2/team/app/manifests/latest')).toBe(404)
    expect(await status('/v2/team/other/manifests/latest')).toBe(401)
  })
})
