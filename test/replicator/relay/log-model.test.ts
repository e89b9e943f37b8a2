/** Anything that can happen to a log, in any order, against a list. */
import { copyFile, open as openFile, stat, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import type { RelayLog } from '../../../replicator/relay/log.ts'
import { tempFolder } from '../../support/temp.ts'
import { newestSegment, noticeOf, openLog, recordOf } from './log-fixture.ts'

type Step =
  | { readonly kind: 'append'; readonly ids: readonly (readonly number[])[] }
  | {
      readonly kind: 'read'
      readonly after: number
      readonly limitRecords: number
      readonly limitBytes: number
    }
  | { readonly kind: 'wait'; readonly ms: number }
  | { readonly kind: 'touch' | 'close' | 'crash' | 'fail' }

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('append' as const),
      ids: fc.array(fc.array(fc.nat(30), { maxLength: 6 }), { maxLength: 5 }),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('read' as const),
      after: fc.nat(200),
      limitRecords: fc.integer({ min: 1, max: 20 }),
      limitBytes: fc.integer({ min: 1, max: 3000 }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('wait' as const), ms: fc.nat(50_000) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constantFrom('touch' as const, 'close' as const, 'crash' as const, 'fail' as const),
    }),
  },
)

it('is a list that only grows at its end and is forgotten at its start, whatever happens to it', async () => {
  await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 40 }), run), { numRuns: 150 })
}, 120_000)

async function run(steps: readonly Step[]): Promise<void> {
  await using folder = await tempFolder('relay-log-model')
  let nowMs = 0
  let isFailing = false
  let runStart = 0
  const list: { readonly id: string; readonly atMs: number }[] = []
  const open = () =>
    openLog(folder.path, {
      now: () => nowMs,
      segmentBytes: 1500,
      memoryBytes: 1200,
      retentionAgeMs: 150_000,
      retentionBytes: 8000,
      deps: {
        openFile: async (path) => {
          const file = await openFile(path, 'r+')
          return {
            write: file.write.bind(file),
            stat: file.stat.bind(file),
            truncate: file.truncate.bind(file),
            close: file.close.bind(file),
            datasync: async () => {
              if (isFailing) throw new Error('EIO')
              await file.datasync()
            },
          }
        },
      },
    })
  let log: RelayLog = await open()
  const { id } = log

  async function append(calls: readonly (readonly number[])[]): Promise<void> {
    const appended = calls.map((ids) => log.append(ids.map((each) => noticeOf(`e${each}`))))
    const results = await Promise.allSettled(appended)
    for (const [index, result] of results.entries()) {
      const ids = (calls[index] ?? []).map((each) => `e${each}`)
      // What a process before this one took is written again when it is sent again.
      const isNew = (each: string) =>
        !list.slice(runStart).some((taken) => taken.id === each && nowMs - taken.atMs < 60_000)
      if (result.status === 'rejected') expect(isFailing).toBe(true)
      else {
        for (const each of ids) if (isNew(each)) list.push({ id: each, atMs: nowMs })
        expect(result.value).toBe(list.length)
      }
    }
  }

  for (const each of steps) {
    if (each.kind === 'append') await append(each.ids)
    else if (each.kind === 'wait') nowMs += each.ms
    else if (each.kind === 'touch') await log.touch()
    else if (each.kind === 'fail') isFailing = !isFailing
    else if (each.kind === 'read') {
      const entries = await log.read(each.after, each)
      const isThere = each.after >= log.first - 1 && each.after <= list.length
      expect(entries !== undefined).toBe(isThere)
      const ids = (entries ?? []).map((entry) => recordOf(entry).notice.id)
      expect(ids).toEqual(list.slice(each.after, each.after + ids.length).map((record) => record.id))
      expect(ids.length).toBeLessThanOrEqual(each.limitRecords)
      if (isThere && each.after < list.length) expect(ids.length).toBeGreaterThan(0)
    } else {
      const before = log.first
      if (each.kind === 'close') await log.close()
      else if (await crash(log, folder.path)) list.push({ id: 'torn', atMs: nowMs })
      runStart = list.length
      isFailing = false
      log = await open()
      expect(log.first).toBeGreaterThanOrEqual(before)
    }
    expect([log.id, log.last]).toEqual([id, list.length])
    expect(log.first - 1).toBeLessThanOrEqual(log.settledThrough)
    for (const record of list.slice(0, log.settledThrough))
      expect(nowMs - record.atMs).toBeGreaterThan(60_000)
  }
  await log.close()
}

/** As kill -9 in the middle of a write. True when the write was whole already: it had begun a segment. */
async function crash(log: RelayLog, folder: string): Promise<boolean> {
  const path = await newestSegment(folder)
  const { size } = await stat(path)
  await log.touch()
  await copyFile(join(folder, 'clock'), join(folder, 'kept'))
  const isWritten = await log.append([noticeOf('torn')]).then(
    () => true,
    () => false,
  )
  await log.close()
  await copyFile(join(folder, 'kept'), join(folder, 'clock'))
  const newest = await newestSegment(folder)
  if (newest !== path) return isWritten
  const torn = await stat(path)
  await truncate(path, size + Math.floor((torn.size - size) / 2))
  return false
}
