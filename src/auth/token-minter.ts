/**
 * The site's own token for the primary, as Geo mints it: short-lived, for exactly what one request needs. The private
 * key stays in this closure; it is never a property of anything and never in an error.
 */
import { createPrivateKey, createPublicKey, type KeyObject, randomUUID } from 'node:crypto'
import { SignJWT } from 'jose'
import { type Algorithm, algorithmsOf, USABLE_KEYS } from './algorithms.ts'
import { KeyFileError, readKeyFile } from './key-file.ts'
import { keyIdOf } from './key-id.ts'
import { createReloadable } from './reloadable.ts'
import type { Scope } from './scope.ts'

/** How long a minted token is good for; GitLab's default. */
export const MINTED_LIFETIME_SECONDS = 5 * 60
/** GitLab dates its tokens back by this much, for a primary whose clock is behind. */
const NOT_BEFORE_SECONDS = 5

export interface TokenMinter {
  /** A signed token that grants these scopes for `MINTED_LIFETIME_SECONDS`. */
  mint(scopes: readonly Scope[]): Promise<string>
  /** Reads the key file again. Throws `KeyFileError`, and the old key stays in use. */
  reload(): Promise<void>
}

export interface TokenMinterSettings {
  /** PEM with one private key (PKCS#8, PKCS#1 or SEC 1), not encrypted. */
  readonly keyFile: string
  /** `iss`: what the primary's `auth.token.issuer` says. */
  readonly issuer: string
  /** `aud`: what the primary's `auth.token.service` says. */
  readonly service: string
  /** Wall clock in milliseconds; default `Date.now`. */
  readonly now?: (() => number) | undefined
}

interface SigningKey {
  readonly key: KeyObject
  readonly kid: string
  readonly alg: Algorithm
}

/** Loads the key once. Throws `KeyFileError`. */
export async function createTokenMinter(settings: TokenMinterSettings): Promise<TokenMinter> {
  const { keyFile, issuer, service, now = Date.now } = settings
  const signing = await createReloadable(() => loadSigningKey(keyFile))

  return {
    mint: (scopes) => {
      const { key, kid, alg } = signing.value
      const issuedAt = Math.floor(now() / 1000)
      const access = scopes.map(({ type, name, actions }) => ({ type, name, actions }))
      return new SignJWT({ access })
        .setProtectedHeader({ alg, kid, typ: 'JWT' })
        .setIssuer(issuer)
        .setAudience(service)
        .setJti(randomUUID())
        .setIssuedAt(issuedAt)
        .setNotBefore(issuedAt - NOT_BEFORE_SECONDS)
        .setExpirationTime(issuedAt + MINTED_LIFETIME_SECONDS)
        .sign(key)
    },
    reload: () => signing.reload(),
  }
}

async function loadSigningKey(file: string): Promise<SigningKey> {
  const pem = await readKeyFile(file, 'the private key')
  let key: KeyObject
  try {
    key = createPrivateKey(pem)
  } catch (cause) {
    throw new KeyFileError(
      `${file} holds no private key that can be read: it must be one PEM private key without a passphrase`,
      { cause },
    )
  }
  const [alg] = algorithmsOf(key)
  if (alg) return { key, alg, kid: keyIdOf(createPublicKey(key)) }
  throw new KeyFileError(
    `${file} holds a key that cannot sign tokens (${key.asymmetricKeyType}): use ${USABLE_KEYS}`,
  )
}
