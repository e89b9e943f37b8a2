/**
 * The addresses of the registry's processes: every origin of `relay.instances`, a host that is a name replaced by each
 * address it has, asked for every second. Names are asked again and again since a process that nobody knows of breaks
 * the proof (epochs.ts).
 */
import { lookup as systemLookup } from 'node:dns/promises'
import { isIP } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

/** One address: where to connect to, and what the registry there is called. */
export interface InstanceAddress {
  /** What it is told apart by and shown as: the origin, with the IP address where the origin has a name. */
  readonly key: string
  /** As configured; its host is the `Host` of requests and the name on the certificate. */
  readonly origin: string
  readonly ip: string
}

export interface InstancesDeps {
  /**
   * All addresses, as answered to questions asked at `askedAtMs`; undefined where there was nothing to ask. Told after
   * every question, changed or not.
   */
  readonly onResolved: (addresses: readonly InstanceAddress[], askedAtMs: number | undefined) => void
  /** A name has no address, or no answer came in time: which instances there are is not known. */
  readonly onUnresolved: (error: Error) => void
  /** The addresses of a name; default that of the operating system. */
  readonly lookup?: ((name: string) => Promise<readonly string[]>) | undefined
  /** Milliseconds that only go forward; default `performance.now`. */
  readonly now?: (() => number) | undefined
}

export interface InstancesOptions {
  readonly origins: readonly string[]
  /** Between two questions; default 1000. */
  readonly everyMs?: number | undefined
  /** Until a question counts as unanswered; default 2000. */
  readonly timeoutMs?: number | undefined
}

/** Begins at once, and ends with its disposal. */
export function followInstances(deps: InstancesDeps, options: InstancesOptions): AsyncDisposable {
  const { onResolved, onUnresolved, lookup = lookUpAll, now = () => performance.now() } = deps
  const { everyMs = 1_000, timeoutMs = 2_000 } = options
  const origins = options.origins.map((origin) => new URL(origin))
  const ending = new AbortController()
  const { signal } = ending
  /** Questions under way, by name: one that nobody answers is not asked a second time beside itself. */
  const asked = new Map<string, { readonly atMs: number; readonly answer: Promise<readonly string[]> }>()

  async function ask(name: string): Promise<{ readonly atMs: number; readonly ips: readonly string[] }> {
    const running = asked.get(name) ?? { atMs: now(), answer: lookup(name) }
    asked.set(name, running)
    try {
      const ips = await within(running.answer, timeoutMs, signal)
      asked.delete(name)
      if (ips.length === 0) throw new Error('it has no address')
      return { atMs: running.atMs, ips }
    } catch (cause) {
      if (!(cause instanceof UnansweredError)) asked.delete(name)
      throw new Error(`${name}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause })
    }
  }

  async function resolve(): Promise<void> {
    try {
      const found = await Promise.all(
        origins.map(async (origin) => {
          const name = hostOf(origin)
          if (isIP(name) !== 0)
            return { atMs: undefined, addresses: [addressOf(origin, name, origin.origin)] }
          const { atMs, ips } = await ask(name)
          return { atMs, addresses: ips.map((ip) => addressOf(origin, ip, `${origin.origin} (${ip})`)) }
        }),
      )
      if (signal.aborted) return
      const times = found.flatMap(({ atMs }) => (atMs === undefined ? [] : [atMs]))
      const addresses = new Map(found.flatMap((each) => each.addresses).map((each) => [each.key, each]))
      onResolved([...addresses.values()], times.length === 0 ? undefined : Math.min(...times))
    } catch (error) {
      if (!signal.aborted) onUnresolved(error instanceof Error ? error : new Error(String(error)))
    }
  }

  async function follow(): Promise<void> {
    const hasNames = origins.some((origin) => isIP(hostOf(origin)) === 0)
    do {
      const beganAtMs = now()
      await resolve()
      if (hasNames) await pause(Math.max(0, everyMs - (now() - beganAtMs)), signal)
    } while (hasNames && !signal.aborted)
  }

  const following = follow()
  return {
    async [Symbol.asyncDispose]() {
      ending.abort()
      await following
    },
  }
}

class UnansweredError extends Error {
  override readonly name = 'UnansweredError'
}

async function within<T>(promise: Promise<T>, ms: number, signal: AbortSignal): Promise<T> {
  const ending = new AbortController()
  const anyEnd = AbortSignal.any([signal, ending.signal])
  const deadline = pause(ms, anyEnd).then(() => {
    throw new UnansweredError(`no answer within ${ms} ms`)
  })
  try {
    return await Promise.race([promise, deadline])
  } finally {
    deadline.catch(() => undefined) // It has lost the race, and nobody waits for it.
    ending.abort()
  }
}

/** Resolves after so many milliseconds, or at the end. */
async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await delay(ms, undefined, { signal, ref: false }).catch(() => undefined)
}

const hostOf = ({ hostname }: URL): string => (hostname.startsWith('[') ? hostname.slice(1, -1) : hostname)

const addressOf = ({ origin }: URL, ip: string, key: string): InstanceAddress => ({ key, origin, ip })

async function lookUpAll(name: string): Promise<readonly string[]> {
  const found = await systemLookup(name, { all: true })
  return found.map(({ address }) => address)
}
