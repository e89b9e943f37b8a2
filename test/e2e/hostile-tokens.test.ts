/** Tokens an attacker might bring to content that is held here: 401 in the primary's own words, and nothing else. */
import { createPublicKey } from 'node:crypto'
import { SignJWT } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type DockerRegistry, startDockerRegistry } from '../support/docker-registry.ts'
import { buildImage, type Image } from '../support/images.ts'
import {
  mintToken,
  repositoryAccess,
  type SigningKey,
  signingKey,
  type TokenOptions,
} from '../support/keys.ts'
import { basic, bearer } from '../support/login.ts'
import { pushImage } from '../support/push-image.ts'
import { type Answer, createRegistryApi, type RegistryApi } from '../support/registry-api.ts'
import { until } from '../support/wait.ts'
import { type OneSite, REALM, sourceOf, startOneSite } from './one-site.ts'
import { isPublished, treeOf } from './store-files.ts'

const NAME = 'team/app'
const SCOPE = `repository:${NAME}:pull`
const access = [repositoryAccess(NAME, ['pull', 'push', 'delete'])]
const now = () => Math.floor(Date.now() / 1000)

let primary: DockerRegistry
let one: OneSite
let here: RegistryApi
let there: RegistryApi
let image: Image
let key: SigningKey
let attacker: SigningKey

beforeAll(async () => {
  key = await signingKey()
  attacker = await signingKey({ name: 'attacker' })
  const auth = { realm: REALM, service: 'container_registry', issuer: 'gitlab-issuer', key }
  primary = await startDockerRegistry({ auth })
  one = await startOneSite(primary.url, { tags: { trust: '1h' } })
  here = createRegistryApi(one.site.url)
  there = createRegistryApi(primary.url)
  image = await buildImage({ seed: 'held', layers: [5000] })
  const owner = await one.client({ [NAME]: ['pull', 'push', 'delete'] })
  await pushImage(owner, NAME, 'v1', image)
  expect(sourceOf(await owner.getManifest(NAME, 'v1'))).toBe('local')
  for (const { digest } of image.blobs) {
    await until(() => isPublished(one.site.root, digest), { what: 'the blobs to be here' })
  }
})
afterAll(async () => {
  for (const owned of [here, there, one, primary]) await owned[Symbol.asyncDispose]()
})

const paths = () => [
  `/v2/${NAME}/manifests/v1`,
  `/v2/${NAME}/manifests/${image.digest}`,
  ...image.blobs.map(({ digest }) => `/v2/${NAME}/blobs/${digest}`),
]

function refusal({ status, headers, body }: Answer) {
  const { errors } = JSON.parse(body.toString('utf8')) as { errors: { code: string; message: string }[] }
  const said = errors.map(({ code, message }) => `${code}: ${message}`)
  return { status, challenge: headers['www-authenticate'], said }
}

/** Asks for everything that is held, and as a push; each answer must be the 401 the primary itself gives. */
async function expectRefused(authorization: string, error: 'invalid_token' | 'insufficient_scope') {
  const before = await treeOf(one.site.root)
  const headers = { authorization }
  for (const path of paths()) {
    const answer = await here.request('GET', path, { headers })
    expect(refusal(answer)).toEqual({
      status: 401,
      challenge: `Bearer realm="${REALM}",service="container_registry",scope="${SCOPE}",error="${error}"`,
      said: ['UNAUTHORIZED: authentication required'],
    })
    expect(refusal(answer)).toEqual(refusal(await there.request('GET', path, { headers })))
    expect((await here.request('HEAD', path, { headers })).status).toBe(401)
  }
  const upload = await here.request('POST', `/v2/${NAME}/blobs/uploads/`, { headers, body: 'x' })
  const put = { headers: { ...headers, 'content-type': image.mediaType }, body: image.bytes }
  expect([upload.status, (await here.request('PUT', `/v2/${NAME}/manifests/v2`, put)).status]).toEqual([
    401, 401,
  ])
  expect((await here.request('DELETE', `/v2/${NAME}/manifests/v1`, { headers })).status).toBe(401)
  expect(await treeOf(one.site.root)).toEqual(before)
}

describe('a token that grants everything and is', () => {
  it.each<[string, () => TokenOptions]>([
    ['expired', () => ({ iat: now() - 1000, exp: now() - 100 })],
    ['not valid yet', () => ({ nbf: now() + 1000, exp: now() + 2000 })],
    ['of another issuer', () => ({ iss: 'evil-issuer' })],
    ['for another service', () => ({ aud: 'other_registry' })],
    ['not signed (alg none)', () => ({ alg: 'none' })],
    ['signed with our certificate as a shared secret', () => ({ alg: 'HS256' })],
    ['without a kid', () => ({ kid: null })],
    ['of a kid nobody knows', () => ({ kid: attacker.kid })],
    ['of a kid that is a path', () => ({ kid: '../../../../dev/null' })],
  ])('%s is refused', async (_, options) => {
    await expectRefused(bearer(await mintToken(key, { access, ...options() })), 'invalid_token')
  })

  it.each<[string, () => TokenOptions]>([
    ['with its own kid', () => ({})],
    ['under the kid of the trusted key', () => ({ kid: key.kid })],
    ['that brings its key along', () => ({ header: { jwk: attacker.jwk } })],
    ['that brings its certificate along', () => ({ header: { x5c: [pemBody(attacker.certificatePem)] } })],
    ['that says where to get its key', () => ({ header: { jku: 'http://127.0.0.1:1/keys' } })],
  ])('signed by a stranger %s is refused', async (_, options) => {
    await expectRefused(bearer(await mintToken(attacker, { access, ...options() })), 'invalid_token')
  })

  it('signed with the public key as a shared secret is refused', async () => {
    const pem = createPublicKey(key.privateKey).export({ type: 'spki', format: 'pem' }).toString()
    const claims = { access, iss: 'gitlab-issuer', aud: 'container_registry', iat: now(), exp: now() + 300 }
    const token = await new SignJWT(claims)
      .setProtectedHeader({ alg: 'HS256', typ: 'JWT', kid: key.kid })
      .sign(Buffer.from(pem))

    await expectRefused(bearer(token), 'invalid_token')
  })

  it('changed after it was signed, or cut short, is refused, also after the true one has been taken', async () => {
    const token = await mintToken(key, { access: [repositoryAccess('team/other', ['pull'])] })
    const [header = '', , signature = ''] = token.split('.')
    const payload = { access, iss: 'gitlab-issuer', aud: 'container_registry', exp: now() + 300 }
    const forged = Buffer.from(JSON.stringify(payload)).toString('base64url')
    const good = await mintToken(key, { access })
    const path = paths().at(-1) ?? ''
    expect((await here.request('GET', path, { headers: { authorization: bearer(good) } })).status).toBe(200)

    await expectRefused(bearer(`${header}.${forged}.${signature}`), 'invalid_token')
    await expectRefused(bearer(good.slice(0, -20)), 'invalid_token')
    await expectRefused(bearer(good.split('.').slice(0, 2).join('.')), 'invalid_token')
  })
})

describe('a good token', () => {
  it.each([
    ['for another repository', [repositoryAccess('team/other', ['pull', 'push', 'delete'])]],
    ['for a repository below it', [repositoryAccess('team/app/sub', ['*'])]],
    ['for the namespace above it', [repositoryAccess('team', ['*'])]],
    ['for a name that only looks like it', [repositoryAccess('team/App', ['*'])]],
    ['for something that is no repository', [{ type: 'registry', name: NAME, actions: ['*'] }]],
    ['for a pattern', [repositoryAccess('team/*', ['*'])]],
    ['for nothing', []],
  ])('%s is refused with the scope that is missing', async (_, granted) => {
    await expectRefused(bearer(await mintToken(key, { access: granted })), 'insufficient_scope')
  })

  it('to pull does not push, delete or mount', async () => {
    const headers = { authorization: bearer(await mintToken(key, { access: [repositoryAccess(NAME)] })) }
    const [, layer] = image.blobs
    const asks = [
      ['POST', `/v2/${NAME}/blobs/uploads/`],
      ['POST', `/v2/team/mine/blobs/uploads/?mount=${layer?.digest}&from=${NAME}`],
      ['DELETE', `/v2/${NAME}/manifests/${image.digest}`],
      ['DELETE', `/v2/${NAME}/blobs/${layer?.digest}`],
    ] as const
    for (const [method, path] of asks) {
      const answer = await here.request(method, path, { headers })
      expect([answer.status, answer.headers['www-authenticate']]).toEqual([
        401,
        expect.stringContaining('error="insufficient_scope"'),
      ])
    }
  })
})

describe('what is no bearer token', () => {
  it.each([
    ['a password', basic('admin', 'secret')],
    ['an empty token', 'Bearer '],
    ['two tokens', 'Bearer a.b.c, Bearer d.e.f'],
    ['another scheme', 'Negotiate abc'],
    ['rubbish', 'Bearer ....'],
    ['JSON that is none', `Bearer ${Buffer.from('{"alg":').toString('base64url')}.e30.AA`],
  ])('is refused: %s', async (_, authorization) => {
    for (const path of paths()) {
      const answer = await here.request('GET', path, { headers: { authorization } })
      expect([answer.status, refusal(answer).said]).toEqual([401, ['UNAUTHORIZED: authentication required']])
    }
  })
})

function pemBody(pem: string): string {
  return pem.replace(/-----[A-Z ]+-----|\s/g, '')
}
