/**
 * The public keys whose tokens are believed, found by `kid` alone: from the registry's certificate bundle, a JWKS file,
 * or both. A certificate's dates are not looked at, as Distribution does not on this path (facts/gitlab.md 4.2).
 */
import { createPublicKey, type JsonWebKeyInput, type KeyObject, X509Certificate } from 'node:crypto'
import { z } from 'zod'
import { type Algorithm, algorithmsOf, USABLE_KEYS } from './algorithms.ts'
import { KeyFileError, readKeyFile } from './key-file.ts'
import { keyIdOf } from './key-id.ts'
import { createReloadable } from './reloadable.ts'

export interface TrustedKey {
  readonly key: KeyObject
  readonly algorithms: readonly Algorithm[]
}

export interface TrustedKeys {
  /** Grows with every reload that took effect: what was verified under another version must be verified again. */
  readonly version: number
  find(kid: string): TrustedKey | undefined
  /** Reads the files again and swaps the whole set. Throws `KeyFileError`, and the old set stays. */
  reload(): Promise<void>
}

export interface TrustedKeySources {
  /** PEM with at least one `CERTIFICATE`; Distribution's `auth.token.rootcertbundle`. */
  readonly certificateBundleFile?: string | undefined
  /** JSON Web Key Set (RFC 7517); Distribution's `auth.token.jwks`. */
  readonly jwksFile?: string | undefined
}

type KeySet = Map<string, TrustedKey>

/** Loads the keys once. Throws `KeyFileError`. */
export async function createTrustedKeys(sources: TrustedKeySources): Promise<TrustedKeys> {
  const keys = await createReloadable(() => load(sources))
  return {
    get version() {
      return keys.version
    },
    find: (kid) => keys.value.get(kid),
    reload: () => keys.reload(),
  }
}

async function load({ certificateBundleFile, jwksFile }: TrustedKeySources): Promise<KeySet> {
  const keys: KeySet = new Map()
  if (certificateBundleFile !== undefined) await loadCertificates(certificateBundleFile, keys)
  if (jwksFile !== undefined) await loadJwks(jwksFile, keys)
  if (keys.size === 0) {
    throw new KeyFileError(
      'no key to verify tokens with: set auth.token.rootcertbundle (as at the primary) or auth.token.jwks',
    )
  }
  return keys
}

function add(keys: KeySet, kid: string, entry: TrustedKey, file: string): void {
  const other = keys.get(kid)
  // Not by KeyObject.equals: for keys of two types it leaves an OpenSSL error behind that fails the next operation.
  if (other && keyIdOf(other.key) !== keyIdOf(entry.key)) {
    throw new KeyFileError(`two different keys are called "${kid}" (the second in ${file}): rename one`)
  }
  // The same key in both files: whatever either of them allows.
  const algorithms = [...new Set([...(other?.algorithms ?? []), ...entry.algorithms])]
  keys.set(kid, { key: entry.key, algorithms })
}

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g

async function loadCertificates(file: string, keys: KeySet): Promise<void> {
  const blocks = (await readKeyFile(file, 'the certificate bundle')).match(CERTIFICATE) ?? []
  if (blocks.length === 0) {
    throw new KeyFileError(
      `${file} holds no certificate: give the primary's rootcertbundle, PEM with BEGIN CERTIFICATE lines`,
    )
  }
  for (const [index, block] of blocks.entries()) {
    const key = certificateKey(block, `certificate ${index + 1} of ${file}`)
    add(keys, keyIdOf(key.key), key, file)
  }
}

function certificateKey(pem: string, which: string): TrustedKey {
  let key: KeyObject
  try {
    key = new X509Certificate(pem).publicKey
  } catch (cause) {
    throw new KeyFileError(`${which} cannot be read: copy it again from the primary`, { cause })
  }
  const algorithms = algorithmsOf(key)
  if (algorithms.length > 0) return { key, algorithms }
  throw new KeyFileError(
    `${which} has a key that cannot verify tokens (${key.asymmetricKeyType}): use ${USABLE_KEYS}`,
  )
}

const JWKS = z.object({
  keys: z.array(
    z.looseObject({
      kty: z.string(),
      kid: z.string().optional(),
      alg: z.string().optional(),
      use: z.string().optional(),
      key_ops: z.array(z.string()).optional(),
    }),
  ),
})
type Jwk = z.infer<typeof JWKS>['keys'][number]

async function loadJwks(file: string, keys: KeySet): Promise<void> {
  const text = await readKeyFile(file, 'the JWKS file')
  let usable = 0
  for (const [index, jwk] of parseJwks(text, file).entries()) {
    const entry = jwkKey(jwk, `key ${index + 1} of ${file}`)
    if (!entry) continue
    usable += 1
    add(keys, keyIdOf(entry.key), entry, file)
    if (jwk.kid !== undefined) add(keys, jwk.kid, entry, file)
  }
  if (usable === 0) {
    throw new KeyFileError(`${file} holds no key that can verify tokens: it needs ${USABLE_KEYS}`)
  }
}

function parseJwks(text: string, file: string): Jwk[] {
  try {
    return JWKS.parse(JSON.parse(text)).keys
  } catch {
    // Without its cause: JSON.parse quotes the text it could not read, which may be a private key.
    throw new KeyFileError(`${file} is no JSON Web Key Set: it must be JSON of the form {"keys":[…]}`)
  }
}

/** Undefined for a key of another kind or purpose, which RFC 7517 section 5 says to ignore. */
function jwkKey(jwk: Jwk, which: string): TrustedKey | undefined {
  if (jwk.kty !== 'RSA' && jwk.kty !== 'EC') return undefined
  if ('d' in jwk) throw new KeyFileError(`${which} is a private key: leave only its public members there`)
  if (jwk.use !== undefined && jwk.use !== 'sig') return undefined
  if (jwk.key_ops && !jwk.key_ops.includes('verify')) return undefined
  let key: KeyObject
  try {
    key = createPublicKey({ key: jwk as JsonWebKeyInput['key'], format: 'jwk' })
  } catch (cause) {
    throw new KeyFileError(`${which} cannot be read: fetch the set again from the token service`, { cause })
  }
  const algorithms = algorithmsOf(key).filter((name) => jwk.alg === undefined || jwk.alg === name)
  return algorithms.length > 0 ? { key, algorithms } : undefined
}
