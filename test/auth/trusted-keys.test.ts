import { createPrivateKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { KeyFileError } from '../../src/auth/key-file.ts'
import { createTrustedKeys } from '../../src/auth/trusted-keys.ts'
import { jwksOf, type SigningKey, signingKey } from '../support/keys.ts'
import { type TempFolder, tempFolder } from '../support/temp.ts'
import { EXPIRED_CERTIFICATE_KID, EXPIRED_CERTIFICATE_PEM } from './expired-certificate.ts'

let folder: TempFolder
let rsa: SigningKey
let ec: SigningKey

beforeAll(async () => {
  folder = await tempFolder('trusted-keys')
  rsa = await signingKey()
  ec = await signingKey({ algorithm: 'ES384' })
})
afterAll(() => folder[Symbol.asyncDispose]())

const jwkOf = (key: KeyObject, more: object = {}) => ({ ...key.export({ format: 'jwk' }), ...more })

async function fromJwks(...keys: object[]) {
  return createTrustedKeys({ jwksFile: await folder.write('keys.json', JSON.stringify({ keys })) })
}

describe('the keys that are trusted', () => {
  it('are found by the fingerprint of each certificate of a bundle', async () => {
    const bundle = `# two of them\n${rsa.certificatePem}\r\nnotes in between\n${ec.certificatePem}`
    const keys = await createTrustedKeys({ certificateBundleFile: await folder.write('two.pem', bundle) })

    expect(keys.find(rsa.kid)?.algorithms).toEqual(['RS256', 'RS384', 'RS512'])
    expect(keys.find(ec.kid)?.algorithms).toEqual(['ES384'])
  })

  it('include that of a certificate that has expired', async () => {
    const file = await folder.write('expired.pem', EXPIRED_CERTIFICATE_PEM)

    expect(
      (await createTrustedKeys({ certificateBundleFile: file })).find(EXPIRED_CERTIFICATE_KID),
    ).toBeDefined()
  })

  it('are found in a JWKS file by their own kid and by their fingerprint', async () => {
    const keys = await fromJwks({ ...rsa.jwk, kid: 'main', alg: undefined }, { ...ec.jwk, kid: undefined })

    expect(keys.find('main')).toBeDefined()
    expect(keys.find('main')).toEqual(keys.find(rsa.kid))
    expect(keys.find(ec.kid)).toBeDefined()
  })

  it('verify no other algorithm than the one a JWK names', async () => {
    expect((await fromJwks({ ...rsa.jwk, alg: 'RS512' })).find(rsa.kid)?.algorithms).toEqual(['RS512'])
  })

  it('come from both files at once', async () => {
    const keys = await createTrustedKeys({
      certificateBundleFile: await folder.write('bundle.pem', rsa.certificatePem),
      jwksFile: await folder.write('both.json', jwksOf(ec)),
    })

    expect([keys.find(rsa.kid), keys.find(ec.kid)]).not.toContain(undefined)
  })

  it('are none of those a token could name by the words of Object.prototype', async () => {
    const keys = await fromJwks(rsa.jwk)

    for (const kid of ['__proto__', 'constructor', 'toString', '']) expect(keys.find(kid)).toBeUndefined()
  })

  it('leave out JWKs of another kind or purpose', async () => {
    const { publicKey: pss } = generateKeyPairSync('rsa', { modulusLength: 2048 })
    const { publicKey: p521 } = generateKeyPairSync('ec', { namedCurve: 'P-521' })
    const { publicKey: ed25519 } = generateKeyPairSync('ed25519')
    const { publicKey: weak } = generateKeyPairSync('rsa', { modulusLength: 1024 })
    const keys = await fromJwks(
      rsa.jwk,
      { kty: 'oct', k: 'c2VjcmV0', kid: 'secret', alg: 'HS256' },
      jwkOf(ed25519, { kid: 'ed25519' }),
      jwkOf(p521, { kid: 'p521' }),
      jwkOf(weak, { kid: 'weak' }),
      jwkOf(pss, { kid: 'pss', alg: 'PS256' }),
      { ...ec.jwk, kid: 'encryption', use: 'enc' },
      { ...ec.jwk, kid: 'signs only', key_ops: ['sign'] },
    )

    for (const kid of ['secret', 'ed25519', 'p521', 'weak', 'pss', 'encryption', 'signs only', ec.kid]) {
      expect(keys.find(kid), kid).toBeUndefined()
    }
  })
})

describe('a key file that is of no use is refused in words that say what to do', () => {
  it.each([
    ['an absent bundle', () => '/nonexistent/bundle.pem', /cannot read the certificate bundle \/nonexistent/],
    ['an empty bundle', () => folder.write('b.pem', ''), /holds no certificate.*BEGIN CERTIFICATE/],
    ['a private key', () => folder.write('b.pem', rsa.privateKeyPem), /holds no certificate/],
    [
      'a damaged certificate',
      () => folder.write('b.pem', rsa.certificatePem + EXPIRED_CERTIFICATE_PEM.replace('MIIC', 'MIIZ')),
      /certificate 2 of .*cannot be read/,
    ],
  ])('%s', async (_what, file, message) => {
    const failure = createTrustedKeys({ certificateBundleFile: await file() })

    await expect(failure).rejects.toThrow(KeyFileError)
    await expect(failure).rejects.toThrow(message)
  })

  it.each([
    ['an absent JWKS file', () => '/nonexistent/keys.json', /cannot read the JWKS file \/nonexistent/],
    ['a set without keys', () => folder.write('k.json', '{"keys":[]}'), /holds no key that can verify/],
    ['other JSON', () => folder.write('k.json', '{"kty":"RSA"}'), /no JSON Web Key Set/],
    [
      'a damaged key',
      () => folder.write('k.json', '{"keys":[{"kty":"RSA","n":5}]}'),
      /key 1 of .*cannot be read/,
    ],
    [
      'two keys of one kid',
      () =>
        folder.write(
          'k.json',
          JSON.stringify({
            keys: [
              { ...rsa.jwk, kid: 'k' },
              { ...ec.jwk, kid: 'k' },
            ],
          }),
        ),
      /two different keys are called "k"/,
    ],
    [
      'a private JWK',
      () => folder.write('k.json', JSON.stringify({ keys: [jwkOf(createPrivateKey(rsa.privateKeyPem))] })),
      /is a private key: leave only its public members/,
    ],
  ])('%s', async (_what, file, message) => {
    const failure = createTrustedKeys({ jwksFile: await file() })

    await expect(failure).rejects.toThrow(KeyFileError)
    await expect(failure).rejects.toThrow(message)
  })

  it('no file at all', async () => {
    await expect(createTrustedKeys({})).rejects.toThrow(/set auth\.token\.rootcertbundle/)
  })

  it('and never quotes what is in it', async () => {
    const file = await folder.write('mistaken.json', 'hunter2-of-the-operator')
    const error: unknown = await createTrustedKeys({ jwksFile: file }).catch((reason: unknown) => reason)

    expect(error).toBeInstanceOf(KeyFileError)
    expect(`${String(error)} ${error instanceof Error ? String(error.cause) : ''}`).not.toContain('hunter2')
  })
})

describe('reading the key files again', () => {
  it('swaps the whole set', async () => {
    const file = await folder.write('rotated.pem', rsa.certificatePem)
    const keys = await createTrustedKeys({ certificateBundleFile: file })
    const before = keys.version
    await writeFile(file, ec.certificatePem)

    await keys.reload()

    expect(keys.find(rsa.kid)).toBeUndefined()
    expect(keys.find(ec.kid)).toBeDefined()
    expect(keys.version).toBeGreaterThan(before)
  })

  it('keeps the old set when the new file is bad, and works again once it is good', async () => {
    const file = await folder.write('broken.pem', rsa.certificatePem)
    const keys = await createTrustedKeys({ certificateBundleFile: file })
    const before = keys.version
    await writeFile(file, 'half a certif')

    await expect(keys.reload()).rejects.toThrow(KeyFileError)
    expect(keys.find(rsa.kid)).toBeDefined()
    expect(keys.version).toBe(before)
    await writeFile(file, ec.certificatePem)
    await keys.reload()

    expect(keys.find(rsa.kid)).toBeUndefined()
    expect(keys.find(ec.kid)).toBeDefined()
  })
})
