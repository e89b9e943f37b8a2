/**
 * The signature algorithms taken and made here. GitLab's registry knows RS256/384/512 only; ES256 and ES384 are what
 * Docker token services use besides. HMAC, PSS, EdDSA and `none` are refused whatever key they name.
 */
import type { KeyObject } from 'node:crypto'

export const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'ES256', 'ES384'] as const
export type Algorithm = (typeof ALGORITHMS)[number]

/** In words, for messages about keys that cannot be used. */
export const USABLE_KEYS = 'RSA of 2048 bits or more, EC P-256 or EC P-384'

/** RFC 7518 section 3.3 asks for this much, and jose refuses less. */
const RSA_MIN_BITS = 2048

/** What a key can sign or verify, preferred first; empty for a key that is of no use here. */
export function algorithmsOf(key: KeyObject): readonly Algorithm[] {
  const { modulusLength = 0, namedCurve } = key.asymmetricKeyDetails ?? {}
  if (key.asymmetricKeyType === 'rsa') {
    return modulusLength >= RSA_MIN_BITS ? ['RS256', 'RS384', 'RS512'] : []
  }
  if (key.asymmetricKeyType !== 'ec') return []
  if (namedCurve === 'prime256v1') return ['ES256']
  return namedCurve === 'secp384r1' ? ['ES384'] : []
}
