import { mkdir, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { RelayLog } from '../../../replicator/relay/log.ts'
import { type TempFolder, tempFolder } from '../../support/temp.ts'
import { contentOf, noticeOf, type OpenOptions, openLog, PAGE, segmentsOf } from './log-fixture.ts'

const HOUR = 3_600_000

let owned: AsyncDisposableStack
let folder: TempFolder
let nowMs: number
beforeEach(async () => {
  owned = new AsyncDisposableStack()
  folder = owned.use(await tempFolder('relay-log-retention'))
  nowMs = 0
})
afterEach(() => owned.disposeAsync())

const open = (options: OpenOptions) =>
  openLog(folder.path, { now: () => nowMs, segmentBytes: 2000, memoryBytes: 1000, ...options })

async function appendMany(log: RelayLog, count: number): Promise<void> {
  for (let index = 0; index < count; index++) {
    await log.append([noticeOf(`${log.last + 1}`)])
    nowMs += 1000
  }
}

async function bytesOnDisk(): Promise<number> {
  const sizes = (await segmentsOf(folder.path)).map(async (path) => (await stat(path)).size)
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0)
}

describe('retention', () => {
  it('removes the oldest segments when all take more than they may', async () => {
    await using log = await open({ retentionBytes: 10_000 })
    await appendMany(log, 200)
    nowMs += 2 * HOUR

    await log.touch()

    expect(log.bytes).toBe(await bytesOnDisk())
    expect(log.bytes).toBeLessThanOrEqual(10_000)
    expect(log.bytes).toBeGreaterThan(6000)
    expect([log.first > 100, log.last]).toEqual([true, 200])
    expect(await contentOf(log)).toEqual(
      Array.from({ length: 200 - log.first + 1 }, (_, index) => `${log.first + index} ${log.first + index}`),
    )
  })

  it('makes room also where the disk is so full that log time cannot be saved', async () => {
    await using log = await open({ retentionBytes: 10_000 })
    await appendMany(log, 200)
    nowMs += 2 * HOUR
    await mkdir(join(folder.path, 'clock.tmp')) // Nothing can be written there any more.

    await log.touch()

    expect(log.bytes).toBeLessThanOrEqual(10_000)
  })

  it.each([1000, 1_000_000])(
    'says of what it removed that it is gone (%i bytes in memory)',
    async (memoryBytes) => {
      await using log = await open({ retentionBytes: 10_000, memoryBytes })
      await appendMany(log, 200)
      nowMs += 2 * HOUR
      await log.touch()

      expect(await log.read(log.first - 2, PAGE)).toBe(undefined)
      expect(await log.read(0, PAGE)).toBe(undefined)
      expect((await log.read(log.first - 1, PAGE))?.[0]?.number).toBe(log.first)
      expect(log.ageMs(1)).toBe(0)
    },
  )

  it('removes segments whose records are all older than they may be, in log time', async () => {
    const first = await open({ retentionAgeMs: HOUR })
    await appendMany(first, 100)
    await first.close()
    nowMs += 1000 * HOUR
    const second = await open({ retentionAgeMs: HOUR })
    await second.touch()
    expect(second.first).toBe(1)
    await appendMany(second, 30)

    nowMs += HOUR - 31_000
    await second.touch()

    expect(second.first).toBeGreaterThan(90)
    expect(second.first).toBeLessThanOrEqual(101)
    await second.close()
  })

  it('never removes the newest segment, however old or large', async () => {
    await using log = await open({ retentionAgeMs: 1, retentionBytes: 1, segmentBytes: 1_000_000 })
    await appendMany(log, 50)
    nowMs += 10 * HOUR

    await log.touch()

    expect([log.first, log.last, (await segmentsOf(folder.path)).length]).toEqual([1, 50, 1])
  })

  it('never removes what was received within the last minute: a site that starts must hear it', async () => {
    await using log = await open({ retentionAgeMs: 1, retentionBytes: 1 })
    await appendMany(log, 200)

    await log.touch()

    expect(log.first - 1).toBeLessThanOrEqual(log.settledThrough)
    expect(200 - log.settledThrough).toBeGreaterThan(58)
    expect(await log.read(log.settledThrough, PAGE)).toBeDefined()
  })

  it('leaves a log that opens again with the same numbers', async () => {
    const log = await open({ retentionBytes: 5000 })
    await appendMany(log, 100)
    nowMs += HOUR
    await log.close()
    const { first } = log
    expect(first).toBeGreaterThan(1)

    await using again = await open({ retentionBytes: 5000 })

    expect([again.first, again.last, again.id]).toEqual([first, 100, log.id])
    expect(again.settledThrough).toBe(100)
    expect(await again.append([noticeOf('next')])).toBe(101)
    expect(await readdir(folder.path)).not.toContainEqual(expect.stringContaining('.tmp'))
  })

  it('takes nothing away from a reader in the middle of it', async () => {
    await using log = await open({ retentionBytes: 4000 })
    await appendMany(log, 300)
    nowMs += HOUR
    const reads = Array.from({ length: 50 }, (_, index) => log.read(index * 6, PAGE))

    await log.touch()

    for (const [index, entries] of (await Promise.all(reads)).entries()) {
      if (entries !== undefined) expect(entries[0]?.number).toBe(index * 6 + 1)
    }
    expect(await contentOf(log)).toHaveLength(300 - log.first + 1)
  })
})
