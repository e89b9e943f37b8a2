/** cosign with keys of its own, no transparency log and no trust root of sigstore's: it needs nobody but the registry. */
import { join } from 'node:path'
import { startGoProgram } from './go-programs.ts'
import { type Key, NO_INTERNET, type Signer } from './signer.ts'

/**
 * `tag`: the signature is an image under a tag of its own. `oci-1-1`: it is a referrer of its image, which cosign 2 calls
 * experimental.
 */
export type Scheme = 'tag' | 'oci-1-1'

export async function startCosign(scheme: Scheme): Promise<Signer> {
  const asReferrer = scheme === 'oci-1-1'
  await using starting = new AsyncDisposableStack()
  const cosign = starting.use(
    await startGoProgram('cosign', {
      ...NO_INTERNET,
      COSIGN_PASSWORD: 'a password',
      // A key of the user's for the log keeps cosign from fetching sigstore's trust root, even to check no log at all.
      SIGSTORE_REKOR_PUBLIC_KEY: 'own.pub',
      ...(asReferrer && { COSIGN_EXPERIMENTAL: '1' }),
    }),
  )
  const keys: readonly Key[] = ['own', 'other']
  for (const key of keys) await cosign.run(['generate-key-pair', '--output-key-prefix', key])
  const signing = [
    '--yes',
    '--tlog-upload=false',
    ...(asReferrer ? ['--registry-referrers-mode=oci-1-1'] : []),
  ]
  const verifying = ['--insecure-ignore-tlog=true', ...(asReferrer ? ['--experimental-oci11'] : [])]
  const owned = starting.move()
  const signer: Signer = {
    name: 'cosign',
    version: cosign.version,
    keptAs: asReferrer ? 'referrer' : 'tag',
    untrusted: /no matching signatures|no signatures found/,
    async login(host, { username, password }) {
      await cosign.run(['login', host, '--username', username, '--password-stdin'], password)
    },
    sign: async (reference, key) =>
      void (await cosign.run(['sign', ...signing, '--key', join(cosign.home.path, `${key}.key`), reference])),
    verify: async (reference) =>
      void (await cosign.run(['verify', ...verifying, '--key', 'own.pub', reference])),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
  if (asReferrer) return signer // Its `copy` and `clean` know tags alone.
  return {
    ...signer,
    copy: async (from, to) => void (await cosign.run(['copy', from, to])),
    remove: async (reference) => void (await cosign.run(['clean', '--force', '--type=signature', reference])),
  }
}
