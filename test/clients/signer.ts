/** What the matrix asks of a program that signs images. Where it keeps a signature is its own affair. */
import type { KeptAs } from './signatures.ts'
import type { Credentials } from './tool.ts'

/** Verification trusts the own one alone. */
export type Key = 'own' | 'other'

/** References are as a `Tool`'s. */
export interface Signer extends AsyncDisposable {
  /** Also the folder of its repositories. */
  readonly name: string
  readonly version: string
  /** What it calls this machine; default `127.0.0.1`. */
  readonly hostname?: 'localhost'
  /** What it says of an image without a signature that holds. Not what it says when it could not ask. */
  readonly untrusted: RegExp
  login(host: string, user: Credentials): Promise<void>
  sign(reference: string, key: Key): Promise<void>
  /** Throws unless the image has a signature made with the own key. */
  verify(reference: string): Promise<void>
  readonly keptAs: KeptAs
  /** An image with its signatures, from one repository to another of the same registry. */
  copy?(from: string, to: string): Promise<void>
  /** Takes the signatures of an image away; without it the matrix deletes them itself. */
  remove?(reference: string): Promise<void>
}

/** Starts it with a home and keys of its own; throws when it cannot be had here. */
export type StartSigner = () => Promise<Signer>

/**
 * No loopback address goes through a proxy, and nothing listens there: whoever wants a transparency log, a trust root or
 * a revocation list from the internet fails.
 */
export const NO_INTERNET = { HTTP_PROXY: 'http://127.0.0.1:9', HTTPS_PROXY: 'http://127.0.0.1:9' }
