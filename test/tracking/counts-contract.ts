/** Law 9: every figure is what counting the rows one by one gives, whatever happened and however many did it at once. */
import { expect, it } from 'vitest'
import type { SyncState, VerificationState } from '../../src/tracking/replication-state.ts'
import type { Counts, TrackedRepository, Tracking } from '../../src/tracking/tracking.ts'
import { nameOf } from '../store/store-fixture.ts'
import {
  failed,
  failedRow,
  failingTag,
  type MakeTracking,
  pushOf,
  synced,
  syncedRow,
  THERE,
} from './tracking-fixture.ts'

export function countsContract(make: MakeTracking): void {
  it('are all zero, and no time is known, where nothing is tracked', async () => {
    await using subject = await make()

    expect(await subject.tracking.counts()).toEqual(recounted([]))
  })

  it('know the oldest inventory only when every repository has one', async () => {
    await using subject = await make()
    const { tracking } = subject
    await syncedRow(tracking, 'team/new', synced({ inventoryAtMs: 900 }))
    await failedRow(tracking, 'team/old', failed({ inventoryAtMs: 300 }))
    expect(await tracking.counts()).toMatchObject({ oldestInventoryAtMs: 300 })

    await tracking.discover([nameOf('team/undiscovered')])
    expect(await tracking.counts()).toMatchObject({ oldestInventoryAtMs: undefined })
  })

  it('are told, and go back to nothing, whatever sizes the manifests of many repositories claim', async () => {
    await using subject = await make()
    const { tracking } = subject
    const claims = [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER, 2 ** 62, 1e30, 10_000 * 2 ** 53]
    const paths = Array.from({ length: 20 }, (_, index) => `team/r${index}`)
    for (const [index, path] of paths.entries()) {
      await failedRow(tracking, path, failed({ bytesOutstanding: claims[index % claims.length] ?? 0 }))
    }

    const rows = await tracking.list({ limit: 100 })
    expect((await tracking.counts()).bytesOutstanding).toBe(20 * 2 ** 50)
    expect(rows.map(({ bytesOutstanding }) => bytesOutstanding)).toEqual(paths.map(() => 2 ** 50))

    for (const path of paths) await syncedRow(tracking, path)
    expect(await tracking.counts()).toMatchObject({ bytesOutstanding: 0 })
  })

  it('equal what is recounted from the rows after anything that can happen, by several processes at once', async () => {
    await using subject = await make()
    const processes = [subject.tracking, await subject.open(), await subject.open()]
    const random = seeded(20_261_122)
    for (let round = 0; round < 12; round++) {
      const work = Array.from({ length: 12 }, async () => {
        const tracking = processes[Math.floor(random() * processes.length)] ?? subject.tracking
        await something(tracking, random)
      })
      // Opening adds up what connections that are gone have counted.
      await Promise.all([...work, ...(round % 4 === 3 ? [subject.open()] : [])])
      const rows = await subject.tracking.list({ limit: 1000 })
      const expected = recounted(rows)
      const counts = await (processes[round % 3] ?? subject.tracking).counts()
      expect(pick(counts), `round ${round}`).toEqual(pick(expected))
    }
    const reopened = await subject.open()
    expect(pick(await reopened.counts())).toEqual(pick(recounted(await reopened.list({ limit: 1000 }))))
    expect((await reopened.counts()).total).toBeGreaterThan(0)

    await reopened.clear()
    expect(pick(await reopened.counts())).toEqual(pick(recounted([])))
  })
}

async function something(tracking: Tracking, random: () => number): Promise<void> {
  const path = `team/app-${Math.floor(random() * 8)}`
  const dice = random()
  if (dice < 0.1) return void (await tracking.accept([pushOf(path), pushOf('team/app-1')]))
  if (dice < 0.2) return await tracking.touch([nameOf(path)], { priority: 1 })
  if (dice < 0.3) return void (await tracking.discover([nameOf(path), nameOf(`new/${path}`)]))
  if (dice < 0.35) return await tracking.forget(nameOf(path))
  if (dice < 0.4) return void (await tracking.resync({ path: 'team/*' }, { dryRun: false }))
  if (dice < 0.45) return void (await tracking.reverify({ path }, { dryRun: false }))
  const lease = await tracking.lease(nameOf(path), 60_000)
  if (!lease) return
  if (dice < 0.5) return void (await tracking.settle(lease, { kind: 'released' }))
  if (dice < 0.75) {
    const primaryChecksum = dice < 0.6 ? THERE : synced().checksum
    const tagsCount = Math.floor(random() * 50)
    return void (await tracking.settle(lease, synced({ tagsCount, primaryChecksum })))
  }
  const outcome = failed({
    needsAttention: dice > 0.9,
    failingTags: Array.from({ length: Math.floor(random() * 4) }, (_, index) => failingTag(`v${index}`)),
    tagsCount: 9,
    blobsOutstanding: Math.floor(random() * 9),
    bytesOutstanding: Math.floor(random() * 2 ** 40),
    inventoryAtMs: 100,
  })
  await tracking.settle(lease, outcome)
}

type Sums = Omit<Counts, 'oldestInventoryAtMs' | 'eventsPending' | 'oldestEventAtMs' | `last${string}`>

function pick(counts: Counts): Sums {
  const { oldestInventoryAtMs, eventsPending, oldestEventAtMs, ...rest } = counts
  const { lastEventSequence, lastAppliedSequence, lastEventAtMs, lastAppliedEventAtMs, ...sums } = rest
  return sums
}

function recounted(rows: readonly TrackedRepository[]): Counts {
  const sum = (value: (row: TrackedRepository) => number) =>
    rows.reduce((total, row) => total + value(row), 0)
  const inState = (state: SyncState) => sum((row) => Number(row.state === state))
  const verified = (state: VerificationState) => sum((row) => Number(row.verificationState === state))
  return {
    total: rows.length,
    byState: {
      pending: inState('pending'),
      started: inState('started'),
      synced: inState('synced'),
      failed: inState('failed'),
    },
    byVerificationState: {
      pending: verified('pending'),
      started: verified('started'),
      succeeded: verified('succeeded'),
      failed: verified('failed'),
      disabled: verified('disabled'),
    },
    needsAttention: sum((row) => Number(row.needsAttention)),
    checksumMismatch: sum((row) => Number(row.checksumMismatch)),
    failingTags: sum((row) => row.failingTagsCount),
    tags: sum((row) => row.tagsCount),
    blobsOutstanding: sum((row) => row.blobsOutstanding),
    bytesOutstanding: sum((row) => row.bytesOutstanding),
    eventsPending: 0,
    oldestEventAtMs: undefined,
    lastEventSequence: 0,
    lastAppliedSequence: 0,
    lastEventAtMs: undefined,
    lastAppliedEventAtMs: undefined,
    oldestInventoryAtMs: undefined,
  }
}

/** Mulberry32. */
function seeded(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
