/** Of accepted events none is lost, none is kept twice, and each wakes what it concerns. */
import { expect, it } from 'vitest'
import { nameOf } from '../store/store-fixture.ts'
import {
  duePaths,
  failed,
  failedRow,
  found,
  leased,
  type MakeTracking,
  pushOf,
  renameOf,
  synced,
  syncedRow,
} from './tracking-fixture.ts'

export function inboxContract(make: MakeTracking): void {
  it('says which repositories an event makes due, and starts to track them', async () => {
    await using subject = await make()
    const { tracking, clock } = subject
    await syncedRow(tracking, 'team/known')

    const due = await tracking.accept([pushOf('team/known'), pushOf('team/new'), pushOf('team/new')])

    expect(new Set(due)).toEqual(new Set(['team/known', 'team/new']))
    expect(await found(tracking, 'team/new')).toMatchObject({ state: 'pending', priority: 2 })
    expect(await found(tracking, 'team/known')).toMatchObject({
      state: 'pending',
      priority: 2,
      activeAtMs: clock.ms,
    })
    expect(new Set(await duePaths(tracking))).toEqual(new Set(due))
  })

  it('keeps an event once, however often it comes and through whichever process', async () => {
    await using subject = await make()
    const { tracking } = subject
    const other = await subject.open()
    const event = pushOf('team/app')

    await tracking.accept([event, event])
    const [first, second] = await Promise.all([other.accept([event]), tracking.accept([event])])

    const kept = await tracking.pendingEvents(nameOf('team/app'))
    expect(kept).toEqual([{ ...event, sequence: kept[0]?.sequence }])
    // The answer to the first may have been lost with the process that was to wake the job.
    expect([first, second]).toEqual([['team/app'], ['team/app']])
    const lease = await leased(tracking, 'team/app')
    await other.accept([event])
    expect(await tracking.settle(lease, synced())).toBe('done')
  })

  it('gives a job its events in the order they came, and keeps those that came later', async () => {
    await using subject = await make()
    const { tracking } = subject
    const events = Array.from({ length: 5 }, (_, index) => pushOf('team/app', { receivedAtMs: 100 - index }))
    await tracking.accept(events.slice(0, 3))
    const lease = await leased(tracking, 'team/app')
    const seen = await tracking.pendingEvents(nameOf('team/app'))
    await tracking.accept([...events.slice(3), pushOf('team/other')])

    const settled = await tracking.settle(lease, synced(), seen.at(-1)?.sequence)

    expect(seen.map(({ id }) => id)).toEqual(events.slice(0, 3).map(({ id }) => id))
    expect(settled).toBe('again')
    expect((await tracking.pendingEvents(nameOf('team/app'))).map(({ id }) => id)).toEqual(
      events.slice(3).map(({ id }) => id),
    )
    expect(await tracking.pendingEvents(nameOf('team/other'))).toHaveLength(1)
    expect(await tracking.counts()).toMatchObject({ eventsPending: 3, oldestEventAtMs: 96 })
  })

  it('counts the last event stored and the last applied, also when none is left', async () => {
    await using subject = await make()
    const { tracking } = subject
    expect(await tracking.counts()).toMatchObject({ lastEventSequence: 0, lastAppliedSequence: 0 })
    await tracking.accept([pushOf('team/first'), pushOf('team/second')])
    const [second] = await tracking.pendingEvents(nameOf('team/second'))
    const [first] = await tracking.pendingEvents(nameOf('team/first'))

    await tracking.settle(await leased(tracking, 'team/second'), synced(), second?.sequence)
    await tracking.settle(await leased(tracking, 'team/first'), failed(), first?.sequence)

    expect(await tracking.counts()).toMatchObject({
      eventsPending: 0,
      oldestEventAtMs: undefined,
      lastEventSequence: second?.sequence,
      lastAppliedSequence: second?.sequence,
      lastEventAtMs: second?.receivedAtMs,
      lastAppliedEventAtMs: second?.receivedAtMs,
    })
    await tracking.accept([pushOf('team/third')])
    const { lastEventSequence } = await tracking.counts()
    expect(lastEventSequence).toBeGreaterThan(second?.sequence ?? Number.NaN)
  })

  it('does not call a repository due that a job has just now; that job runs again', async () => {
    await using subject = await make()
    const { tracking } = subject
    await tracking.accept([pushOf('team/app')])
    const lease = await leased(tracking, 'team/app')

    expect(await tracking.accept([pushOf('team/app')])).toEqual([])

    expect(await found(tracking, 'team/app')).toMatchObject({ state: 'started' })
    expect(await tracking.settle(lease, synced())).toBe('again')
    expect(await found(tracking, 'team/app')).toMatchObject({ state: 'pending', priority: 2 })
    expect(await duePaths(tracking)).toEqual(['team/app'])
  })

  it('makes a failed repository due now, also one that needs a hand and goes on saying so', async () => {
    await using subject = await make()
    const { tracking, clock } = subject
    await failedRow(tracking, 'team/failed', failed({ retryAtMs: clock.ms + 60_000 }))
    await failedRow(tracking, 'team/given-up', failed({ needsAttention: true }))

    const due = await tracking.accept([pushOf('team/failed'), pushOf('team/given-up')])

    expect(new Set(due)).toEqual(new Set(['team/failed', 'team/given-up']))
    expect(await found(tracking, 'team/failed')).toMatchObject({
      state: 'pending',
      retryCount: 1,
      retryAtMs: undefined,
    })
    expect(await found(tracking, 'team/given-up')).toMatchObject({ state: 'pending', needsAttention: true })
    const lease = await leased(tracking, 'team/given-up')
    expect(await tracking.settle(lease, failed({ needsAttention: true }))).toBe('done')
    expect(await found(tracking, 'team/given-up')).toMatchObject({ state: 'failed', needsAttention: true })
    expect(await tracking.lease(nameOf('team/given-up'), 1000)).toBeUndefined()
  })

  it('dirties what a rename moves, at both ends, and nothing beside it', async () => {
    await using subject = await make()
    const { tracking } = subject
    const long = `old/${'x'.repeat(250)}`
    for (const path of ['old', 'old/app', 'old/a/b', 'old-er', 'older', 'new/app', long]) {
      await syncedRow(tracking, path)
    }

    const due = await tracking.accept([renameOf('old', 'a-much-longer/new')])

    const moved = ['a-much-longer/new', 'a-much-longer/new/a/b', 'a-much-longer/new/app']
    expect(new Set(due)).toEqual(new Set([...moved, 'old', 'old/a/b', 'old/app', long]))
    expect(await found(tracking, 'old/app')).toMatchObject({ state: 'pending' })
    expect(await found(tracking, 'a-much-longer/new/app')).toMatchObject({ state: 'pending' })
    for (const path of ['old-er', 'older', 'new/app']) {
      expect(await found(tracking, path)).toMatchObject({ state: 'synced' })
    }
    expect(await tracking.pendingEvents(nameOf('old'))).toMatchObject([
      { action: 'rename', renamedTo: 'a-much-longer/new' },
    ])
  })

  it('tells each repository under a renamed path of its own move, once however often the event comes', async () => {
    await using subject = await make()
    const { tracking } = subject
    for (const path of ['old/app', 'other']) await syncedRow(tracking, path)
    const event = renameOf('old', 'new')

    await tracking.accept([event])
    await tracking.accept([event])

    expect(await tracking.pendingEvents(nameOf('old/app'))).toMatchObject([
      { action: 'rename', repository: 'old/app', renamedTo: 'new/app' },
    ])
    expect(await tracking.pendingEvents(nameOf('other'))).toEqual([])
  })

  it('makes few jobs of a storm of 10 000 events', async () => {
    await using subject = await make()
    const { tracking } = subject
    const events = Array.from({ length: 10_000 }, (_, index) => pushOf(`team/app-${index % 5}`))
    const startedAt = performance.now()

    const due = await tracking.accept(events)

    expect(performance.now() - startedAt).toBeLessThan(10_000)
    expect(due).toHaveLength(5)
    expect(await duePaths(tracking)).toHaveLength(5)
    expect(await tracking.counts()).toMatchObject({ eventsPending: 10_000, total: 5 })
    expect(await tracking.pendingEvents(nameOf('team/app-3'))).toHaveLength(2000)
  })

  it('keeps all or nothing of a batch', async () => {
    await using subject = await make()
    const { tracking } = subject
    const broken = pushOf('team/broken', { receivedAtMs: Number.NaN })

    await expect(tracking.accept([pushOf('team/app'), broken])).rejects.toThrow()

    expect(await tracking.counts()).toMatchObject({ total: 0, eventsPending: 0 })
    expect(await tracking.accept([pushOf('team/app')])).toEqual(['team/app'])
  })

  it('loses none of what many processes accept at once, and hands over no event before an earlier one', async () => {
    await using subject = await make()
    const writers = [subject.tracking, await subject.open(), await subject.open()]
    const paths = ['team/a', 'team/b', 'team/c']
    const seen = new Map<string, number>()
    const batches = Array.from({ length: 60 }, (_, index) => {
      const order = index % 2 === 0 ? paths : paths.toReversed()
      return order.map((path) => pushOf(path))
    })

    await Promise.all([
      ...batches.map((batch, index) => writers[index % 3]?.accept(batch)),
      applyUntil(subject.tracking, seen, batches.length),
    ])

    expect([...seen.values()]).toEqual([60, 60, 60])
  })
}

/** Jobs one after another, until each repository has had all its events; every one is counted once. */
async function applyUntil(
  tracking: Awaited<ReturnType<MakeTracking>>['tracking'],
  seen: Map<string, number>,
  each: number,
): Promise<void> {
  const endsAt = performance.now() + 30_000
  while (performance.now() < endsAt) {
    for (const { path } of await tracking.due(Date.now(), 10)) {
      const lease = await tracking.lease(path, 60_000)
      if (!lease) continue
      const events = await tracking.pendingEvents(path)
      await tracking.settle(lease, synced(), events.at(-1)?.sequence)
      seen.set(path, (seen.get(path) ?? 0) + events.length)
    }
    if (seen.size === 3 && [...seen.values()].every((count) => count === each)) return
  }
  throw new Error(`events were lost: ${JSON.stringify([...seen])}`)
}
