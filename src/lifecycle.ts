/**
 * A process from its first signal to its last: stop accepting, finish what is in flight, give everything back in the
 * reverse order of its making, and be gone. Also when to read certificates, keys and secrets again. Imports nothing of
 * ours.
 */
import { type FSWatcher, statSync, watch } from 'node:fs'
import { stat } from 'node:fs/promises'
import { dirname } from 'node:path'

/** Pino's shape, as far as it is needed here. */
export interface LifecycleLog {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

export type Releasable = AsyncDisposable | Disposable | (() => void | Promise<void>)

export interface Lifecycle extends AsyncDisposable {
  /** Aborted when stopping begins; readiness says no from then on. */
  readonly stopping: AbortSignal
  /** Fulfilled when everything has been given back; `clean` is false when something failed or took too long. */
  readonly stopped: Promise<{ readonly clean: boolean }>
  /**
   * Called first, all at once: stop accepting, and resolve when what is in flight is done. `deadline` is aborted when
   * the drain timeout has passed; cut what is left then.
   */
  onDrain(name: string, drain: (deadline: AbortSignal) => void | Promise<void>): void
  /** Released when the drain is over, last owned first, one by one. Owned too late, it is released at once. */
  own(name: string, resource: Releasable): void
  /** Called by SIGHUP and `reload`. One that fails is logged and keeps what it had. */
  onReload(name: string, subscriber: () => void | Promise<void>): void
  reload(reason: string): Promise<void>
  /** Stops once, however often it is called. Never rejects. */
  stop(reason: string): Promise<{ readonly clean: boolean }>
  /**
   * SIGTERM and SIGINT stop, a second one exits with status 1 at once, SIGHUP reloads. A process that lives on after
   * the stop is ended with status 1 and a word on what held it.
   */
  handleSignals(): void
}

export interface LifecycleOptions {
  readonly log: LifecycleLog
  /** How long what is in flight may take; default 30 000. */
  readonly drainTimeoutMs?: number
  /** How long each release may take, and cutting what the drain left; default 10 000. */
  readonly phaseTimeoutMs?: number
  /** How long the process may live after the stop; default 5 000. */
  readonly exitTimeoutMs?: number
}

/** npm passes on a Ctrl-C that the terminal has already sent to the whole group: the same signal twice, within moments. */
const SAME_KEYSTROKE_MS = 250

export function createLifecycle(options: LifecycleOptions): Lifecycle {
  const { log, drainTimeoutMs = 30_000, phaseTimeoutMs = 10_000, exitTimeoutMs = 5_000 } = options
  const drains: { name: string; drain: (deadline: AbortSignal) => void | Promise<void> }[] = []
  const owned: { name: string; resource: Releasable }[] = []
  const subscribers: { name: string; subscriber: () => void | Promise<void> }[] = []
  const stopping = new AbortController()
  const stopped = Promise.withResolvers<{ readonly clean: boolean }>()
  let released = false
  let clean = true
  let reloading = Promise.resolve()
  let handlesSignals = false

  async function attempt(what: string, name: string, limitMs: number, run: () => unknown): Promise<void> {
    try {
      await within(limitMs, Promise.resolve().then(run))
    } catch (error) {
      clean = false
      log.error({ error, name }, `${what} failed`)
    }
  }

  async function drainAll(): Promise<void> {
    const deadline = new AbortController()
    const timer = setTimeout(() => {
      log.warn(
        { drain_timeout_ms: drainTimeoutMs },
        'the drain timeout has passed: cutting what is in flight',
      )
      deadline.abort()
    }, drainTimeoutMs)
    const limitMs = drainTimeoutMs + phaseTimeoutMs
    await Promise.all(
      drains.map(({ name, drain }) => attempt('draining', name, limitMs, () => drain(deadline.signal))),
    )
    clearTimeout(timer)
  }

  async function run(reason: string): Promise<void> {
    log.info({ reason }, 'stopping')
    stopping.abort()
    await drainAll()
    for (let last = owned.pop(); last; last = owned.pop()) await give(last.name, last.resource)
    released = true
    log.info({ clean }, 'stopped')
    if (handlesSignals) watchExit()
    stopped.resolve({ clean })
  }

  function give(name: string, resource: Releasable): Promise<void> {
    return attempt('releasing', name, phaseTimeoutMs, () => release(resource))
  }

  function watchExit(): void {
    const timer = setTimeout(() => {
      log.error(
        { held_by: process.getActiveResourcesInfo() },
        'stopped, but something kept the process: exiting',
      )
      process.exit(1)
    }, exitTimeoutMs)
    timer.unref()
  }

  const lifecycle: Lifecycle = {
    stopping: stopping.signal,
    stopped: stopped.promise,
    onDrain(name, drain) {
      drains.push({ name, drain })
    },
    own(name, resource) {
      if (released) void give(name, resource)
      else owned.push({ name, resource })
    },
    onReload(name, subscriber) {
      subscribers.push({ name, subscriber })
    },
    reload(reason) {
      reloading = reloading.then(async () => {
        if (stopping.signal.aborted) return
        log.info({ reason }, 'reading certificates, keys and secrets again')
        for (const { name, subscriber } of subscribers) {
          try {
            await subscriber()
          } catch (error) {
            log.error({ error, name }, 'reload failed: what was read before stays in use')
          }
        }
      })
      return reloading
    },
    stop(reason) {
      if (!stopping.signal.aborted) void run(reason)
      return stopped.promise
    },
    handleSignals() {
      handlesSignals = true
      let first: { signal: NodeJS.Signals; atMs: number } | undefined
      const end = (signal: NodeJS.Signals) => {
        const repeated = first?.signal === signal && performance.now() - first.atMs < SAME_KEYSTROKE_MS
        if (first && !repeated) {
          log.warn({ signal }, 'second signal: exiting at once')
          process.exit(1)
        }
        first ??= { signal, atMs: performance.now() }
        void lifecycle.stop(signal)
      }
      process.on('SIGTERM', end).on('SIGINT', end)
      process.on('SIGHUP', () => void lifecycle.reload('SIGHUP'))
    },
    async [Symbol.asyncDispose]() {
      await lifecycle.stop('disposed')
    },
  }
  return lifecycle
}

function release(resource: Releasable): unknown {
  if (typeof resource === 'function') return resource()
  return Symbol.asyncDispose in resource ? resource[Symbol.asyncDispose]() : resource[Symbol.dispose]()
}

/** Rejects when the promise takes longer; whatever it does after that is no longer waited for. */
async function within(limitMs: number, promise: Promise<unknown>): Promise<void> {
  const late = Promise.withResolvers<never>()
  const timer = setTimeout(() => late.reject(new Error(`not done within ${limitMs} ms`)), limitMs)
  try {
    await Promise.race([promise, late.promise])
  } finally {
    clearTimeout(timer)
  }
}

export interface WatchOptions {
  /** Files are also looked at this often, for the changes no event told of; default 30 000. */
  readonly pollMs?: number
  /** How long a change is left to settle; default 200. */
  readonly settleMs?: number
}

/**
 * Calls `onChange` with the files that are there and differ from when they were last looked at; `onChange` must not
 * throw. The folders are watched, not the files: an editor, certbot and Kubernetes replace a file, and Kubernetes does
 * so by swapping the folder a symbolic link (`..data`) points to. Events are only a reason to look. Keeps no process
 * alive.
 */
export function watchFiles(
  paths: readonly string[],
  onChange: (changed: readonly string[]) => void,
  options: WatchOptions = {},
): Disposable {
  const { pollMs = 30_000, settleMs = 200 } = options
  const seen = new Map(paths.map((path) => [path, firstFingerprint(path)]))
  let closed = false
  let settling: NodeJS.Timeout | undefined
  let looking = Promise.resolve()

  async function look(): Promise<void> {
    const changed: string[] = []
    for (const path of paths) {
      // A file that is gone for a moment is being replaced; one that stays away leaves what was read in use.
      const now = fingerprint(await stat(path, STAT_OPTIONS).catch(() => undefined))
      if (now === undefined || now === seen.get(path)) continue
      seen.set(path, now)
      changed.push(path)
    }
    if (changed.length > 0 && !closed) onChange(changed)
  }
  const lookNext = () => {
    looking = looking.then(look)
  }
  const settle = () => {
    if (closed) return
    settling ??= setTimeout(() => {
      settling = undefined
      lookNext()
    }, settleMs).unref()
  }

  const poll = setInterval(lookNext, pollMs).unref()
  const watchers = [...new Set(paths.map(dirname))].flatMap((folder) => watchFolder(folder, settle))
  return {
    [Symbol.dispose]() {
      closed = true
      clearInterval(poll)
      clearTimeout(settling)
      for (const watcher of watchers) watcher.close()
    },
  }
}

const STAT_OPTIONS = { bigint: true, throwIfNoEntry: false } as const

/** Taken before anything is awaited, so that no change after the call is missed. */
function firstFingerprint(path: string): string | undefined {
  try {
    return fingerprint(statSync(path, STAT_OPTIONS))
  } catch {
    return undefined // As good as not there: it counts as changed once it can be read.
  }
}

/** Follows symbolic links, as reading the file does. */
function fingerprint(stats: { mtimeNs: bigint; ino: bigint; dev: bigint; size: bigint } | undefined) {
  return stats && `${stats.dev}:${stats.ino}:${stats.size}:${stats.mtimeNs}`
}

/** No watcher where the folder is missing, or the system has no more to give: the poll sees the change later. */
function watchFolder(folder: string, onEvent: () => void): FSWatcher[] {
  try {
    const watcher = watch(folder, { persistent: false }, onEvent)
    watcher.on('error', () => watcher.close())
    return [watcher]
  } catch {
    return []
  }
}
