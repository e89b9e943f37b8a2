import { afterEach, describe, expect, it, vi } from 'vitest'
import { createInbox, type Inbox, type InboxDeps } from '../../replicator/inbox.ts'
import type { Notice } from '../../replicator/notification.ts'
import { createLogger } from '../../src/log.ts'
import { createMetrics } from '../../src/metrics.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { parseRepositoryName, parseTag, type RepositoryName, type Tag } from '../../src/oci/reference.ts'
import { createModeOf } from '../../src/oci/repository-mode.ts'
import { PRIORITIES, type Wake } from '../../src/queue/queue.ts'
import type { InboxEvent } from '../../src/tracking/tracking.ts'

const repository = (text: string): RepositoryName => parseRepositoryName(text) ?? expect.unreachable()
const tagNamed = (text: string): Tag => parseTag(text) ?? expect.unreachable()
const DIGEST = digestOf(Buffer.from('x'))
const APP = repository('team/app')

let nextId = 0
function notice(
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
function idleDeps(): InboxDeps {
  const nothing = async () => {}
  return {
    tracking: { accept: async (events) => events.map((event) => event.repository), touch: nothing },
    queue: { wake: nothing },
    freshness: { renew: () => {} },
    index: { expireLink: nothing, expireRepository: nothing },
    holdings: { async *repositories() {}, dropComplete: nothing },
    modeOf: () => 'replicate',
    log: createLogger({ destination: { write: () => {} } }),
    metrics: createMetrics(),
  }
}

/** The ports in memory, with what was asked of them in order. */
function world(options: { held?: readonly string[]; fail?: readonly string[] } = {}) {
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
    },
    queue: {
      async wake(wake) {
        await call('wake', wake.key, String(wake.priority))
        wakes.push(wake)
      },
    },
    freshness: { renew: (name, tags) => void calls.push(['renew', name, ...tags].join(' ')) },
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

describe('an accepted event', () => {
  it('has unconfirmed what it names before it is stored, and is stored before a job is woken', async () => {
    const { inbox, calls, stored } = world()
    const push = notice('push', 'team/app', { tag: 'v1', digest: DIGEST })

    await inbox.accept([push])

    expect(calls).toEqual([
      'renew team/app v1',
      'dropComplete team/app',
      'accept 1',
      `wake team/app ${PRIORITIES.event}`,
    ])
    expect([...stored.values()]).toEqual([{ ...push, receivedAtMs: 1234 }])
  })

  it('renews the repository where it names no tag, for a mount and an untagged push as for a delete', async () => {
    for (const event of [
      notice('push', 'team/app', { digest: DIGEST }),
      notice('mount', 'team/app', { digest: DIGEST }),
      notice('delete', 'team/app', { digest: DIGEST }),
    ]) {
      const { inbox, calls } = world()
      await inbox.accept([event, notice('push', 'team/app', { tag: 'v1' })])
      expect(calls.filter((call) => call.startsWith('renew'))).toEqual(['renew team/app'])
    }
  })

  it('of a deleted digest makes its links be asked for again, both as a manifest and as a blob, and no others', async () => {
    const { inbox, calls } = world()

    await inbox.accept([notice('delete', 'team/app', { digest: DIGEST })])
    await inbox.accept([
      notice('delete', 'team/app', { tag: 'v1' }),
      notice('push', 'team/app', { tag: 'v1' }),
    ])

    expect(calls.filter((call) => call.startsWith('expire'))).toEqual([
      `expireLink team/app manifest ${DIGEST}`,
      `expireLink team/app layer ${DIGEST}`,
    ])
  })

  it('of a deleted repository makes everything in it be asked for again', async () => {
    const { inbox, calls } = world()

    await inbox.accept([notice('delete', 'team/app')])

    expect(calls.slice(0, 3)).toEqual([
      'renew team/app',
      'dropComplete team/app',
      'expireRepository team/app',
    ])
  })

  it('of a rename concerns every repository held under the old path, and what each is called from now on', async () => {
    const { inbox, calls, stored } = world({
      held: ['group/old', 'group/old/sub/app', 'group/older', 'team/app'],
    })

    await inbox.accept([notice('rename', 'group/old', { to: 'else/new' })])

    const named = (call: string) =>
      calls.filter((each) => each.startsWith(`${call} `)).map((each) => each.split(' ')[1])
    expect(named('renew').sort()).toEqual(['else/new', 'else/new/sub/app', 'group/old', 'group/old/sub/app'])
    expect(named('expireRepository').sort()).toEqual(['group/old', 'group/old/sub/app'])
    expect(named('dropComplete').sort()).toEqual(named('renew').sort())
    expect(stored.size).toBe(1)
    expect(calls.indexOf('accept 1')).toBe(calls.findLastIndex((call) => !call.startsWith('wake')))
  })

  it('that comes again under the same id is stored once', async () => {
    const { inbox, stored } = world()
    const push = notice('push', 'team/app', { tag: 'v1' })

    await inbox.accept([push])
    await inbox.accept([push])

    expect(stored.size).toBe(1)
  })

  it('is counted by its action, once it is stored', async () => {
    const { inbox, failing, metric } = world({ fail: ['accept'] })
    const events = [notice('push', 'team/app', { tag: 'v1' }), notice('delete', 'team/app', { tag: 'v2' })]

    await expect(inbox.accept(events)).rejects.toThrow('accept is away')
    expect(await metric('geo_registry_events_total')).not.toContain('action=')

    failing.clear()
    await inbox.accept(events)
    expect(await metric('geo_registry_events_total')).toContain('{action="push"} 1')
    expect(await metric('geo_registry_events_total')).toContain('{action="delete"} 1')
  })
})

describe('a storm', () => {
  it('of 10 000 events in one envelope renews each tag once, is stored at once, and wakes each repository once', async () => {
    const { inbox, calls, stored, wakes } = world()
    const storm = Array.from({ length: 10_000 }, (_, index) =>
      notice('push', `team/app${index % 3}`, { tag: `v${index % 7}` }),
    )

    await inbox.accept(storm)
    await vi.waitFor(() => expect(wakes.length).toBe(3))

    expect(stored.size).toBe(10_000)
    expect(calls.length).toBe(3 + 3 + 1 + 3)
  })

  it('of 10 000 envelopes becomes two wake-ups while the queue takes its time over the first', async () => {
    const { promise: slow, resolve: taken } = Promise.withResolvers<void>()
    const wakes: string[] = []
    const deps: InboxDeps = {
      ...idleDeps(),
      queue: {
        async wake({ key }) {
          wakes.push(key)
          await slow
        },
      },
    }
    using inbox = createInbox(deps)

    for (let index = 0; index < 10_000; index++)
      await inbox.accept([notice('push', 'team/app', { tag: 'v1' })])
    expect(wakes).toEqual(['team/app'])

    taken()
    await vi.waitFor(() => expect(wakes).toEqual(['team/app', 'team/app']))
    await inbox.accept([notice('push', 'team/app', { tag: 'v1' })])
    await vi.waitFor(() => expect(wakes.length).toBe(3))
  })
})

describe('an event that cannot be taken whole', () => {
  it.each(['dropComplete', 'expireLink', 'accept'])(
    'is not accepted when %s fails, and is when it comes again',
    async (port) => {
      const { inbox, failing, stored } = world({ fail: [port] })
      const events = [notice('delete', 'team/app', { digest: DIGEST })]

      await expect(inbox.accept(events)).rejects.toThrow(`${port} is away`)
      expect(stored.size).toBe(0)

      failing.clear()
      await inbox.accept(events)
      expect(stored.size).toBe(1)
    },
  )

  it('is accepted when only its job cannot be woken, which the log says', async () => {
    const { inbox, failing, logged, stored, wakes } = world({ fail: ['wake'] })

    await inbox.accept([notice('push', 'team/app', { tag: 'v1' })])
    expect(stored.size).toBe(1)
    await vi.waitFor(() => expect(logged.join()).toContain('wake is away'))

    failing.clear()
    await inbox.accept([notice('push', 'team/app', { tag: 'v2' })])
    await vi.waitFor(() => expect(wakes.length).toBe(1))
  })

  it('does not wait for a queue that says nothing', async () => {
    const never = new Promise<void>(() => {})
    using inbox = createInbox({ ...idleDeps(), queue: { wake: () => never } })

    await inbox.accept([notice('push', 'team/app', { tag: 'v1' })])
  })
})

describe('the mode of a repository', () => {
  it.each(['rare/app', 'through/app'])(
    'of %s unconfirms what an event names, and keeps no event',
    async (name) => {
      const { inbox, calls, stored, metric } = world()

      await inbox.accept([notice('delete', name, { digest: DIGEST })])

      expect(calls).toEqual([
        `renew ${name}`,
        `dropComplete ${name}`,
        `expireLink ${name} manifest ${DIGEST}`,
        `expireLink ${name} layer ${DIGEST}`,
      ])
      expect(stored.size).toBe(0)
      expect(await metric('geo_registry_events_ignored_total')).toContain('{reason="mode"} 1')
    },
  )

  it('leaves an event of a denied repository alone, and takes the others of its envelope', async () => {
    const { inbox, calls, stored } = world()

    await inbox.accept([
      notice('delete', 'denied/app', { digest: DIGEST }),
      notice('push', 'team/app', { tag: 'v1' }),
    ])

    expect(calls.join()).not.toContain('denied/app')
    expect([...stored.values()].map((event) => event.repository)).toEqual(['team/app'])
  })

  it('does not keep a rename out, whose path may have repositories of any mode under it', async () => {
    const { inbox, stored } = world()

    await inbox.accept([notice('rename', 'denied/base', { to: 'team/base' })])

    expect(stored.size).toBe(1)
  })
})

describe('a hint', () => {
  it('makes its repository due before those of events', async () => {
    const { inbox, calls } = world()

    await inbox.hint(APP)

    expect(calls).toEqual([`touch team/app ${PRIORITIES.asked} true`, `wake team/app ${PRIORITIES.asked}`])
  })

  it('that comes often is heeded at once and at the end of a rest, so that the last one counts', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const { inbox, calls } = world()
    const touches = () => calls.filter((call) => call.startsWith('touch team/app')).length

    for (let index = 0; index < 1000; index++) await inbox.hint(APP)
    await inbox.hint(repository('team/other'))
    expect(touches()).toBe(1)

    await vi.advanceTimersByTimeAsync(5000)
    expect(touches()).toBe(2)
    await vi.advanceTimersByTimeAsync(5000)
    await inbox.hint(APP)
    expect(touches()).toBe(3)
    expect(calls.filter((call) => call.startsWith('touch team/other')).length).toBe(1)
  })

  it('that rests is forgotten when the inbox is given back', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const { inbox, calls } = world()
    await inbox.hint(APP)
    await inbox.hint(APP)

    inbox[Symbol.dispose]()
    await vi.advanceTimersByTimeAsync(60_000)

    expect(calls.filter((call) => call.startsWith('touch')).length).toBe(1)
  })

  it.each(['rare/app', 'through/app', 'denied/app'])(
    'about %s, which is not replicated, does nothing',
    async (name) => {
      const { inbox, calls } = world()

      await inbox.hint(repository(name))

      expect(calls).toEqual([])
    },
  )

  it.each(['touch', 'wake'])('hurts nobody when %s fails, which the log says', async (port) => {
    const { inbox, logged } = world({ fail: [port] })

    await inbox.hint(APP)

    expect(logged.join()).toContain(`${port} is away`)
  })
})
