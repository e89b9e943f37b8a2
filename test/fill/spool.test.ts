/** What a spool claims to hold is on the disk; what it cannot keep it says. */
import { type FileHandle, open, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { Segments } from '../../src/fill/segments.ts'
import { createSpool, type Spool, type SpoolMap, SYNC_BYTES } from '../../src/fill/spool.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { type TempFolder, tempFolder } from '../support/temp.ts'
import { KiB, MiB, someBytes } from './fill-fixture.ts'

const DIGEST = digestOf(Buffer.from('any'))

let folder: TempFolder
let file: FileHandle
/** What was written when the last sync that has ended began. */
let synced: Segments
let written: Segments
let failSync = false
beforeEach(async () => {
  folder = await tempFolder('spool')
  file = await open(join(folder.path, 'spool.data'), 'wx+')
  synced = new Segments()
  written = new Segments()
  failSync = false
})
afterEach(() => folder[Symbol.asyncDispose]())

/** The real file, with its writes and syncs recorded. */
function recorded(): FileHandle {
  return new Proxy(file, {
    get(target, name) {
      if (name === 'datasync') {
        return async () => {
          const before = written.list()
          if (failSync) throw Object.assign(new Error('input/output error'), { code: 'EIO' })
          await target.datasync()
          for (const [start, end] of before) synced.add(start, end)
        }
      }
      if (name === 'writev') {
        return async (chunks: Buffer[], position: number) => {
          const result = await target.writev(chunks, position)
          written.add(position, position + result.bytesWritten)
          return result
        }
      }
      const value = Reflect.get(target, name, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

function makeSpool(sizeBytes: number): Spool {
  return createSpool(recorded(), {
    digest: DIGEST,
    sizeBytes,
    dataPath: join(folder.path, 'spool.data'),
    mapPath: join(folder.path, 'spool.json'),
    segments: [],
    inTurn: (work) => work(),
  })
}

function write(spool: Spool, position: number, bytes: Buffer): Promise<void> {
  return spool.write(position, [bytes.subarray(0, 10), bytes.subarray(10)])
}

async function claimed(): Promise<Segments> {
  const map: SpoolMap = JSON.parse(await readFile(join(folder.path, 'spool.json'), 'utf8'))
  return new Segments(map.segments)
}

describe('a spool', () => {
  it('gives back what was written, wherever', async () => {
    const spool = makeSpool(10 * MiB)
    const bytes = someBytes(300 * KiB)
    await write(spool, 5 * MiB, bytes)
    const buffer = Buffer.alloc(bytes.length)

    const count = await spool.read(buffer, bytes.length, 5 * MiB)

    expect(buffer.subarray(0, count).equals(bytes.subarray(0, count))).toBe(true)
    expect(spool.held.list()).toEqual([[5 * MiB, 5 * MiB + bytes.length]])
    spool.release()
  })

  it('never claims a byte that was not synced before, and is never more than one interval behind', async () => {
    const spool = makeSpool(4 * SYNC_BYTES)
    const bytes = someBytes(4 * MiB)
    const positions = Array.from({ length: 50 }, (_, index) => ((index * 7) % 50) * 4 * MiB)

    for (const [count, position] of positions.entries()) {
      await write(spool, position, bytes)
      const map = await claimed().catch(() => new Segments())
      const wrong = map.list().filter(([start, end]) => synced.runEnd(start) < end)
      expect(wrong).toEqual([])
      expect((count + 1) * bytes.length - map.bytes).toBeLessThanOrEqual(SYNC_BYTES + bytes.length)
    }
    await spool.save()
    expect((await claimed()).list()).toEqual(spool.held.list())
    spool.release()
  })

  it('takes no more bytes after a sync has failed: what it was to keep may be lost', async () => {
    const spool = makeSpool(4 * SYNC_BYTES)
    failSync = true
    const bytes = someBytes(4 * MiB)

    const writing = async () => {
      for (let position = 0; position < 3 * SYNC_BYTES; position += bytes.length) {
        await write(spool, position, bytes)
      }
    }

    await expect(writing()).rejects.toMatchObject({ name: 'StoreError', kind: 'io' })
    await expect(spool.save()).rejects.toMatchObject({ name: 'StoreError' })
    spool.release()
  })

  it('is readable for those who retain it after its names are gone', async () => {
    const spool = makeSpool(MiB)
    await write(spool, 0, someBytes(100))
    await spool.save()
    const leave = spool.retain()

    await spool.discard()
    spool.release()

    expect(await spool.read(Buffer.alloc(100), 100, 0)).toBe(100)
    await expect(stat(spool.path)).rejects.toMatchObject({ code: 'ENOENT' })
    await expect(claimed()).rejects.toMatchObject({ code: 'ENOENT' })
    leave()
    await expect(spool.read(Buffer.alloc(1), 1, 0)).rejects.toMatchObject({ kind: 'io' })
  })

  it('writes no map after it was discarded, whatever was under way', async () => {
    const spool = makeSpool(MiB)
    await write(spool, 0, someBytes(100))
    const saving = spool.save()

    await spool.discard()
    await saving

    await expect(claimed()).rejects.toMatchObject({ code: 'ENOENT' })
    spool.release()
  })
})
