/** What clients read, by where it was answered from, as the process's counters have it. */
import type { Metrics, Source } from '../metrics.ts'

export interface Traffic {
  /** Manifest and blob reads since the process started. */
  readonly reads: Readonly<Record<Source, number>>
  /** Body bytes that came from here: confirmed content, and stale content while the primary was away. */
  readonly bytesFromHere: number
}

export async function readTraffic({ reads, servedBytes }: Metrics): Promise<Traffic> {
  const [readCounts, bytes] = await Promise.all([bySource(reads), bySource(servedBytes)])
  return { reads: readCounts, bytesFromHere: bytes.local + bytes.stale }
}

async function bySource(counter: Metrics['reads']): Promise<Record<Source, number>> {
  const counts = { local: 0, fill: 0, primary: 0, stale: 0 }
  for (const { labels, value } of (await counter.get()).values) {
    if (labels.source !== undefined && Object.hasOwn(counts, labels.source)) {
      counts[labels.source as Source] = value
    }
  }
  return counts
}
