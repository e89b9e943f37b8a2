/** Tokens that nobody trusted has signed, in every shape, and signed ones that say what no token should. */
import { createPublicKey } from 'node:crypto'
import fc from 'fast-check'
import { SignJWT } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Caller } from '../../src/auth/caller.ts'
import { TokenError } from '../../src/auth/token-verifier.ts'
import { type VerifierBench, verifierBench } from '../auth/verifier.ts'
import { mintToken, repositoryAccess, type SigningKey, signingKey } from '../support/keys.ts'
import { deeplyNested, HOSTILE_TIMEOUT_MS, holds, jsonWith, LATIN, mutated, SEEDED } from './hostile.ts'

const NAME = 'team/app'
const access = [repositoryAccess(NAME, ['*'])]

let key: SigningKey
let stranger: SigningKey
let bench: VerifierBench
let good: string
beforeAll(async () => {
  key = await signingKey({ algorithm: 'ES256', name: 'hostile' })
  stranger = await signingKey({ algorithm: 'ES256', name: 'stranger' })
  bench = await verifierBench(key)
  good = await mintToken(key, { access, sub: 'root' })
})
afterAll(() => bench[Symbol.asyncDispose]())

const encode = (text: string) => Buffer.from(text).toString('base64url')

/** The caller; undefined where the token was refused as it should be: nothing else may be thrown. */
async function callerOf(authorization: string): Promise<Caller | undefined> {
  try {
    return await bench.verifier.verify(authorization)
  } catch (error) {
    expect(error).toBeInstanceOf(TokenError)
    return undefined
  }
}

async function expectRefused(token: string): Promise<void> {
  expect(await callerOf(`Bearer ${token}`), token.slice(0, 500)).toBeUndefined()
  expect(bench.verifier.cached(`Bearer ${token}`)).toBeUndefined()
}

const HEADER_KEYS = ['alg', 'kid', 'typ', 'cty', 'crit', 'b64', 'jwk', 'jku', 'x5c', 'x5u', 'zip', 'enc']
const headerValues = () => [
  ...[key.kid, [key.kid], { toString: key.kid }, key.kid.toLowerCase(), `${key.kid}\u0000`, stranger.kid],
  ...['ES256', 'es256', 'RS256', 'HS256', 'none', 'None', 'NONE', 'EdDSA', 'PS256', 'dir'],
  ...[key.jwk, stranger.jwk, [stranger.certificatePem], '../../../dev/null', 'JWT', ['exp'], ['b64'], 'DEF'],
]
const CLAIM_KEYS = ['iss', 'aud', 'exp', 'nbf', 'iat', 'sub', 'access', 'auth_type', 'jti']
const claimValues = () => [
  ...['gitlab-issuer', 'container_registry', ['container_registry'], access, [access], access[0]],
  ...[bench.nowSeconds + 300, String(bench.nowSeconds + 300), -bench.nowSeconds, 2 ** 63, Number.MAX_VALUE],
]

describe(`a token nobody trusted has signed (${SEEDED})`, { timeout: HOSTILE_TIMEOUT_MS }, () => {
  it('is never taken, however a good one was changed', async () => {
    const property = fc.asyncProperty(
      mutated(
        fc.constant(0).map(() => good),
        ['.', '..', '=', ' ', '\0', ',', 'eyJ', 'A'.repeat(5000)],
      ),
      async (token) => {
        const [header, payload, signature = ''] = token.split('.')
        const [goodHeader, goodPayload, goodSignature = ''] = good.split('.')
        // The same bytes, written in another way, are the same token.
        const isSame =
          header === goodHeader &&
          payload === goodPayload &&
          Buffer.from(signature, 'base64url').equals(Buffer.from(goodSignature, 'base64url'))
        fc.pre(!isSame)
        await expectRefused(token)
      },
    )
    await holds(property, { runs: 800 })
  })

  it('is never taken, whatever its header says about the key', async () => {
    const payload = good.split('.')[1] ?? ''
    const signature = good.split('.')[2] ?? ''
    const signatures = fc.constantFrom(signature, '', encode('x'), 'A'.repeat(86), '=')
    const property = fc.asyncProperty(
      jsonWith(HEADER_KEYS, headerValues()),
      signatures,
      async (header, sign) => {
        fc.pre(encode(JSON.stringify(header)) !== good.split('.')[0])
        await expectRefused(`${encode(JSON.stringify(header))}.${payload}.${sign}`)
      },
    )
    await holds(property, { runs: 800 })
  })

  it('is never taken with our key’s public half, or our kid, for a secret of its own', async () => {
    const secrets = [
      Buffer.from(key.certificatePem),
      createPublicKey(key.privateKey).export({ type: 'spki', format: 'pem' }),
      createPublicKey(key.privateKey).export({ type: 'spki', format: 'der' }),
      Buffer.from(key.kid),
      Buffer.from(JSON.stringify(key.jwk)),
    ].map((secret) => Buffer.from(secret))
    const property = fc.asyncProperty(
      fc.constantFrom(...secrets),
      fc.constantFrom('HS256', 'HS384', 'HS512'),
      jsonWith(HEADER_KEYS, headerValues()),
      async (secret, alg, more) => {
        const extra = typeof more === 'object' && more !== null && !Array.isArray(more) ? { ...more } : {}
        const { crit, b64, ...header } = extra as Record<string, unknown>
        const token = await new SignJWT({
          access,
          iss: 'gitlab-issuer',
          aud: 'container_registry',
          exp: 2 ** 40,
        })
          .setProtectedHeader({ ...header, alg, kid: key.kid })
          .sign(Buffer.concat([secret, Buffer.alloc(64)]).subarray(0, Math.max(64, secret.length)))
        await expectRefused(token)
      },
    )
    await holds(property, { runs: 200 })
  })

  it('is refused at once when it is huge or nested beyond any stack', async () => {
    const [header = '', , signature = ''] = good.split('.')
    for (const text of [deeplyNested(20_000), `{"a":${deeplyNested(20_000)}}`, `"${'x'.repeat(40_000)}"`]) {
      await expectRefused(`${header}.${encode(text)}.${signature}`)
      await expectRefused(`${encode(text)}.${header}.${signature}`)
    }
    await expectRefused('a.'.repeat(30_000))
    await expectRefused('.'.repeat(10 * 1024 * 1024))
  })

  it('and an Authorization of any text at all are refused in the same way', async () => {
    const text = fc.oneof(
      fc.string({ unit: LATIN, maxLength: 60 }),
      mutated(fc.constantFrom('Bearer a.b.c', 'Basic cm9vdDp4', 'bearer ', 'Bearer x, Bearer y')),
    )
    const property = fc.asyncProperty(text, async (authorization) => {
      expect(await callerOf(authorization)).toBeUndefined()
    })
    await holds(property, { runs: 1000 })
  })
})

describe(`a signed token with claims of every shape (${SEEDED})`, { timeout: HOSTILE_TIMEOUT_MS }, () => {
  const ACCESS_KEYS = ['type', 'name', 'actions', 'meta', 'project_id', 'class']
  const ACCESS_VALUES = [
    'repository',
    NAME,
    'registry',
    ['pull'],
    ['*'],
    'pull',
    ['pull', 7],
    { project_id: 7 },
  ]
  const list = fc.array(
    fc.oneof(
      jsonWith(ACCESS_KEYS, ACCESS_VALUES),
      fc.record({
        type: fc.constantFrom('repository', '__proto__'),
        name: fc.constant(NAME),
        actions: jsonWith([], ACCESS_VALUES),
      }),
    ),
    { maxLength: 5 },
  )

  it('is refused as it stands, or grants what stands in its access to the letter', async () => {
    const property = fc.asyncProperty(
      fc.oneof(list, jsonWith(ACCESS_KEYS, ACCESS_VALUES)),
      fc.constantFrom('pull', 'push', 'delete', '*', '__proto__', 'toString'),
      async (claim, action) => {
        const token = await mintToken(key, { claims: { access: claim } })
        const caller = await callerOf(`Bearer ${token}`)
        const granted = caller?.allows([{ type: 'repository', name: NAME, actions: [action] }]) ?? false
        if (granted) expect(saidBy(claim, action)).toBe(true)
        // A list in which every entry is one must not be refused either.
        else if (caller) expect(saidBy(claim, action)).toBe(false)
      },
    )
    await holds(property, { runs: 400 })
  })

  it('is taken only with the dates, the issuer and the audience that a token must have', async () => {
    const property = fc.asyncProperty(jsonWith(CLAIM_KEYS, claimValues()), async (claims) => {
      fc.pre(typeof claims === 'object' && claims !== null && !Array.isArray(claims))
      const right = { iss: 'gitlab-issuer', aud: 'container_registry', exp: bench.nowSeconds + 300 }
      const all: Record<string, unknown> = { ...right, ...(claims as object) }
      const token = await new SignJWT(all)
        .setProtectedHeader({ alg: 'ES256', kid: key.kid })
        .sign(key.privateKey)
      const caller = await callerOf(`Bearer ${token}`)
      if (!caller) return
      const { iss, aud, exp } = all
      expect(iss).toBe('gitlab-issuer')
      expect([aud].flat()).toContain('container_registry')
      expect(Number(exp) + 60).toBeGreaterThan(bench.nowSeconds)
      expect(caller.expiresAtMs).toBeGreaterThan(bench.nowSeconds * 1000)
    })
    await holds(property, { runs: 400 })
  })
})

/** Whether an `access` claim says that the action is allowed, by its own letter. */
function saidBy(claim: unknown, action: string): boolean {
  if (!Array.isArray(claim)) return false
  return claim.some((entry: unknown) => {
    if (typeof entry !== 'object' || entry === null) return false
    const { type, name, actions } = { type: undefined, name: undefined, actions: undefined, ...entry }
    const isHere = Object.is(type, 'repository') && Object.is(name, NAME)
    const listed: readonly unknown[] = Array.isArray(actions) ? actions : []
    return isHere && (listed.includes(action) || listed.includes('*'))
  })
}
