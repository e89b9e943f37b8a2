import { createPrivateKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { inspect } from 'node:util'
import { decodeJwt, decodeProtectedHeader } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { KeyFileError } from '../../src/auth/key-file.ts'
import { createTokenMinter, type TokenMinter } from '../../src/auth/token-minter.ts'
import { DEFAULT_ISSUER, DEFAULT_SERVICE, type SigningKey, signingKey } from '../support/keys.ts'
import { type TempFolder, tempFolder } from '../support/temp.ts'
import { verifierBench } from './verifier.ts'

const PULL = [{ type: 'repository', name: 'team/app', actions: ['pull'] }]
const NOW_SECONDS = 1_900_000_000

let folder: TempFolder
let rsa: SigningKey
beforeAll(async () => {
  folder = await tempFolder('minter')
  rsa = await signingKey()
})
afterAll(() => folder[Symbol.asyncDispose]())

function minterOf(keyFile: string): Promise<TokenMinter> {
  const now = () => NOW_SECONDS * 1000 + 999
  return createTokenMinter({ keyFile, issuer: DEFAULT_ISSUER, service: DEFAULT_SERVICE, now })
}

describe("the site's own token", () => {
  it.each(['RS256', 'ES256', 'ES384'] as const)(
    'signed with %s is taken by whoever trusts the key',
    async (algorithm) => {
      const key = await signingKey({ algorithm })
      const minter = await minterOf(await folder.write('site.key', key.privateKeyPem))
      await using bench = await verifierBench(key)
      bench.nowSeconds = NOW_SECONDS

      const caller = await bench.verifier.verify(`Bearer ${await minter.mint(PULL)}`)

      expect(caller.allows(PULL)).toBe(true)
      expect(caller.grantsMoreThanPull('team/app')).toBe(false)
    },
  )

  it("has the header and claims of Geo's and nothing else", async () => {
    const minter = await minterOf(await folder.write('claims.key', rsa.privateKeyPem))
    const scopes = [...PULL, { type: 'registry', name: 'catalog', actions: ['*'] }]

    const token = await minter.mint(scopes.map((scope) => ({ ...scope, projectId: 5 })))

    expect(decodeProtectedHeader(token)).toEqual({ alg: 'RS256', kid: rsa.kid, typ: 'JWT' })
    expect(decodeJwt(token)).toEqual({
      access: scopes,
      iss: DEFAULT_ISSUER,
      aud: DEFAULT_SERVICE,
      jti: expect.stringMatching(/^[0-9a-f-]{36}$/),
      iat: NOW_SECONDS,
      nbf: NOW_SECONDS - 5,
      exp: NOW_SECONDS + 300,
    })
    expect(decodeJwt(await minter.mint(PULL)).jti).not.toBe(decodeJwt(token).jti)
  })

  it.each(['pkcs1', 'pkcs8'] as const)('comes from a key in %s as well', async (type) => {
    const pem = createPrivateKey(rsa.privateKeyPem).export({ type, format: 'pem' }).toString()
    const minter = await minterOf(await folder.write('form.key', pem))

    expect(decodeProtectedHeader(await minter.mint(PULL)).kid).toBe(rsa.kid)
  })

  it('is signed with the new key once that was read', async () => {
    const other = await signingKey({ algorithm: 'ES256' })
    const file = await folder.write('rotated.key', rsa.privateKeyPem)
    const minter = await minterOf(file)
    await writeFile(file, other.privateKeyPem)

    await minter.reload()

    expect(decodeProtectedHeader(await minter.mint(PULL))).toMatchObject({ alg: 'ES256', kid: other.kid })
  })

  it('is signed with the old key while the new file is bad', async () => {
    const file = await folder.write('broken.key', rsa.privateKeyPem)
    const minter = await minterOf(file)
    await writeFile(file, rsa.privateKeyPem.slice(0, 200))

    await expect(minter.reload()).rejects.toThrow(KeyFileError)

    expect(decodeProtectedHeader(await minter.mint(PULL)).kid).toBe(rsa.kid)
  })
})

describe('a key that cannot sign is refused in words that say what to do', () => {
  const { privateKey: ed25519 } = generateKeyPairSync('ed25519')
  const { privateKey: weak } = generateKeyPairSync('rsa', { modulusLength: 1024 })
  const { privateKey: p521 } = generateKeyPairSync('ec', { namedCurve: 'P-521' })
  const writeKey = (key: KeyObject, encryption: { cipher?: string; passphrase?: string } = {}) =>
    folder.write('bad.key', key.export({ type: 'pkcs8', format: 'pem', ...encryption }).toString())

  it.each<[string, () => string | Promise<string>, RegExp]>([
    ['an absent file', () => '/nonexistent/site.key', /cannot read the private key \/nonexistent/],
    ['an empty file', () => folder.write('bad.key', ''), /one PEM private key without a passphrase/],
    ['a certificate', () => folder.write('bad.key', rsa.certificatePem), /one PEM private key/],
    [
      'a key under a passphrase',
      () => writeKey(ed25519, { cipher: 'aes-256-cbc', passphrase: 'hunter2' }),
      /without a passphrase/,
    ],
    [
      'an Ed25519 key',
      () => writeKey(ed25519),
      /\(ed25519\): use RSA of 2048 bits or more, EC P-256 or EC P-384/,
    ],
    ['an RSA key of 1024 bits', () => writeKey(weak), /\(rsa\): use RSA of 2048 bits or more/],
    ['a P-521 key', () => writeKey(p521), /\(ec\): use .*EC P-256 or EC P-384/],
  ])('%s', async (_what, file, message) => {
    const failure = minterOf(await file())

    await expect(failure).rejects.toThrow(KeyFileError)
    await expect(failure).rejects.toThrow(message)
  })
})

describe('the private key', () => {
  it('is in nothing that could be logged', async () => {
    const file = await folder.write('secret.key', rsa.privateKeyPem)
    const minter = await minterOf(file)
    await writeFile(file, rsa.privateKeyPem.replace('END PRIVATE', 'END PRIVAT'))
    const error: unknown = await minter.reload().catch((reason: unknown) => reason)
    const secret = rsa.privateKeyPem.split('\n')

    const seen =
      inspect([minter, error], { depth: 20, showHidden: true, getters: true }) + JSON.stringify(minter)

    expect(error).toBeInstanceOf(KeyFileError)
    for (const line of secret.slice(1, -2)) expect(seen).not.toContain(line)
    expect(seen).not.toContain('KeyObject')
  })
})
