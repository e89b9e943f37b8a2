/**
 * The `kid` of a registry token: libtrust's fingerprint of the public key, which GitLab writes into every token and
 * Distribution looks its trusted certificates up by (facts/gitlab.md 4.1).
 */
import { createHash, type KeyObject } from 'node:crypto'

/** https://www.rfc-editor.org/rfc/rfc4648#section-6 */
const BASE32 = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'

/** SHA-256 of the DER SubjectPublicKeyInfo, its first 30 bytes as 12 groups of 4 base32 characters. */
export function keyIdOf(publicKey: KeyObject): string {
  const der = publicKey.export({ type: 'spki', format: 'der' })
  const bytes = createHash('sha256').update(der).digest().subarray(0, 30)
  return (base32(bytes).match(/.{4}/g) ?? []).join(':')
}

/** Without padding: exact for a whole number of 5-byte groups, which 30 bytes are. */
function base32(bytes: Uint8Array): string {
  let text = ''
  let bits = 0
  let pending = 0
  for (const byte of bytes) {
    pending = (pending << 8) | byte
    bits += 8
    while (bits >= 5) {
      bits -= 5
      text += BASE32.charAt((pending >> bits) & 31)
    }
    pending &= (1 << bits) - 1
  }
  return text
}
