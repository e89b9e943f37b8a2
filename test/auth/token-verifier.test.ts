import { createHmac, createPublicKey, type KeyObject, sign } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { createTokenVerifier, TokenError } from '../../src/auth/token-verifier.ts'
import { createTrustedKeys } from '../../src/auth/trusted-keys.ts'
import {
  DEFAULT_ISSUER,
  DEFAULT_SERVICE,
  jwksOf,
  repositoryAccess,
  type SigningKey,
  signingKey,
  type TokenOptions,
} from '../support/keys.ts'
import { tempFolder } from '../support/temp.ts'
import { type VerifierBench, verifierBench } from './verifier.ts'

let key: SigningKey
let stranger: SigningKey
let bench: VerifierBench

beforeAll(async () => {
  key = await signingKey()
  stranger = await signingKey({ name: 'stranger' })
})
beforeEach(async () => {
  bench = await verifierBench(key)
})
afterEach(() => bench[Symbol.asyncDispose]())

const encode = (part: unknown): string => Buffer.from(JSON.stringify(part)).toString('base64url')

/** A header with any JOSE header and claims at all, signed by hand; default the claims of a good token. */
function forged(header: object, signature: (input: string) => string, claims: object = {}): string {
  const good = { iss: DEFAULT_ISSUER, aud: DEFAULT_SERVICE, exp: bench.nowSeconds + 300 }
  const input = `${encode({ typ: 'JWT', alg: 'RS256', kid: key.kid, ...header })}.${encode({ ...good, ...claims })}`
  return `Bearer ${input}.${signature(input)}`
}

const signedBy =
  (privateKey: KeyObject, hash: string = 'sha256') =>
  (input: string) =>
    sign(hash, Buffer.from(input), privateKey).toString('base64url')

async function refusal(header: string | undefined): Promise<unknown> {
  const error: unknown = await bench.verifier.verify(header).catch((reason: unknown) => reason)
  expect(error).toBeInstanceOf(TokenError)
  expect(bench.verifier.cached(header)).toBeUndefined()
  return error instanceof TokenError ? error.code : error
}

describe('a good token', () => {
  it.each(['RS256', 'RS384', 'RS512', 'ES256', 'ES384'] as const)(
    'signed with %s is taken',
    async (algorithm) => {
      const family = await signingKey({ algorithm })
      await writeFile(bench.bundleFile, family.certificatePem)
      await bench.keys.reload()

      const caller = await bench.verifier.verify(await bench.header({ sub: 'root' }, family))

      expect(caller.subject).toBe('root')
    },
  )

  it('signed with RS512 by an RSA key that usually signs with RS256 is taken', async () => {
    await expect(bench.verifier.verify(await bench.header({ alg: 'RS512' }))).resolves.toBeDefined()
  })

  it('is taken by the kid of a JWKS file', async () => {
    await using folder = await tempFolder('jwks')
    const keys = await createTrustedKeys({ jwksFile: await folder.write('keys.json', jwksOf(stranger)) })
    const verifier = createTokenVerifier({ keys, issuer: DEFAULT_ISSUER, service: DEFAULT_SERVICE })

    await expect(verifier.verify(await bench.header({}, stranger))).resolves.toBeDefined()
  })

  it('is taken however the scheme is spelled', async () => {
    const header = await bench.header()

    await expect(bench.verifier.verify(header.replace('Bearer', 'bEARER'))).resolves.toBeDefined()
  })

  it('may bring an x5c or jwk, which is not looked at', async () => {
    const header = await bench.header({ header: { x5c: ['bm9uc2Vuc2U='], jwk: stranger.jwk } })

    await expect(bench.verifier.verify(header)).resolves.toBeDefined()
  })

  it.each([
    ['59 s after it expired', { exp: -59 }],
    ['59 s before it begins', { nbf: 59 }],
    ['60 s before it begins', { nbf: 60 }],
  ])('is taken %s', async (_when, { exp = 300, nbf = 0 }: { exp?: number; nbf?: number }) => {
    const header = await bench.header({ exp: bench.nowSeconds + exp, nbf: bench.nowSeconds + nbf })

    await expect(bench.verifier.verify(header)).resolves.toBeDefined()
  })

  it('may name ten audiences, ours among them', async () => {
    const aud = [...Array.from({ length: 9 }, (_, index) => `other-${index}`), DEFAULT_SERVICE]

    await expect(bench.verifier.verify(await bench.header({ aud }))).resolves.toBeDefined()
  })

  it('without nbf and iat is taken, and counts as older than any other', async () => {
    const caller = await bench.verifier.verify(forged({}, signedBy(key.privateKey)))

    expect(caller.issuedAtSeconds).toBe(0)
  })

  it('tells when it was issued and until when it is taken', async () => {
    const caller = await bench.verifier.verify(await bench.header())

    expect(caller.issuedAtSeconds).toBe(bench.nowSeconds)
    expect(caller.expiresAtMs).toBe((bench.nowSeconds + 360) * 1000)
  })
})

describe('no token at all is told from a bad one:', () => {
  it.each([
    undefined,
    '',
    'Bearer',
    'Basic cm9vdDpwdw==',
    'Token abc',
    'Bearer a b',
    'Bearer  a',
    ' Bearer a',
    'bearera',
  ])('%j is none', async (header) => {
    expect(await refusal(header)).toBe('missing')
  })

  it.each([
    'Bearer ',
    'Bearer x',
    'Bearer a.b.c',
    'Bearer ..',
    'Bearer e30.e30.e30',
    `Bearer ${'.'.repeat(60_000)}`,
  ])('%.20j is malformed', async (header) => {
    expect(await refusal(header)).toBe('invalid')
  })
})

describe('a token is refused', () => {
  it.each<[string, () => TokenOptions]>([
    ['of another issuer', () => ({ iss: 'gitlab-issuer.evil.example' })],
    ['without an issuer', () => ({ claims: { iss: undefined } })],
    ['for another audience', () => ({ aud: 'dependency_proxy' })],
    ['for a list of other audiences', () => ({ aud: ['a', 'container_registry2'] })],
    ['for an empty list of audiences', () => ({ aud: [] })],
    ['for more than ten audiences', () => ({ aud: Array.from({ length: 11 }, () => DEFAULT_SERVICE) })],
    ['61 s after it expired', () => ({ exp: bench.nowSeconds - 61 })],
    ['that never expires', () => ({ claims: { exp: undefined } })],
    ['that expires at a word', () => ({ claims: { exp: `${bench.nowSeconds + 300}` } })],
    ['61 s before it begins', () => ({ nbf: bench.nowSeconds + 61 })],
    ['that names no key', () => ({ kid: null })],
    ['that names no key but brings one', () => ({ kid: null, header: { jwk: key.jwk } })],
    ['whose kid is a word of Object.prototype', () => ({ kid: '__proto__' })],
    ['whose kid is a number', () => ({ kid: null, header: { kid: 1 } })],
    [
      'whose access is no list',
      () => ({ claims: { access: { type: 'repository', name: 'a', actions: ['pull'] } } }),
    ],
    [
      'whose actions are text',
      () => ({ claims: { access: [{ type: 'repository', name: 'a', actions: 'pull' }] } }),
    ],
    ['whose access holds null', () => ({ claims: { access: [null] } })],
    ['whose subject is an object', () => ({ claims: { sub: { name: 'root' } } })],
  ])('%s', async (_what, options) => {
    expect(await refusal(await bench.header(options()))).toBe('invalid')
  })

  it('that asks for an extension we do not know', async () => {
    expect(await refusal(forged({ crit: ['cap'], cap: 1 }, signedBy(key.privateKey)))).toBe('invalid')
  })

  it('that is not signed', async () => {
    expect(await refusal(await bench.header({ alg: 'none' }))).toBe('invalid')
    expect(await refusal(forged({ alg: 'NONE' }, () => ''))).toBe('invalid')
    expect(await refusal(forged({}, () => ''))).toBe('invalid')
  })

  it.each(['HS256', 'HS384', 'HS512'])('that uses what is public as the secret of %s', async (alg) => {
    const publicKey = createPublicKey(key.certificatePem)
    const secrets = [
      key.certificatePem,
      publicKey.export({ type: 'spki', format: 'pem' }),
      publicKey.export({ type: 'spki', format: 'der' }),
    ]
    for (const secret of secrets) {
      const mac = (input: string) =>
        createHmac(`sha${alg.slice(2)}`, secret)
          .update(input)
          .digest('base64url')
      expect(await refusal(forged({ alg }, mac))).toBe('invalid')
    }
  })

  it.each(['PS256', 'ES512', 'EdDSA', 'Ed25519', 'RS1', 'rs256', '', 'constructor'])(
    'that claims the algorithm "%s"',
    async (alg) => {
      expect(await refusal(forged({ alg }, signedBy(key.privateKey)))).toBe('invalid')
    },
  )

  it('whose alg is not one its key signs with', async () => {
    const ec = await signingKey({ algorithm: 'ES256' })
    await writeFile(bench.bundleFile, key.certificatePem + ec.certificatePem)
    await bench.keys.reload()

    expect(await refusal(forged({ alg: 'ES256' }, signedBy(key.privateKey)))).toBe('invalid')
    expect(await refusal(forged({ kid: ec.kid }, signedBy(ec.privateKey)))).toBe('invalid')
    expect(await refusal(forged({ alg: 'ES384', kid: ec.kid }, signedBy(ec.privateKey, 'sha384')))).toBe(
      'invalid',
    )
  })

  it('with another algorithm than the one its JWK is for', async () => {
    await using folder = await tempFolder('alg')
    const jwksFile = await folder.write('keys.json', JSON.stringify({ keys: [{ ...key.jwk, alg: 'RS512' }] }))
    const keys = await createTrustedKeys({ jwksFile })
    const verifier = createTokenVerifier({ keys, issuer: DEFAULT_ISSUER, service: DEFAULT_SERVICE })

    await expect(verifier.verify(await bench.header({ alg: 'RS512' }))).resolves.toBeDefined()
    await expect(verifier.verify(await bench.header({ alg: 'RS256' }))).rejects.toThrow(TokenError)
  })

  it('that a stranger signed under a trusted kid', async () => {
    expect(await refusal(await bench.header({ kid: key.kid }, stranger))).toBe('invalid')
  })

  it('that a stranger signed under his own kid, with his own certificate or key along', async () => {
    const certificate = stranger.certificatePem.replace(/-----[^-]+-----|\s/g, '')

    expect(await refusal(await bench.header({}, stranger))).toBe('invalid')
    expect(await refusal(await bench.header({ header: { x5c: [certificate] } }, stranger))).toBe('invalid')
    expect(await refusal(await bench.header({ header: { jwk: stranger.jwk } }, stranger))).toBe('invalid')
    expect(
      await refusal(
        await bench.header({ kid: key.kid, header: { jwk: stranger.jwk, x5c: [certificate] } }, stranger),
      ),
    ).toBe('invalid')
  })

  it('whose trusted kid belongs to another trusted key', async () => {
    await writeFile(bench.bundleFile, key.certificatePem + stranger.certificatePem)
    await bench.keys.reload()

    expect(await refusal(await bench.header({ kid: key.kid }, stranger))).toBe('invalid')
  })

  it('whose signature is cut short, lengthened or changed', async () => {
    const header = await bench.header()
    const flipped = header.replace(/.{5}$/, (end) => (end === 'AAAAA' ? 'BBBBB' : 'AAAAA'))

    for (const changed of [header.slice(0, -4), `${header}AAAA`, `${header}.${'A'.repeat(20)}`, flipped]) {
      expect(await refusal(changed)).toBe('invalid')
    }
  })

  it('whose claims were changed after it was signed', async () => {
    const [head, , signature] = (await bench.header({ access: [repositoryAccess('mine')] })).split('.')
    const [, claims] = (await bench.header({ access: [repositoryAccess('theirs')] })).split('.')

    expect(await refusal(`${head}.${claims}.${signature}`)).toBe('invalid')
  })

  it('whose dates are beyond all numbers', async () => {
    const raw = `{"iss":"${DEFAULT_ISSUER}","aud":"${DEFAULT_SERVICE}","exp":1e999}`
    const input = `${encode({ alg: 'RS256', kid: key.kid })}.${Buffer.from(raw).toString('base64url')}`

    expect(await refusal(`Bearer ${input}.${signedBy(key.privateKey)(input)}`)).toBe('invalid')
  })

  it('longer than 64 KiB, at once and unread, however well it is signed', async () => {
    const access = Array.from({ length: 2000 }, (_, index) => repositoryAccess(`group/project-${index}`))
    const header = await bench.header({ access })
    expect(header.length).toBeGreaterThan(64 * 1024)

    expect(await refusal(header)).toBe('invalid')
  })

  it('in words that quote nothing of it but the name of its key', async () => {
    const header = await bench.header({ sub: 'secret-subject', exp: bench.nowSeconds - 61 })
    const error: unknown = await bench.verifier.verify(header).catch((reason: unknown) => reason)
    const words = error instanceof TokenError ? `${error.message} ${String(error.cause)}` : ''

    expect(words).toContain('exp')
    expect(words).not.toContain('secret-subject')
    expect(words).not.toContain(header.slice(7, 30))
  })
})

describe('a verified token is remembered', () => {
  it('by its whole text', async () => {
    const header = await bench.header()
    expect(bench.verifier.cached(header)).toBeUndefined()

    const caller = await bench.verifier.verify(header)

    expect(bench.verifier.cached(header)).toBe(caller)
    expect(await bench.verifier.verify(header)).toBe(caller)
    expect(bench.verifier.cached(`${header}x`)).toBeUndefined()
    expect(bench.verifier.cached(header.slice(0, -1))).toBeUndefined()
    expect(bench.verifier.cached(undefined)).toBeUndefined()
  })

  it('until it expires and the leeway is over, to the second', async () => {
    const header = await bench.header({ exp: bench.nowSeconds + 300 })
    await bench.verifier.verify(header)

    bench.nowSeconds += 359
    expect(bench.verifier.cached(header)).toBeDefined()
    bench.nowSeconds += 1

    expect(await refusal(header)).toBe('invalid')
  })

  it('until the keys are read again: a withdrawn key counts at once', async () => {
    const header = await bench.header()
    await bench.verifier.verify(header)
    await writeFile(bench.bundleFile, stranger.certificatePem)
    await bench.keys.reload()

    expect(await refusal(header)).toBe('invalid')
  })

  it('not when its key was withdrawn while it was being verified', async () => {
    const header = await bench.header()
    let version = 0
    const keys = {
      get version() {
        return version
      },
      find: (kid: string) => {
        version += 1 // The reload takes effect right after the old key was handed out,
        verifier.cached(header) // and another request comes in before this one is done.
        return bench.keys.find(kid)
      },
      reload: () => bench.keys.reload(),
    }
    const verifier = createTokenVerifier({ keys, issuer: DEFAULT_ISSUER, service: DEFAULT_SERVICE })

    await verifier.verify(header)

    expect(verifier.cached(header)).toBeUndefined()
  })

  it('when a reload fails, since the old keys stay', async () => {
    const header = await bench.header()
    const caller = await bench.verifier.verify(header)
    await writeFile(bench.bundleFile, 'broken')
    await expect(bench.keys.reload()).rejects.toThrow()

    expect(bench.verifier.cached(header)).toBe(caller)
  })

  it('in bounded memory: the token unused for longest goes first', async () => {
    const first = await bench.header({ sub: 'first' })
    await using small = await verifierBench(key, { cacheBytes: first.length * 3 })
    const others = await Promise.all(['second', 'third', 'fourth'].map((sub) => bench.header({ sub })))
    await small.verifier.verify(first)
    for (const header of others) await small.verifier.verify(header)

    expect(small.verifier.cached(first)).toBeUndefined()
    expect(small.verifier.cached(others.at(-1))).toBeDefined()
  })
})
