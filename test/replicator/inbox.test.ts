import { describe, expect, it, vi } from 'vitest'
import { createInbox, type InboxDeps } from '../../replicator/inbox.ts'
import { PRIORITIES } from '../../src/queue/queue.ts'
import { DIGEST, idleDeps, notice, world } from './inbox-world.ts'

describe('an accepted event', () => {
  it('has unconfirmed what it names before it is stored, and is stored before a job is woken', async () => {
    const { inbox, calls, stored } = world()
    const push = notice('push', 'team/app', { tag: 'v1', digest: DIGEST })

    await inbox.accept([push])

    expect(calls).toEqual([
      'hear team/app v1',
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
      expect(calls.filter((call) => call.startsWith('hear'))).toEqual(['hear team/app * v1'])
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
      'hear team/app *',
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
    expect(named('hear').sort()).toEqual(['else/new', 'else/new/sub/app', 'group/old', 'group/old/sub/app'])
    expect(named('expireRepository').sort()).toEqual(['group/old', 'group/old/sub/app'])
    expect(named('dropComplete').sort()).toEqual(named('hear').sort())
    // One for each repository held, so that each job knows why it is gone.
    expect([...stored.values()].map((event) => [event.repository, event.renamedTo])).toEqual([
      ['group/old', 'else/new'],
      ['group/old/sub/app', 'else/new/sub/app'],
    ])
    expect(calls.indexOf('accept 2')).toBe(calls.findLastIndex((call) => !call.startsWith('wake')))
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
        `hear ${name} *`,
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
