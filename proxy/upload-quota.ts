/** How many bytes one client address may upload in an hour, so that one runaway job cannot fill a long link alone. */
import { LRUCache } from 'lru-cache'
import type { Metrics } from '../src/metrics.ts'
import { OciError } from '../src/oci/errors.ts'

export interface UploadQuota {
  /** Before a request is sent on, with the length it declares. Throws `OciError` (`TOOMANYREQUESTS`). */
  admit(clientAddress: string, declaredBytes: number): void
  /** As bytes pass: a request without a length, or several at once, can still go over. Throws the same. */
  count(clientAddress: string, bytes: number): void
}

export interface UploadQuotaOptions {
  /** Per client address; 0, the default, is no limit. */
  readonly bytesPerHour?: number
  /** Addresses remembered; the one longest unseen is forgotten first. Default 10 000. */
  readonly maxClients?: number
  /** Monotonic milliseconds. */
  readonly now?: () => number
}

interface Hour {
  readonly endsAtMs: number
  bytes: number
}

const HOUR_MS = 3_600_000

export function createUploadQuota(
  deps: { readonly metrics: Metrics },
  options: UploadQuotaOptions = {},
): UploadQuota {
  const limit = options.bytesPerHour ?? 0
  if (limit === 0) return { admit: () => undefined, count: () => undefined }
  const now = options.now ?? (() => performance.now())
  const hours = new LRUCache<string, Hour>({ max: options.maxClients ?? 10_000 })

  function hourOf(clientAddress: string): Hour {
    const known = hours.get(clientAddress)
    if (known && known.endsAtMs > now()) return known
    const hour = { endsAtMs: now() + HOUR_MS, bytes: 0 }
    hours.set(clientAddress, hour)
    return hour
  }

  function refuse(hour: Hour): never {
    deps.metrics.limited.inc({ limit: 'upload' })
    throw new OciError('TOOMANYREQUESTS', {
      message: `too many upload bytes from this address: ${limit} per hour are allowed`,
      headers: { 'retry-after': String(Math.ceil((hour.endsAtMs - now()) / 1000)) },
    })
  }

  return {
    admit(clientAddress, declaredBytes) {
      const hour = hourOf(clientAddress)
      if (hour.bytes + declaredBytes > limit || hour.bytes >= limit) refuse(hour)
    },
    count(clientAddress, bytes) {
      const hour = hourOf(clientAddress)
      hour.bytes += bytes
      if (hour.bytes > limit) refuse(hour)
    },
  }
}
