/** A verifier that trusts one key through a certificate bundle on disk, under a clock that stands still. */

import { createTokenVerifier, type TokenVerifier } from '../../src/auth/token-verifier.ts'
import { createTrustedKeys, type TrustedKeys } from '../../src/auth/trusted-keys.ts'
import {
  DEFAULT_ISSUER,
  DEFAULT_SERVICE,
  mintToken,
  type SigningKey,
  type TokenOptions,
} from '../support/keys.ts'
import { tempFolder } from '../support/temp.ts'

export interface VerifierBench extends AsyncDisposable {
  readonly verifier: TokenVerifier
  readonly keys: TrustedKeys
  readonly bundleFile: string
  /** The clock, in seconds since 1970; set it to travel. */
  nowSeconds: number
  /** An `Authorization` header; dates are as of the clock unless told otherwise. */
  header(options?: TokenOptions, key?: SigningKey): Promise<string>
}

export async function verifierBench(
  key: SigningKey,
  options: { readonly cacheBytes?: number } = {},
): Promise<VerifierBench> {
  const folder = await tempFolder('verifier')
  const bundleFile = await folder.write('bundle.pem', key.certificatePem)
  const keys = await createTrustedKeys({ certificateBundleFile: bundleFile })
  const bench: VerifierBench = {
    verifier: createTokenVerifier(
      { keys, issuer: DEFAULT_ISSUER, service: DEFAULT_SERVICE, now: () => bench.nowSeconds * 1000 },
      options,
    ),
    keys,
    bundleFile,
    nowSeconds: Math.floor(Date.now() / 1000),
    header: async (token = {}, by = key) =>
      `Bearer ${await mintToken(by, { iat: bench.nowSeconds, ...token })}`,
    [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose](),
  }
  return bench
}
