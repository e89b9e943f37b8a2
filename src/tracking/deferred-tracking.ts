/**
 * A tracking database that need not be there when the process starts (law 10): opened by the first call, and by each one
 * after it until it succeeds.
 */
import type { Tracking } from './tracking.ts'

/** Every method rejects as `open` does while it cannot be opened; calls at the same time share one attempt. */
export function deferTracking(open: () => Promise<Tracking>): Tracking {
  let opening: Promise<Tracking> | undefined

  function opened(): Promise<Tracking> {
    opening ??= open().catch((error: unknown) => {
      opening = undefined
      throw error
    })
    return opening
  }

  return {
    accept: async (events) => (await opened()).accept(events),
    pendingEvents: async (path) => (await opened()).pendingEvents(path),
    touch: async (paths, options) => (await opened()).touch(paths, options),
    discover: async (paths) => (await opened()).discover(paths),
    find: async (path) => (await opened()).find(path),
    failingTags: async (path) => (await opened()).failingTags(path),
    list: async (options) => (await opened()).list(options),
    counts: async () => (await opened()).counts(),
    due: async (nowMs, limit) => (await opened()).due(nowMs, limit),
    reconcilable: async (beforeMs, limit) => (await opened()).reconcilable(beforeMs, limit),
    lease: async (path, ttlMs) => (await opened()).lease(path, ttlMs),
    renew: async (lease, ttlMs) => (await opened()).renew(lease, ttlMs),
    settle: async (lease, outcome, through) => (await opened()).settle(lease, outcome, through),
    resync: async (filter, options) => (await opened()).resync(filter, options),
    reverify: async (filter, options) => (await opened()).reverify(filter, options),
    forget: async (path, change) => (await opened()).forget(path, change),
    clear: async () => (await opened()).clear(),
    cursor: async (name) => (await opened()).cursor(name),
    setCursor: async (name, value) => (await opened()).setCursor(name, value),
    async [Symbol.asyncDispose]() {
      const tracking = await opening?.catch(() => undefined) // It was never open.
      await tracking?.[Symbol.asyncDispose]()
    },
  }
}
