/** What is tracked: found, listed, ordered by urgency, and changed by a hand. */
import { expect, it } from 'vitest'
import { nameOf } from '../store/store-fixture.ts'
import {
  duePaths,
  failed,
  failedRow,
  failingTag,
  found,
  leased,
  type MakeTracking,
  pushOf,
  synced,
  syncedRow,
} from './tracking-fixture.ts'

const names = (...paths: string[]) => paths.map(nameOf)

export function rowsContract(make: MakeTracking): void {
  it('appear once, however often and by whom they are discovered, and are not changed by it', async () => {
    await using subject = await make()
    const { tracking, clock } = subject
    const other = await subject.open()
    await syncedRow(tracking, 'team/synced')
    const before = await found(tracking, 'team/synced')
    const many = Array.from({ length: 2500 }, (_, index) => nameOf(`many/app-${index}`))

    const counts = await Promise.all([
      tracking.discover([...many, ...many, nameOf('team/synced')]),
      other.discover(many.toReversed()),
    ])

    expect(counts[0] + counts[1]).toBe(2500)
    expect(await tracking.discover(many)).toBe(0)
    expect(await tracking.discover([])).toBe(0)
    expect(await found(tracking, 'team/synced')).toEqual(before)
    expect(await found(tracking, 'many/app-7')).toMatchObject({
      state: 'pending',
      createdAtMs: clock.ms,
      activeAtMs: undefined,
      lastSyncedAtMs: undefined,
      verificationState: 'pending',
    })
  })

  it('become more urgent by a touch and never less, and only then active when somebody asked', async () => {
    await using subject = await make()
    const { tracking, clock } = subject
    const [app = nameOf('team/app')] = names('team/app')
    await tracking.touch([app, app], { priority: 2 })
    await tracking.touch([app], { priority: 3 })
    expect(await found(tracking, 'team/app')).toMatchObject({ priority: 2, activeAtMs: undefined })

    await tracking.touch([app], { priority: 1, active: true })
    expect(await found(tracking, 'team/app')).toMatchObject({ priority: 1, activeAtMs: clock.ms })

    await tracking.settle(await leased(tracking, 'team/app'), synced())
    expect(await found(tracking, 'team/app')).toMatchObject({ priority: 3, activeAtMs: clock.ms })
  })

  it('are due most urgent first, then longest unsynced, as many as were asked for', async () => {
    await using subject = await make()
    const { tracking, clock } = subject
    for (const path of ['team/newer', 'team/older']) {
      clock.ms += path === 'team/older' ? -10 : 10
      await syncedRow(tracking, path)
    }
    await tracking.touch(names('team/newer', 'team/older', 'team/never'), { priority: 3 })
    await tracking.touch(names('team/asked'), { priority: 1 })
    await tracking.accept([pushOf('team/event')])
    await failedRow(tracking, 'team/later', failed({ retryAtMs: clock.ms + 1 }))

    const order = ['team/asked', 'team/event', 'team/never', 'team/older', 'team/newer']

    expect(await duePaths(tracking, clock.ms)).toEqual(order)
    expect(await tracking.due(clock.ms, 2)).toEqual([
      { path: 'team/asked', priority: 1 },
      { path: 'team/event', priority: 2 },
    ])
    expect(await duePaths(tracking, clock.ms + 1)).toHaveLength(6)
  })

  it('are reconciled the recently active first, then those with the oldest inventory', async () => {
    await using subject = await make()
    const { tracking, clock } = subject
    for (const [path, inventoryAtMs] of [
      ['team/quiet-new', 300],
      ['team/quiet-old', 200],
      ['team/active', 400],
      ['team/just-active', 450],
      ['team/fresh', 500],
      ['team/dirty', 100],
    ] as const) {
      clock.ms += 1
      const active = path.endsWith('active')
      await tracking.touch(names(path), { priority: 3, active })
      await tracking.settle(await leased(tracking, path), synced({ inventoryAtMs }))
    }
    await tracking.touch(names('team/dirty'), { priority: 3 })

    const order = ['team/just-active', 'team/active', 'team/quiet-old', 'team/quiet-new']

    expect(await tracking.reconcilable(500, 100)).toEqual(order)
    expect(await tracking.reconcilable(500, 3)).toEqual(order.slice(0, 3))
    expect(await tracking.reconcilable(200, 100)).toEqual([])
  })

  it('are listed page by page in the order of their paths', async () => {
    await using subject = await make()
    const { tracking } = subject
    const paths = ['a', 'a-b', 'a.b', 'a/b', 'a0', 'a_b', 'ab', 'b/c/d']
    await tracking.discover(names(...paths))
    const pages: string[][] = []
    for (let after: string | undefined; ; after = pages.at(-1)?.at(-1)) {
      const page = await tracking.list({ limit: 3, after })
      if (page.length === 0) break
      pages.push(page.map(({ path }) => path))
    }

    expect(pages.map((page) => page.length)).toEqual([3, 3, 2])
    expect(pages.flat()).toEqual(paths.toSorted())
  })

  it.each([
    [{ path: 'team/*' }, ['team/a_b', 'team/aab', 'team/failed', 'team/given-up']],
    [{ path: 'a_b' }, ['team/a_b']],
    [{ path: '*a*b' }, ['team/a_b', 'team/aab']],
    [{ path: 'team*d' }, ['team/failed']],
    [{ path: 'TEAM/A' }, ['team/a_b', 'team/aab']],
    [{ path: 'teams' }, ['teams/x']],
    [{ path: '%' }, []],
    [{ path: '\\' }, []],
    [{ path: 'team/a\0' }, []],
    [{ after: 'team/aab\0zz' }, ['team/failed', 'team/given-up', 'teams/x']],
    [{ state: 'failed' as const }, ['team/failed', 'team/given-up']],
    [{ state: 'failed' as const, needsAttention: false }, ['team/failed']],
    [{ needsAttention: true }, ['team/given-up']],
    [{ needsAttention: true, path: 'other/*' }, []],
    [{ state: 'pending' as const, after: 'team/a_b' }, ['team/aab', 'teams/x']],
    [{ path: '*', limit: 0 }, []],
  ])('are found by %j', async (filter, expected) => {
    await using subject = await make()
    const { tracking } = subject
    await tracking.discover(names('team/a_b', 'team/aab', 'teams/x'))
    await failedRow(tracking, 'team/failed')
    await failedRow(tracking, 'team/given-up', failed({ needsAttention: true }))

    expect((await tracking.list(filter)).map(({ path }) => path)).toEqual(expected)
  })

  it('are taken up again by a hand: those that match, and as if they had never failed', async () => {
    await using subject = await make()
    const { tracking, clock } = subject
    const broken = failed({ needsAttention: true, retryAtMs: clock.ms + 1000 })
    const many = Array.from({ length: 2100 }, (_, index) => nameOf(`many/app-${index}`))
    await tracking.discover(many)
    await failedRow(tracking, 'team/one', broken)
    await failedRow(tracking, 'team/two', broken)
    await failedRow(tracking, 'other/one', broken)
    const before = await tracking.list({})

    expect(await tracking.resync({ state: 'failed', path: 'team/*' }, { dryRun: true })).toBe(2)
    expect(await tracking.list({})).toEqual(before)
    expect(await tracking.resync({ state: 'failed', path: 'team/*' }, { dryRun: false })).toBe(2)

    expect(await found(tracking, 'team/one')).toMatchObject({
      state: 'pending',
      needsAttention: false,
      retryCount: 0,
      retryAtMs: undefined,
    })
    expect(await found(tracking, 'other/one')).toMatchObject({ state: 'failed', needsAttention: true })
    expect(await leased(tracking, 'team/two')).toMatchObject({ retryCount: 0 })
    expect(await tracking.resync({}, { dryRun: false })).toBe(2103)
  })

  it('run again when a hand asks for it while a job runs', async () => {
    await using subject = await make()
    const { tracking } = subject
    await tracking.discover(names('team/app'))
    const lease = await leased(tracking, 'team/app')

    await tracking.resync({}, { dryRun: false })

    expect(await found(tracking, 'team/app')).toMatchObject({ state: 'started' })
    expect(await tracking.settle(lease, synced())).toBe('again')
  })

  it('are compared again by a hand, without forgetting what failed', async () => {
    await using subject = await make()
    const { tracking } = subject
    await syncedRow(tracking, 'team/synced')
    await failedRow(tracking, 'team/given-up', failed({ needsAttention: true }))

    expect(await tracking.reverify({}, { dryRun: true })).toBe(2)
    expect(await found(tracking, 'team/synced')).toMatchObject({ verificationState: 'succeeded' })
    expect(await tracking.reverify({}, { dryRun: false })).toBe(2)

    expect(await found(tracking, 'team/synced')).toMatchObject({
      state: 'pending',
      verificationState: 'pending',
    })
    expect(await found(tracking, 'team/given-up')).toMatchObject({ needsAttention: true, retryCount: 1 })
    expect(new Set(await duePaths(tracking))).toEqual(new Set(['team/given-up', 'team/synced']))
  })

  it('stay when something was heard of them after the job that would forget them began', async () => {
    await using subject = await make()
    const { tracking } = subject
    await tracking.discover(names('team/app'))
    const lease = await leased(tracking, 'team/app')
    await tracking.settle(lease, synced())
    await tracking.accept([pushOf('team/app')])

    await tracking.forget(nameOf('team/app'), lease.change)

    expect(await found(tracking, 'team/app')).toMatchObject({ state: 'pending' })
    expect(await tracking.pendingEvents(nameOf('team/app'))).toHaveLength(1)
    const next = await leased(tracking, 'team/app')
    await tracking.settle(next, synced())
    await tracking.forget(nameOf('team/app'), next.change)
    expect(await tracking.find(nameOf('team/app'))).toBeUndefined()
  })

  it('go with all that is known of them when they are forgotten; others stay', async () => {
    await using subject = await make()
    const { tracking } = subject
    await failedRow(tracking, 'team/gone', failed({ failingTags: [failingTag('v1')] }))
    await tracking.accept([pushOf('team/kept'), pushOf('team/gone')])
    const { lastEventSequence } = await tracking.counts()

    await tracking.forget(nameOf('team/gone'))
    await tracking.forget(nameOf('team/gone'))

    expect(await tracking.find(nameOf('team/gone'))).toBeUndefined()
    expect(await tracking.failingTags(nameOf('team/gone'))).toEqual([])
    expect(await tracking.counts()).toMatchObject({
      total: 1,
      failingTags: 0,
      eventsPending: 1,
      lastEventSequence,
      lastAppliedSequence: lastEventSequence,
    })
    await tracking.discover(names('team/gone'))
    expect(await tracking.failingTags(nameOf('team/gone'))).toEqual([])
    expect(await found(tracking, 'team/gone')).toMatchObject({ state: 'pending', retryCount: 0 })
  })

  it('all go by a rebuild, but for cursors', async () => {
    await using subject = await make()
    const { tracking } = subject
    await tracking.setCursor('scrub', 'sha256:abc')
    await tracking.setCursor('inventory', 'team/m')
    await tracking.setCursor('scrub', 'sha256:def')
    await tracking.setCursor('inventory', undefined)
    await tracking.setCursor('inventory', undefined)
    await tracking.accept([pushOf('team/app')])
    await failedRow(tracking, 'team/failed', failed({ failingTags: [failingTag('v1')] }))

    await tracking.clear()

    expect(await tracking.list({})).toEqual([])
    expect(await tracking.counts()).toMatchObject({ total: 0, failingTags: 0, eventsPending: 0 })
    expect(await tracking.cursor('scrub')).toBe('sha256:def')
    expect(await tracking.cursor('inventory')).toBeUndefined()
  })
}
