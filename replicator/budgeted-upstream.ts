/**
 * The primary as copying may use it: each request waits for its place in the budget. Bodies are not counted here: blobs
 * are paced where the fill reads them (`FetchOptions.pace`), and pacing them twice would halve the rate; manifests and
 * lists are small beside them.
 */
import { UpstreamError } from '../src/upstream/errors.ts'
import type { AskOptions, Upstream } from '../src/upstream/upstream.ts'
import type { Budget } from './budget.ts'

export interface BudgetedUpstreamOptions {
  /** Its requests go before the others'; default false. */
  readonly urgent?: boolean | undefined
}

/**
 * One place per call: the second request that settles a HEAD's 404, the redirect to where a blob lies, and a token are
 * rare or go elsewhere, and are not counted. Throws `UpstreamError` of kind `aborted` for who gives up while waiting.
 */
export function createBudgetedUpstream(
  upstream: Upstream,
  budget: Budget,
  { urgent = false }: BudgetedUpstreamOptions = {},
): Upstream {
  async function place({ signal }: Pick<AskOptions, 'signal'>): Promise<void> {
    try {
      await budget.request(signal, urgent)
    } catch (cause) {
      throw new UpstreamError('aborted', 'the caller gave up before the budget let it ask', { cause })
    }
  }
  return {
    origin: upstream.origin,
    async getManifest(name, reference, ask) {
      await place(ask)
      return await upstream.getManifest(name, reference, ask)
    },
    async confirmManifest(name, digest, ask) {
      await place(ask)
      await upstream.confirmManifest(name, digest, ask)
    },
    async confirmBlob(name, digest, ask) {
      await place(ask)
      return await upstream.confirmBlob(name, digest, ask)
    },
    async getBlob(name, digest, ask) {
      await place(ask)
      return await upstream.getBlob(name, digest, ask)
    },
    async forward(ask) {
      await place(ask)
      return await upstream.forward(ask)
    },
  }
}
