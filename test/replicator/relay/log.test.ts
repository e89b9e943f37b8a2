import { open as openFile } from 'node:fs/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { RelayLog } from '../../../replicator/relay/log.ts'
import { type TempFolder, tempFolder } from '../../support/temp.ts'
import { contentOf, noticeOf, openLog, PAGE, recordOf, segmentsOf } from './log-fixture.ts'

let owned: AsyncDisposableStack
let folder: TempFolder
let nowMs: number
beforeEach(async () => {
  owned = new AsyncDisposableStack()
  folder = owned.use(await tempFolder('relay-log'))
  nowMs = 1_000_000
})
afterEach(() => owned.disposeAsync())

const now = () => nowMs
const open = (options = {}) => openLog(folder.path, { now, ...options })

describe('what is appended', () => {
  it('is numbered from one in the order of the calls, whoever waits for the disk', async () => {
    await using log = await open()

    const numbers = await Promise.all([
      log.append([noticeOf('a'), noticeOf('b')]),
      log.append([]),
      log.append([noticeOf('c')]),
      log.append([noticeOf('d'), noticeOf('e')]),
    ])

    expect(numbers).toEqual([2, 2, 3, 5])
    expect(await contentOf(log)).toEqual(['1 a', '2 b', '3 c', '4 d', '5 e'])
    expect([log.first, log.last]).toEqual([1, 5])
  })

  it('resolves in the order of the calls, so that what follows from it keeps their order', async () => {
    await using log = await open()
    const order: number[] = []

    const calls = Array.from({ length: 300 }, async (_, index) => {
      await log.append(index % 3 === 0 ? [] : [noticeOf(`e${index}`)])
      order.push(index)
    })
    await Promise.all(calls)

    expect(order).toEqual(order.toSorted((a, b) => a - b))
  })

  it('says all that the notice says', async () => {
    await using log = await open()
    const notice = {
      ...noticeOf('a'),
      action: 'rename' as const,
      renamedTo: noticeOf('b', 'new/home').repository,
    }
    await log.append([notice])

    const [entry] = (await log.read(0, PAGE)) ?? []

    expect(entry && recordOf(entry)).toEqual({ number: 1, notice })
  })

  it('is told of once it can be read', async () => {
    await using log = await open()
    const told: number[] = []
    const stop = log.onAppended(() => told.push(log.last))

    await log.append([noticeOf('a')])
    await log.append([])
    stop()
    await log.append([noticeOf('b')])

    expect(told).toEqual([1])
  })

  it('twice within a minute is there once, and again when it says something else or a minute has passed', async () => {
    await using log = await open()

    const twice = [log.append([noticeOf('a'), noticeOf('a')]), log.append([noticeOf('a')])]
    expect(await Promise.all(twice)).toEqual([1, 1])
    await log.append([noticeOf('a', 'other/app')])
    nowMs += 59_000
    expect(await log.append([noticeOf('a')])).toBe(2)
    nowMs += 2000
    expect(await log.append([noticeOf('a')])).toBe(3)

    expect(await contentOf(log)).toEqual(['1 a', '2 a', '3 a'])
  })

  it('shares one sync with all that came while the disk was busy', async () => {
    let syncs = 0
    await using log = await open({
      deps: {
        openFile: async (path: string) => {
          const file = await openFile(path, 'r+')
          return {
            write: file.write.bind(file),
            stat: file.stat.bind(file),
            truncate: file.truncate.bind(file),
            close: file.close.bind(file),
            datasync: async () => {
              syncs += 1
              await file.datasync()
            },
          }
        },
      },
    })

    await Promise.all(Array.from({ length: 10_000 }, (_, index) => log.append([noticeOf(`e${index}`)])))

    expect(log.last).toBe(10_000)
    expect(syncs).toBeLessThan(50)
  })

  it('cannot be appended to a closed log, and what was appended before is in it', async () => {
    const log = await open()
    const before = log.append([noticeOf('a')])
    await log.close()

    await expect(log.append([noticeOf('b')])).rejects.toThrow('closed')
    expect(await before).toBe(1)
    await using again = await open()
    expect(await contentOf(again)).toEqual(['1 a'])
  })
})

describe('a page', () => {
  it.each([1_000_000, 1])(
    'holds as many records as it may, and at least one (%i bytes in memory)',
    async (memoryBytes) => {
      await using log = await open({ memoryBytes })
      await log.append(Array.from({ length: 100 }, (_, index) => noticeOf(`e${index}`)))

      const numbers = async (after: number, limitRecords: number, limitBytes: number) =>
        (await log.read(after, { limitRecords, limitBytes }))?.map(({ number }) => number)

      expect(await numbers(10, 3, 1_000_000)).toEqual([11, 12, 13])
      expect(await numbers(98, 10, 1_000_000)).toEqual([99, 100])
      expect(await numbers(10, 10, 1)).toEqual([11])
      expect(await numbers(100, 10, 1)).toEqual([])
      expect(await numbers(101, 10, 1)).toBe(undefined)
    },
  )

  it('is the same from memory and from disk, wherever it begins', async () => {
    const notices = Array.from({ length: 3000 }, (_, index) => noticeOf(`e${index}`))
    await using log = await open({ memoryBytes: 20_000, segmentBytes: 100_000 })
    for (let start = 0; start < notices.length; start += 50)
      await log.append(notices.slice(start, start + 50))
    const everything = notices.map(({ id }, index) => `${index + 1} ${id}`)

    expect(await contentOf(log)).toEqual(everything)
    expect(await contentOf(log, { limitRecords: 7, limitBytes: 100_000 })).toEqual(everything)
    for (let after = 0; after < 3000; after += 37) {
      const [entry] = (await log.read(after, { limitRecords: 1, limitBytes: 1 })) ?? []
      expect(entry && recordOf(entry)).toEqual({ number: after + 1, notice: notices[after] })
    }
    expect((await segmentsOf(folder.path)).length).toBeGreaterThan(5)
  })

  it('comes whole while others are written', async () => {
    await using log = await open({ memoryBytes: 1000, segmentBytes: 20_000 })
    const readAll = async () => {
      let after = 0
      while (after < 2000) {
        const entries = (await log.read(after, { limitRecords: 100, limitBytes: 10_000 })) ?? []
        for (const { number } of entries) {
          expect(number).toBe(after + 1)
          after += 1
        }
        await new Promise(setImmediate)
      }
      return after
    }

    const readers = [readAll(), readAll()]
    for (let start = 0; start < 2000; start += 20) {
      await log.append(Array.from({ length: 20 }, (_, index) => noticeOf(`e${start + index}`)))
    }

    expect(await Promise.all(readers)).toEqual([2000, 2000])
  })
})

describe('log time', () => {
  const minutes = 60_000

  it('says which records were taken longer than a minute ago', async () => {
    await using log = await open()
    expect(log.settledThrough).toBe(0)
    await log.append([noticeOf('a'), noticeOf('b')])
    nowMs += 30_000
    await log.append([noticeOf('c')])

    nowMs += 29_999
    expect(log.settledThrough).toBe(0)
    nowMs += 200
    expect(log.settledThrough).toBe(2)
    nowMs += minutes
    expect(log.settledThrough).toBe(3)
  })

  it('never calls a record settled too early, however they come', async () => {
    await using log = await open()
    const takenAt: number[] = []
    for (let index = 0; index < 200; index++) {
      nowMs += (index * 37) % 1700
      takenAt.push(nowMs)
      await log.append([noticeOf(`e${index}`)])
      const settled = log.settledThrough
      if (settled > 0) expect(nowMs - (takenAt[settled - 1] ?? nowMs)).toBeGreaterThan(minutes)
      const next = takenAt[settled] ?? nowMs
      expect(nowMs - next).toBeLessThan(minutes + 300)
    }
  })

  it('does not count the time between two runs', async () => {
    const first = await open()
    await first.append([noticeOf('a')])
    nowMs += 40_000
    await first.touch()
    nowMs += 15_000
    await first.close()

    nowMs += 1000 * minutes
    await using second = await open()
    expect([second.settledThrough, second.ageMs(1)]).toEqual([0, 55_000])
    nowMs += 5200
    expect(second.settledThrough).toBe(1)
  })

  it('goes on from the last record where it could not be saved, and never goes back', async () => {
    const first = await open()
    await first.append([noticeOf('a')])
    nowMs += 50_000
    await first.append([noticeOf('b')])
    await first.close()
    await folder.write('clock', 'garbage')

    nowMs += 1000 * minutes
    await using second = await open()
    expect([second.ageMs(1), second.ageMs(2), second.settledThrough]).toEqual([50_000, 0, 0])
    nowMs -= 30_000
    expect(second.ageMs(1)).toBe(50_000)
  })

  it('knows how old any record is, or a little more', async () => {
    await using log = await open({ memoryBytes: 1 })
    for (let index = 0; index < 1000; index++) {
      await log.append([noticeOf(`e${index}`)])
      nowMs += 100
    }

    for (const number of [1, 2, 500, 999, 1000]) {
      const ageMs = (1000 - number + 1) * 100
      expect(log.ageMs(number)).toBeGreaterThanOrEqual(ageMs)
      expect(log.ageMs(number)).toBeLessThanOrEqual(ageMs + 10_000)
    }
    expect(log.ageMs(1001)).toBe(0)
  })
})

describe('a log that is opened again', () => {
  it('is the same log with the same records and goes on with the next number', async () => {
    const ids: string[] = []
    for (let run = 0; run < 3; run++) {
      const log: RelayLog = await open()
      ids.push(log.id)
      await log.append([noticeOf(`e${run}`)])
      await log.close()
    }

    await using log = await open()
    expect(new Set([...ids, log.id]).size).toBe(1)
    expect(await contentOf(log)).toEqual(['1 e0', '2 e1', '3 e2'])
  })

  it('in another folder is another log', async () => {
    await using log = await open()
    await using elsewhere = await tempFolder('relay-log')
    await using other = await openLog(elsewhere.path)

    expect(log.id).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/)
    expect(other.id).not.toBe(log.id)
  })
})
