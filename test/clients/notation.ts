/** notation with self-signed certificates of its own and a policy that trusts one of them. */
import { basic } from '../support/login.ts'
import { startGoProgram } from './go-programs.ts'
import { type Key, NO_INTERNET, type Signer } from './signer.ts'

/** https://notaryproject.dev/docs/user-guides/how-to/manage-trust-policy/ */
const POLICY = {
  version: '1.0',
  trustPolicies: [
    {
      name: 'matrix',
      registryScopes: ['*'],
      signatureVerification: { level: 'strict' },
      trustStores: ['ca:own'],
      trustedIdentities: ['*'],
    },
  ],
}

export async function startNotation(): Promise<Signer> {
  await using starting = new AsyncDisposableStack()
  const notation = starting.use(await startGoProgram('notation', NO_INTERNET))
  const keys: readonly Key[] = ['own', 'other']
  for (const key of keys) await notation.run(['cert', 'generate-test', key])
  const policy = await notation.home.write('policy.json', JSON.stringify(POLICY))
  await notation.run(['policy', 'import', policy])
  const auths: Record<string, { auth: string }> = {}
  const owned = starting.move()
  return {
    name: 'notation',
    // To it, as to oras, localhost speaks plain HTTP, and the token realm is there.
    hostname: 'localhost',
    version: notation.version,
    keptAs: 'referrer',
    untrusted: /signature verification failed for all|no signature is associated/,
    async login(host, { username, password }) {
      // It checks a password, but writes none where the system has no safe for it: it has to be there already.
      auths[host] = { auth: basic(username, password).replace('Basic ', '') }
      await notation.home.write('config.json', JSON.stringify({ auths }), 0o600)
      await notation.run(['login', host, '--username', username, '--password-stdin'], password)
    },
    sign: async (reference, key) =>
      // By the referrers API, or by its fallback tag where the registry has none.
      void (await notation.run(['sign', '--force-referrers-tag=false', '--key', key, reference])),
    verify: async (reference) => void (await notation.run(['verify', reference])),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}
