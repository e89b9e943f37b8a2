/** How many things of one kind a client may have under way (cold blobs, requests): one must not take every place. */
import type { Metrics } from '../src/metrics.ts'
import { OciError } from '../src/oci/errors.ts'

/** Long enough for some of its transfers to end, short enough that nobody notices afterwards. */
const RETRY_AFTER_SECONDS = '5'

export interface ClientQuota {
  /** Counts one in; the returned function, owed exactly once, counts it out. Throws `OciError` 429 over the limit. */
  enter(clientAddress: string): () => void
}

/** `limit` is the setting's name under `http.limits` and the metric's label. */
export function createClientQuota(limit: string, perClient: number, metrics: Metrics): ClientQuota {
  const counts = new Map<string, number>()
  return {
    enter(clientAddress) {
      const count = counts.get(clientAddress) ?? 0
      if (count >= perClient) {
        metrics.limited.inc({ limit })
        throw new OciError('TOOMANYREQUESTS', {
          message: `more than ${perClient} ${limit} of one client at once (http.limits.${limit})`,
          headers: { 'retry-after': RETRY_AFTER_SECONDS },
        })
      }
      counts.set(clientAddress, count + 1)
      return () => {
        const left = (counts.get(clientAddress) ?? 1) - 1
        if (left === 0) counts.delete(clientAddress)
        else counts.set(clientAddress, left)
      }
    },
  }
}
