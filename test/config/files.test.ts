import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { checkFile, checkPair, type FileKind, readSecret } from '../../src/config/files.ts'
import { jwksOf, type SigningKey, signingKey } from '../support/keys.ts'
import { type TempFolder, tempFolder } from '../support/temp.ts'

describe('files', () => {
  let folder: TempFolder
  let key: SigningKey
  beforeAll(async () => {
    folder = await tempFolder('config-files')
    key = await signingKey({ algorithm: 'ES256' })
  })
  afterAll(async () => await folder[Symbol.asyncDispose]())

  it('are accepted when they are what the setting needs', async () => {
    const other = await signingKey({ algorithm: 'RS256' })
    const bundle = await folder.write('bundle.crt', `# two\n${key.certificatePem}\n${other.certificatePem}`)

    checkFile('certificates', bundle)
    checkFile('private key', await folder.write('a.key', key.privateKeyPem))
    checkFile('key set', await folder.write('a.jwks', jwksOf(key)))
    checkFile('secret', await folder.write('a.secret', ' spaces belong to it '))
    checkPair(bundle, await folder.write('pair.key', key.privateKeyPem))
  })

  it.each<[string, FileKind, string, string]>([
    ['an empty bundle', 'certificates', '', 'holds no certificate; expected PEM'],
    [
      'a damaged certificate',
      'certificates',
      '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----',
      'holds a certificate that cannot be read',
    ],
    [
      'a certificate for a key',
      'private key',
      'CERTIFICATE',
      'holds no private key; expected PEM without a passphrase',
    ],
    ['a key set that is no JSON', 'key set', 'nope', 'is no JSON Web Key Set'],
    ['a key set without keys', 'key set', '{"keys":[]}', 'is no JSON Web Key Set'],
    ['a list for a key set', 'key set', '[1]', 'is no JSON Web Key Set'],
    ['an empty secret', 'secret', '\n', 'is empty; expected a secret'],
    ['a secret of several lines', 'secret', 'a\nb\n', 'has several lines'],
    ['a file that is far too large', 'secret', 'x'.repeat(4 * 1024 * 1024 + 1), 'is larger than 4 MiB'],
  ])('are refused: %s', async (name, kind, content, message) => {
    const file = await folder.write(name, content === 'CERTIFICATE' ? key.certificatePem : content)

    expect(() => checkFile(kind, file)).toThrow(`${file} ${message}`)
  })

  it('are refused when the key is that of another certificate', async () => {
    const other = await signingKey({ algorithm: 'ES256', name: 'other' })
    const certificate = await folder.write('mine.crt', key.certificatePem)
    const keyFile = await folder.write('other.key', other.privateKeyPem)

    expect(() => checkPair(certificate, keyFile)).toThrow(
      `${keyFile} is not the key of the first certificate in`,
    )
  })

  it('lose only the closing newline of a secret', async () => {
    expect(readSecret(await folder.write('unix', 'secret\n'))).toBe('secret')
    expect(readSecret(await folder.write('windows', 'secret\r\n'))).toBe('secret')
    expect(readSecret(await folder.write('none', ' secret'))).toBe(' secret')
  })
})
