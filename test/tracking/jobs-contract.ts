/** What a job leaves behind when it is settled. */
import { expect, it } from 'vitest'
import { digestOf } from '../../src/oci/digest.ts'
import { nameOf, tagOf } from '../store/store-fixture.ts'
import {
  duePaths,
  failed,
  failedRow,
  failingTag,
  found,
  HERE,
  leased,
  type MakeTracking,
  pushOf,
  synced,
  syncedRow,
  THERE,
} from './tracking-fixture.ts'

const app = nameOf('team/app')

export function jobsContract(make: MakeTracking): void {
  it('that succeeds leaves what it compared, and when', async () => {
    await using subject = await make()
    const { tracking, clock } = subject
    await failedRow(tracking, 'team/app', failed({ failingTags: [failingTag('v1')], blobsOutstanding: 3 }))
    clock.ms += 10

    await syncedRow(tracking, 'team/app', synced({ tagsCount: 7, inventoryAtMs: 77 }))

    expect(await found(tracking, 'team/app')).toMatchObject({
      state: 'synced',
      retryCount: 0,
      retryAtMs: undefined,
      lastSyncFailure: undefined,
      lastSyncedAtMs: clock.ms,
      verificationState: 'succeeded',
      verifiedAtMs: clock.ms,
      verificationFailure: undefined,
      verificationChecksum: HERE,
      verificationChecksumMismatched: undefined,
      checksumMismatch: false,
      missingOnPrimary: false,
      tagsCount: 7,
      failingTagsCount: 0,
      blobsOutstanding: 0,
      bytesOutstanding: 0,
      inventoryAtMs: 77,
    })
    expect(await tracking.failingTags(app)).toEqual([])
    expect(await duePaths(tracking)).toEqual([])
  })

  it('that finds another checksum at the primary says both, and the next one that agrees clears it', async () => {
    await using subject = await make()
    const { tracking } = subject
    await syncedRow(tracking, 'team/app', synced({ primaryChecksum: THERE, missingOnPrimary: true }))

    expect(await found(tracking, 'team/app')).toMatchObject({
      verificationState: 'failed',
      verificationFailure: 'Checksum does not match the primary checksum',
      verificationChecksum: HERE,
      verificationChecksumMismatched: THERE,
      checksumMismatch: true,
      missingOnPrimary: true,
    })

    await syncedRow(tracking, 'team/app')
    expect(await found(tracking, 'team/app')).toMatchObject({
      verificationState: 'succeeded',
      verificationChecksumMismatched: undefined,
      checksumMismatch: false,
      missingOnPrimary: false,
    })
  })

  it('that fails again and again is counted until one succeeds, whatever is heard meanwhile', async () => {
    await using subject = await make()
    const { tracking } = subject
    await failedRow(tracking, 'team/app')
    await tracking.accept([pushOf('team/app')])
    await failedRow(tracking, 'team/app')
    const third = await leased(tracking, 'team/app')

    expect(third.retryCount).toBe(2)
    await tracking.settle(third, { kind: 'released' })
    await failedRow(tracking, 'team/app')
    expect(await found(tracking, 'team/app')).toMatchObject({ retryCount: 3 })

    await syncedRow(tracking, 'team/app')
    expect(await found(tracking, 'team/app')).toMatchObject({ retryCount: 0 })
  })

  it('that fails says why, when it is tried again, and which tags are at fault in place of the last ones', async () => {
    await using subject = await make()
    const { tracking, clock } = subject
    const digest = digestOf(Buffer.from('a manifest'))
    await failedRow(tracking, 'team/app', failed({ failingTags: [failingTag('gone'), failingTag('v2')] }))
    const failingTags = [failingTag('v2', { digest, message: 'new', sinceMs: 20 }), failingTag('V1')]
    const outcome = failed({
      message: 'two tags',
      retryAtMs: clock.ms + 9,
      failingTags,
      tagsCount: 30,
      inventoryAtMs: 44,
      blobsOutstanding: 5,
      bytesOutstanding: 2 ** 50,
    })

    await failedRow(tracking, 'team/app', outcome)

    expect(await tracking.failingTags(app)).toEqual(failingTags.toReversed())
    expect(await found(tracking, 'team/app')).toMatchObject({
      state: 'failed',
      lastSyncFailure: 'two tags',
      retryAtMs: clock.ms + 9,
      failingTagsCount: 2,
      tagsCount: 30,
      inventoryAtMs: 44,
      blobsOutstanding: 5,
      bytesOutstanding: 2 ** 50,
    })
  })

  it('that fails before it had an inventory leaves what an earlier one found', async () => {
    await using subject = await make()
    const { tracking } = subject
    await syncedRow(tracking, 'team/app', synced({ tagsCount: 7, inventoryAtMs: 77 }))

    await failedRow(tracking, 'team/app')

    expect(await found(tracking, 'team/app')).toMatchObject({
      state: 'failed',
      tagsCount: 7,
      inventoryAtMs: 77,
      verificationState: 'succeeded',
    })
    await failedRow(tracking, 'team/app', failed({ tagsCount: 8, inventoryAtMs: 99 }))
    expect(await found(tracking, 'team/app')).toMatchObject({ tagsCount: 8, verificationState: 'pending' })
  })

  it('that fails may say anything at any length', async () => {
    await using subject = await make()
    const { tracking } = subject
    const message = `the primary\0 said\n${'😀'.repeat(300)}`
    const failingTags = [failingTag('v1', { message }), failingTag('v1', { message: "'; drop table events" })]

    await failedRow(tracking, 'team/app', failed({ message, failingTags }))

    const { lastSyncFailure, failingTagsCount } = await found(tracking, 'team/app')
    expect(lastSyncFailure).toHaveLength(255)
    expect(lastSyncFailure).toMatch(/^the primary {2}said 😀+/u)
    expect(lastSyncFailure?.isWellFormed()).toBe(true)
    expect(failingTagsCount).toBe(1)
    expect(await tracking.failingTags(app)).toMatchObject([{ message: "'; drop table events" }])
  })

  it('may reckon its times in fractions', async () => {
    await using subject = await make()
    const { tracking, clock } = subject
    const outcome = failed({ retryAtMs: clock.ms + 0.4, inventoryAtMs: 10.4, needsAttention: true })

    await failedRow(tracking, 'team/app', { ...outcome, failingTags: [failingTag('v1', { sinceMs: 3.4 })] })
    await failedRow(tracking, 'team/waiting', failed({ retryAtMs: clock.ms + 0.4 }))

    expect(await found(tracking, 'team/app')).toMatchObject({ retryAtMs: clock.ms, inventoryAtMs: 10 })
    expect(await duePaths(tracking, clock.ms + 0.1)).toEqual(['team/waiting'])
    expect(await tracking.reconcilable(0.1, 10)).toEqual([])
    expect(await tracking.lease(nameOf('team/waiting'), 1000.5)).toMatchObject({ retryCount: 1 })
  })

  it('that cannot be written down as a whole leaves nothing', async () => {
    await using subject = await make()
    const { tracking } = subject
    await failedRow(tracking, 'team/app', failed({ failingTags: [failingTag('before')] }))
    await tracking.accept([pushOf('team/app')])
    const lease = await leased(tracking, 'team/app')
    const [event] = await tracking.pendingEvents(app)
    const broken = failed({ failingTags: [failingTag('after', { sinceMs: Number.NaN })] })

    await expect(tracking.settle(lease, broken, event?.sequence)).rejects.toThrow()

    expect(await found(tracking, 'team/app')).toMatchObject({ state: 'started', retryCount: 1 })
    expect(await tracking.failingTags(app)).toMatchObject([{ tag: 'before' }])
    expect(await tracking.pendingEvents(app)).toHaveLength(1)
    expect(await tracking.settle(lease, synced(), event?.sequence)).toBe('done')
  })

  it('may find more failing tags than one statement holds', async () => {
    await using subject = await make()
    const { tracking } = subject
    const failingTags = Array.from({ length: 12_345 }, (_, index) => failingTag(`v${index}`))

    await failedRow(tracking, 'team/app', failed({ failingTags }))

    expect(await tracking.failingTags(app)).toHaveLength(12_345)
    expect(await tracking.counts()).toMatchObject({ failingTags: 12_345 })
  })

  it.each([
    ['succeeds', synced(), 'pending'],
    ['fails', failed({ retryAtMs: Number.MAX_SAFE_INTEGER }), 'pending'],
    ['is released', { kind: 'released' as const }, 'pending'],
    ['fails for good', failed({ needsAttention: true }), 'pending'],
  ])('that %s after something changed meanwhile runs again', async (_, outcome, state) => {
    await using subject = await make()
    const { tracking } = subject
    await tracking.discover([app])
    const lease = await leased(tracking, 'team/app')
    await tracking.touch([app], { priority: 1, active: true })
    expect(await found(tracking, 'team/app')).toMatchObject({ state: 'started', priority: 1 })

    const settled = await tracking.settle(lease, outcome)

    expect(settled).toBe(state === 'pending' ? 'again' : 'done')
    expect(await found(tracking, 'team/app')).toMatchObject({ state, priority: 1 })
    expect(await tracking.due(Date.now(), 10)).toEqual(
      state === 'pending' ? [{ path: app, priority: 1 }] : [],
    )
  })

  it('that is released is due at once, as urgent as before and not as a failure', async () => {
    await using subject = await make()
    const { tracking } = subject
    await tracking.touch([app], { priority: 1 })

    expect(await tracking.settle(await leased(tracking, 'team/app'), { kind: 'released' })).toBe('done')

    expect(await found(tracking, 'team/app')).toMatchObject({ state: 'pending', retryCount: 0, priority: 1 })
    expect(await duePaths(tracking)).toEqual([app])
  })

  it('keeps failing tags of other repositories apart', async () => {
    await using subject = await make()
    const { tracking } = subject
    await failedRow(tracking, 'team/one', failed({ failingTags: [failingTag('same')] }))
    await failedRow(tracking, 'team/two', failed({ failingTags: [failingTag('same'), failingTag('other')] }))

    await syncedRow(tracking, 'team/one')

    expect((await tracking.failingTags(nameOf('team/two'))).map(({ tag }) => tag)).toEqual(
      ['other', 'same'].map(tagOf),
    )
  })
}
