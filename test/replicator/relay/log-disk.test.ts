/** A relay's log on a disk that fails or is full. */
import { appendFile, open, rename, rm, truncate } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { WritableFile } from '../../../replicator/relay/log-files.ts'
import { runProgram } from '../../support/process.ts'
import { type TempFolder, tempFolder } from '../../support/temp.ts'
import { contentOf, newestSegment, noticeOf, openLog } from './log-fixture.ts'

const FILLING = join(import.meta.dirname, 'disk-filling-process.ts')

type Fault = 'write' | 'half' | 'sync' | 'truncate'

let folder: TempFolder
let faults: Set<Fault>
beforeEach(async () => {
  folder = await tempFolder('relay-log-disk')
  faults = new Set()
})
afterEach(() => folder[Symbol.asyncDispose]())

const failing = (fault: Fault, code: string) => {
  if (faults.has(fault)) throw Object.assign(new Error(`${code}: ${fault}`), { code })
}

async function openFile(path: string): Promise<WritableFile> {
  const file = await open(path, 'r+')
  const writable: Pick<WritableFile, 'datasync' | 'truncate' | 'stat' | 'close'> = {
    stat: file.stat.bind(file),
    close: file.close.bind(file),
    datasync: async () => {
      failing('sync', 'EIO')
      await file.datasync()
    },
    truncate: async (length) => {
      failing('truncate', 'EIO')
      await file.truncate(length)
    },
  }
  const write = async (bytes: Buffer, offset: number, length: number, position: number) => {
    failing('write', 'ENOSPC')
    if (!faults.has('half')) return await file.write(bytes, offset, length, position)
    await file.write(bytes, offset, Math.ceil(length / 2), position)
    throw Object.assign(new Error('ENOSPC: half'), { code: 'ENOSPC' })
  }
  return { ...writable, write: write as WritableFile['write'] }
}

const failures: unknown[] = []
const openFailing = () => {
  failures.length = 0
  return openLog(folder.path, { deps: { openFile, onFailure: (error) => failures.push(error) } })
}

describe('a write that fails', () => {
  it.each<[string, Fault[]]>([
    ['the disk is full', ['write']],
    ['the disk is full in the middle of it', ['half']],
    ['it cannot be synced', ['sync']],
    ['it cannot be synced, nor undone', ['sync', 'truncate']],
    ['half of it stays, which cannot be undone', ['half', 'truncate']],
  ])(
    'because %s is refused and told, harms nothing, and the next one is taken when it can be',
    async (_name, which) => {
      const log = await openFailing()
      await log.append([noticeOf('a')])
      faults = new Set(which)

      await expect(log.append([noticeOf('b')])).rejects.toThrow(/ENOSPC|EIO/)
      await expect(log.append([noticeOf('b')])).rejects.toThrow(/ENOSPC|EIO/)

      expect(failures.length).toBe(2)
      expect([log.last, await contentOf(log)]).toEqual([1, ['1 a']])
      faults.clear()
      expect(await log.append([noticeOf('b'), noticeOf('c')])).toBe(3)
      await log.close()
      await using again = await openLog(folder.path)
      expect(await contentOf(again)).toEqual(['1 a', '2 b', '3 c'])
    },
  )

  it('refuses all who shared it, and a crash at that moment leaves what was acknowledged', async () => {
    const log = await openFailing()
    await log.append([noticeOf('a')])
    faults = new Set(['half', 'truncate'])

    const shared = await Promise.allSettled(['b', 'c', 'd'].map((id) => log.append([noticeOf(id)])))

    expect(shared.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected'])
    await using again = await openLog(folder.path)
    expect(again.last).toBeGreaterThanOrEqual(1)
    expect((await contentOf(again))[0]).toBe('1 a')
    expect(await again.append([noticeOf('e')])).toBe(again.last)
  })

  it('ends no wait for other records wrongly: the same event sent again is written', async () => {
    await using log = await openFailing()
    faults = new Set(['sync'])
    const told: number[] = []
    log.onAppended(() => told.push(log.last))
    await expect(log.append([noticeOf('a')])).rejects.toThrow('EIO')
    expect(told).toEqual([])

    faults.clear()
    expect(await log.append([noticeOf('a')])).toBe(1)
    expect([told, await contentOf(log)]).toEqual([[1], ['1 a']])
  })
})

describe('a folder that others change', () => {
  it.each<[string, (path: string) => Promise<void>]>([
    ['another relay writes to it', (path) => appendFile(path, 'x')],
    ['it is cut', (path) => truncate(path, 300)],
    ['it is removed', (path) => rm(path)],
  ])('because %s takes nothing any more, and says so', async (_name, change) => {
    await using log = await openFailing()
    await log.append([noticeOf('a')])
    await change(await newestSegment(folder.path))

    await expect(log.append([noticeOf('b')])).rejects.toThrow('changed by somebody else')
    await expect(log.append([noticeOf('b')])).rejects.toThrow('changed by somebody else')
    expect(failures.length).toBe(2)
  })

  it('is moved as a whole without harm', async () => {
    const log = await openFailing()
    await log.append([noticeOf('a')])
    const moved = `${folder.path}-moved`
    await rename(folder.path, moved)

    expect(await log.append([noticeOf('b')])).toBe(2)

    await log.close()
    await rename(moved, folder.path)
    await using again = await openLog(folder.path)
    expect(await contentOf(again)).toEqual(['1 a', '2 b'])
  })
})

/** On a tmpfs of 1 MiB in a mount namespace of its own, which ends with it. */
async function fillDisk(): Promise<Record<string, unknown>> {
  const script = 'mount -t tmpfs -o size=1m geo-registry-test "$1" && exec "$2" "$3" "$1"'
  const namespaces = process.getuid?.() === 0 ? ['--mount'] : ['--user', '--map-root-user', '--mount']
  const command = ['sh', '-c', script, 'sh', folder.path, process.execPath, FILLING]
  const { stdout } = await runProgram('unshare', [...namespaces, ...command])
  return JSON.parse(stdout) as Record<string, unknown>
}

describe('a disk that is full', () => {
  it('refuses events, keeps those that it has, and takes them again when there is room', async () => {
    const result = await fillDisk()

    expect(result).toEqual({
      refused: 'ENOSPC',
      acknowledgedAreThere: true,
      readableWhenFull: true,
      takenAfterwards: true,
      sameAfterRestart: true,
      told: true,
    })
  })
})
