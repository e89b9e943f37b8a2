/**
 * Digests as the image specification words them (`algorithm:encoded`), narrowed to the two registered algorithms.
 * A `Digest` value has always been through `parseDigest`, so it is safe to build a path from.
 * https://github.com/opencontainers/image-spec/blob/v1.1.1/descriptor.md#digests
 */
import { createHash, type Hash } from 'node:crypto'

declare const brand: unique symbol
/** A digest whose algorithm is known and whose encoded part has the right length and case. */
export type Digest = string & { readonly [brand]: 'Digest' }
export type DigestAlgorithm = 'sha256' | 'sha512'

const GRAMMAR = /^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$/

/** The digest, or undefined where the text is none or its algorithm is not one we can verify. */
export function parseDigest(text: string): Digest | undefined {
  return GRAMMAR.test(text) ? (text as Digest) : undefined
}

export function algorithmOf(digest: Digest): DigestAlgorithm {
  return digest.startsWith('sha256:') ? 'sha256' : 'sha512'
}

export function hexOf(digest: Digest): string {
  return digest.slice(7)
}

export interface Digester {
  update(bytes: Uint8Array): void
  /** May be called once; the digester is spent afterwards. */
  digest(): Digest
}

export function createDigester(algorithm: DigestAlgorithm): Digester {
  const hash: Hash = createHash(algorithm)
  return {
    update: (bytes) => void hash.update(bytes),
    digest: () => `${algorithm}:${hash.digest('hex')}` as Digest,
  }
}

/** The digest of bytes that are already in memory (a manifest). */
export function digestOf(bytes: Uint8Array, algorithm: DigestAlgorithm = 'sha256'): Digest {
  const digester = createDigester(algorithm)
  digester.update(bytes)
  return digester.digest()
}
