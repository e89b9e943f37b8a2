import { describe, expect, it } from 'vitest'
import { createUploadQuota, type UploadQuotaOptions } from '../../proxy/upload-quota.ts'
import { createMetrics } from '../../src/metrics.ts'
import { OciError } from '../../src/oci/errors.ts'

const HOUR_MS = 3_600_000

function quotaOf(options: UploadQuotaOptions) {
  const clock = { ms: 5000 }
  const quota = createUploadQuota({ metrics: createMetrics() }, { now: () => clock.ms, ...options })
  return { quota, clock }
}

describe('an upload quota', () => {
  it('lets a client send its bytes, then says when it may go on', () => {
    const { quota, clock } = quotaOf({ bytesPerHour: 100 })
    quota.admit('a', 100)
    quota.count('a', 100)
    clock.ms += 600_000

    expect(() => quota.admit('a', 0)).toThrow(
      expect.objectContaining({ code: 'TOOMANYREQUESTS', status: 429, headers: { 'retry-after': '3000' } }),
    )
    clock.ms += HOUR_MS
    expect(() => quota.admit('a', 100)).not.toThrow()
  })

  it('stops several uploads of one client that were each within it', () => {
    const { quota } = quotaOf({ bytesPerHour: 100 })
    quota.admit('a', 60)
    quota.admit('a', 60)
    quota.count('a', 60)

    expect(() => quota.count('a', 60)).toThrow(OciError)
  })

  it('counts clients apart', () => {
    const { quota } = quotaOf({ bytesPerHour: 100 })
    quota.count('a', 100)

    expect(() => quota.admit('b', 100)).not.toThrow()
  })

  it('remembers so many clients and no more, those seen last', () => {
    const { quota } = quotaOf({ bytesPerHour: 100, maxClients: 2 })
    for (const client of ['a', 'b', 'c']) quota.count(client, 100)

    expect(() => quota.admit('a', 1)).not.toThrow()
    expect(() => quota.admit('c', 1)).toThrow(OciError)
  })

  it('is no limit by default', () => {
    const { quota } = quotaOf({})

    expect(() => quota.count('a', Number.MAX_SAFE_INTEGER)).not.toThrow()
  })
})
