/** An inbox over ports in memory, which remember what was asked of them in order. */
import { afterEach, expect, vi } from 'vitest'
import { createInbox, type Inbox, type InboxDeps } from '../../replicator/inbox.ts'
import type { Notice } from '../../replicator/notification.ts'
import { createLogger } from '../../src/log.ts'
import { createMetrics } from '../../src/metrics.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { parseRepositoryName, parseTag, type RepositoryName, type Tag } from '../../src/oci/reference.ts'
import { createModeOf } from '../../src/oci/repository-mode.ts'
import type { Wake } from '../../src/queue/queue.ts'
import type { InboxEvent, TrackedRepository } from '../../src/tracking/tracking.ts'

export const repository = (text: string): RepositoryName => parseRepositoryName(text) ?? expect.unreachable()
export const tagNamed = (text: string): Tag => parseTag(text) ?? expect.unreachable()
export const DIGEST = digestOf(Buffer.from('x'))
export const APP = repository('team/app')

let nextId = 0
export function notice(
  action: Notice['action'],
  name: string,
  rest: { tag?: string; digest?: Digest; to?: string } = {},
) {
  const { tag, digest, to } = rest
  return {
    id: `id-${nextId++}`,
    action,
    repository: repository(name),
    tag: tag === undefined ? undefined : tagNamed(tag),
    digest,
    renamedTo: to === undefined ? undefined : repository(to),
  } satisfies Notice
}

/** Ports that take everything. */
export function idleDeps(): InboxDeps {
  const nothing = async () => {}
  return {
    tracking: {
      accept: async (events) => events.map((event) => event.repository),
      touch: nothing,
      find: async () => undefined,
    },
    queue: { wake: nothing },
    freshness: { hear: async () => {} },
    index: { expireLink: nothing, expireRepository: nothing },
    holdings: { async *repositories() {}, dropComplete: nothing },
    modeOf: () => 'replicate',
    log: createLogger({ destination: { write: () => {} } }),
    metrics: createMetrics(),
  }
}

/** The ports in memory, with what was asked of them in order. */
interface World {
  readonly held?: readonly string[]
  readonly fail?: readonly string[]
  /** Of every repository. */
  readonly row?: Partial<TrackedRepository>
}

export function world(options: World = {}) {
  const calls: string[] = []
  const stored = new Map<string, InboxEvent>()
  const wakes: Wake[] = []
  const logged: string[] = []
  const metrics = createMetrics()
  const failing = new Set(options.fail)
  const call = async (name: string, ...args: readonly (string | undefined)[]) => {
    calls.push([name, ...args].join(' '))
    if (failing.has(name)) throw new Error(`${name} is away`)
  }
  const deps: InboxDeps = {
    tracking: {
      async accept(events) {
        await call('accept', String(events.length))
        for (const event of events) if (!stored.has(event.id)) stored.set(event.id, event)
        return events.map((event) => event.repository)
      },
      touch: (paths, { priority, active }) => call('touch', ...paths, String(priority), String(active)),
      find: async () => options.row as TrackedRepository | undefined,
    },
    queue: {
      async wake(wake) {
        await call('wake', wake.key, String(wake.priority))
        wakes.push(wake)
      },
    },
    freshness: {
      hear: async (name, changes) =>
        void calls.push(['hear', name, ...changes.map(({ tag }) => tag ?? '*')].join(' ')),
    },
    index: {
      expireLink: (name, kind, digest) => call('expireLink', name, kind, digest),
      expireRepository: (name) => call('expireRepository', name),
    },
    holdings: {
      async *repositories() {
        yield* (options.held ?? []).map(repository)
      },
      dropComplete: (name) => call('dropComplete', name),
    },
    modeOf: createModeOf([
      { pattern: 'denied/**', mode: 'deny' },
      { pattern: 'rare/**', mode: 'ondemand' },
      { pattern: 'through/**', mode: 'passthrough' },
    ]),
    log: createLogger({ destination: { write: (line) => void logged.push(line) } }),
    metrics,
  }
  const inbox = createInbox(deps, { now: () => 1234 })
  open.push(inbox)
  return {
    inbox,
    calls,
    stored,
    wakes,
    logged,
    failing,
    metric: (name: string) => metrics.registry.getSingleMetricAsString(name),
  }
}

const open: Inbox[] = []
afterEach(() => {
  vi.useRealTimers()
  for (const inbox of open.splice(0)) inbox[Symbol.dispose]()
})
