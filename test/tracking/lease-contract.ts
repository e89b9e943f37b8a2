/** Of the jobs of one repository one takes effect at a time, whatever becomes of the processes. */
import { expect, it } from 'vitest'
import { nameOf } from '../store/store-fixture.ts'
import { until } from '../support/wait.ts'
import {
  duePaths,
  failed,
  failedRow,
  failingTag,
  found,
  LONG_MS,
  leased,
  leasedAgain,
  type MakeTracking,
  pushOf,
  synced,
  syncedRow,
} from './tracking-fixture.ts'

const app = nameOf('team/app')

export function leaseContract(make: MakeTracking): void {
  it('goes to exactly one of many who ask at once', async () => {
    await using subject = await make()
    const processes = [subject.tracking, await subject.open(), await subject.open()]
    await subject.tracking.discover([app])

    const leases = await Promise.all(
      Array.from({ length: 30 }, (_, index) => processes[index % 3]?.lease(app, LONG_MS)),
    )

    expect(leases.filter((lease) => lease !== undefined)).toHaveLength(1)
    expect(await duePaths(subject.tracking)).toEqual([])
  })

  it('carries a number that is never given twice, not even after a rebuild', async () => {
    await using subject = await make()
    const { tracking } = subject
    const numbers: number[] = []
    for (const forgetAll of [false, true, false]) {
      await tracking.touch([app], { priority: 3 })
      numbers.push((await leased(tracking, 'team/app')).number)
      if (forgetAll) await tracking.clear()
      else await tracking.forget(app)
    }
    await tracking.discover(['team/x', 'team/y'].map(nameOf))
    numbers.push((await leased(tracking, 'team/x')).number, (await leased(tracking, 'team/y')).number)

    expect(numbers).toEqual(numbers.toSorted((one, other) => one - other))
    expect(new Set(numbers).size).toBe(5)
  })

  it.each(['team/unheard-of', 'team/synced', 'team/waiting', 'team/given-up'])(
    'is not given where there is nothing to do: %s',
    async (path) => {
      await using subject = await make()
      const { tracking, clock } = subject
      await syncedRow(tracking, 'team/synced')
      await failedRow(tracking, 'team/waiting', failed({ retryAtMs: clock.ms + 1 }))
      await failedRow(tracking, 'team/given-up', failed({ needsAttention: true }))
      const before = await tracking.find(nameOf(path))

      expect(await tracking.lease(nameOf(path), LONG_MS)).toBeUndefined()

      expect(await tracking.find(nameOf(path))).toEqual(before)
    },
  )

  it('is given of a failed repository once its time has come', async () => {
    await using subject = await make()
    const { tracking, clock } = subject
    await failedRow(tracking, 'team/app', failed({ retryAtMs: clock.ms + 1000 }))
    expect(await duePaths(tracking, clock.ms)).toEqual([])

    clock.ms += 1000

    expect(await duePaths(tracking, clock.ms)).toEqual([app])
    expect(await tracking.lease(app, LONG_MS)).toMatchObject({ path: app, retryCount: 1 })
  })

  it('is taken over when it has ended, by exactly one; its first holder writes nothing any more', async () => {
    await using subject = await make()
    const { tracking } = subject
    const other = await subject.open()
    await tracking.accept([pushOf('team/app')])
    const lost = await leased(tracking, 'team/app', 1)
    await until(async () => (await duePaths(other, subject.clock.ms + LONG_MS)).length === 1, { what: 'due' })
    const takers = async () => await Promise.all([other.lease(app, LONG_MS), tracking.lease(app, LONG_MS)])
    const taken = await until(
      async () => {
        subject.clock.ms += 1
        const leases = (await takers()).filter((lease) => lease !== undefined)
        return leases.length > 0 && leases
      },
      { what: 'the lease to end' },
    )

    expect(taken).toHaveLength(1)
    expect(await tracking.renew(lost, LONG_MS)).toBeUndefined()
    const outcome = failed({ needsAttention: true, failingTags: [failingTag('v1')] })
    const [event] = await tracking.pendingEvents(app)
    expect(await tracking.settle(lost, outcome, event?.sequence)).toBe('stale')
    expect(await found(tracking, 'team/app')).toMatchObject({ state: 'started', retryCount: 0 })
    expect(await tracking.failingTags(app)).toEqual([])
    expect(await tracking.pendingEvents(app)).toHaveLength(1)
    if (taken[0]) expect(await other.settle(taken[0], synced(), event?.sequence)).toBe('done')
    expect(await found(tracking, 'team/app')).toMatchObject({ state: 'synced' })
  })

  it('still holds when it ended and nobody took it', async () => {
    await using subject = await make()
    const { tracking } = subject
    await tracking.discover([app])
    const first = await leased(tracking, 'team/app', 1)
    subject.clock.ms += 5

    const renewed = await tracking.renew(first, LONG_MS)

    expect(renewed).toMatchObject({ number: first.number, change: first.change })
    expect(renewed?.expiresAtMs).toBe(subject.clock.ms + LONG_MS)
    expect(await tracking.lease(app, LONG_MS)).toBeUndefined()
    expect(await tracking.settle(first, synced())).toBe('done')
  })

  it('settles once, and not when its repository was forgotten or everything cleared', async () => {
    await using subject = await make()
    const { tracking } = subject
    await tracking.discover(['team/once', 'team/forgotten', 'team/cleared'].map(nameOf))
    const once = await leased(tracking, 'team/once')
    const forgotten = await leased(tracking, 'team/forgotten')
    const cleared = await leased(tracking, 'team/cleared')

    expect(await tracking.settle(once, synced())).toBe('done')
    expect(await tracking.settle(once, failed())).toBe('stale')
    await tracking.forget(nameOf('team/forgotten'))
    expect(await tracking.settle(forgotten, synced())).toBe('stale')
    await tracking.clear()
    await tracking.discover([nameOf('team/cleared')])
    expect(await tracking.settle(cleared, synced())).toBe('stale')

    expect(await tracking.list({})).toMatchObject([{ path: 'team/cleared', state: 'pending' }])
  })

  it('of a killed process is found among what is due when it has ended', async () => {
    await using subject = await make()
    const { tracking } = subject
    await tracking.discover([app])
    const lost = await leased(tracking, 'team/app', 1)
    subject.clock.ms += 1000

    expect(await duePaths(tracking, Date.now() + LONG_MS)).toEqual([app])
    expect((await leasedAgain(tracking, 'team/app')).number).toBeGreaterThan(lost.number)
  })
}
