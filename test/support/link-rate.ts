/** A token bucket that is filled by the clock while there is work, and holds one tick's worth after a rest. */

/** How often a limited link forwards. */
export const TICK_MS = 5
/** What late ticks may be made up for: a busy event loop must not lower the rate. */
export const CATCH_UP_MS = 100

export interface RateLimit {
  /** Call before work begins after there was none: a rest earns one tick, so that the first bytes leave at once. */
  wake(nowMs: number): void
  /** Call at every tick. */
  refill(nowMs: number): void
  /** How many of `wanted` bytes may pass now: all, none, or a part worth a write. */
  available(wanted: number): number
  use(bytes: number): void
}

const UNLIMITED: RateLimit = { wake() {}, refill() {}, available: (wanted) => wanted, use() {} }

export function createRateLimit(bytesPerSecond: number | undefined): RateLimit {
  if (bytesPerSecond === undefined) return UNLIMITED
  const perMs = bytesPerSecond / 1000
  const perTick = Math.max(1, perMs * TICK_MS)
  let allowance = 0
  let countedAtMs = 0
  function fill(nowMs: number, most: number): void {
    allowance = Math.min(allowance + perMs * (nowMs - countedAtMs), most)
    countedAtMs = nowMs
  }
  return {
    wake: (nowMs) => fill(nowMs, Math.max(allowance, perTick)),
    refill: (nowMs) => fill(nowMs, perTick * (CATCH_UP_MS / TICK_MS)),
    available(wanted) {
      const bytes = Math.min(wanted, Math.floor(allowance))
      return bytes < Math.min(wanted, 1460, perTick) ? 0 : bytes
    },
    use: (bytes) => {
      allowance -= bytes
    },
  }
}
