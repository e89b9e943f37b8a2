/** Spools that several processes share: a file has one writer, ever, and nothing that can be gone on with is lost. */
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { FillState } from '../../src/fill/fill-state.ts'
import { openSharedSpools } from '../../src/fill/shared-spools.ts'
import type { Spool } from '../../src/fill/spool.ts'
import { openSpools, type Spools } from '../../src/fill/spools.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { type TempFolder, tempFolder } from '../support/temp.ts'
import { until } from '../support/wait.ts'
import { KiB, MiB, someBytes } from './fill-fixture.ts'

const DIGEST = digestOf(Buffer.from('any'))
const SIZE = 3 * MiB
const nobody = () => false

let folder: TempFolder
let spools: Spools
let opened: Spool[]
beforeEach(async () => {
  folder = await tempFolder('spools')
  spools = await openSharedSpools(folder.path, async () => false)
  opened = []
})
afterEach(async () => {
  for (const spool of opened) spool.release()
  await folder[Symbol.asyncDispose]()
})

async function create(): Promise<Spool> {
  const spool = (await spools.create(DIGEST))(SIZE)
  opened.push(spool)
  return spool
}

async function resume(left?: FillState): Promise<Spool | undefined> {
  const spool = await spools.resume(DIGEST, left)
  if (spool) opened.push(spool)
  return spool
}

function toldOf(spool: Spool): FillState {
  const held = spool.held.list()
  return { file: basename(spool.path), sizeBytes: SIZE, held, taken: held, far: [], verified: false }
}

async function readAll(spool: Spool | undefined, start: number, end: number): Promise<Buffer> {
  const bytes = Buffer.alloc(end - start)
  for (let position = start; position < end; ) {
    const part = bytes.subarray(position - start)
    position += (await spool?.read(part, part.length, position)) ?? Number.NaN
  }
  return bytes
}

describe('a spool that was put away', () => {
  it('is taken over as it lies, by one process', async () => {
    const bytes = someBytes(MiB)
    const first = await create()
    await first.write(500 * KiB, [bytes])
    await first.keep()

    const [one, two] = await Promise.all([spools.resume(DIGEST), spools.resume(DIGEST)])

    opened.push(...[one, two].flatMap((spool) => spool ?? []))
    const written = [one, two].filter((spool) => spool?.path === first.path)
    expect(written).toHaveLength(1)
    expect(written[0]?.held.list()).toEqual([[500 * KiB, 500 * KiB + MiB]])
    expect((await readAll(written[0], 500 * KiB, 500 * KiB + MiB)).equals(bytes)).toBe(true)
  })

  it('goes back when nothing comes of it', async () => {
    const first = await create()
    await first.write(0, [someBytes(1000)])
    await first.keep()
    const second = await resume()

    await second?.putBack()

    expect((await resume())?.path).toBe(first.path)
  })
})

describe('a spool whose process is gone', () => {
  it('is copied, since the process may only be asleep: what it writes then reaches nobody', async () => {
    const bytes = someBytes(MiB)
    const asleep = await create()
    await asleep.write(0, [bytes])
    await asleep.save()

    const copy = await resume()
    await asleep.write(0, [Buffer.alloc(MiB)])
    await asleep.write(MiB, [someBytes(MiB)])

    expect(copy?.path).not.toBe(asleep.path)
    expect(copy?.held.list()).toEqual([[0, MiB]])
    expect((await readAll(copy, 0, MiB)).equals(bytes)).toBe(true)
  })

  it('is gone on with where it told others that it was, which is further than its map says', async () => {
    const bytes = someBytes(2 * MiB)
    const killed = await create()
    await killed.write(0, [bytes.subarray(0, MiB)])
    await killed.save()
    await killed.write(2 * MiB, [bytes.subarray(MiB)])

    const copy = await resume(toldOf(killed))

    expect(copy?.held.list()).toEqual([
      [0, MiB],
      [2 * MiB, 3 * MiB],
    ])
    expect((await readAll(copy, 2 * MiB, 3 * MiB)).equals(bytes.subarray(MiB))).toBe(true)
  })

  it('is gone on with from its map when what it told of is not in the file', async () => {
    const killed = await create()
    await killed.write(0, [someBytes(1000)])
    await killed.save()

    const copy = await resume({ ...toldOf(killed), held: [[0, 2 * MiB]] })

    expect(copy?.held.list()).toEqual([[0, 1000]])
  })

  it('is removed once its copy is on the disk, and leaves nothing when it wakes to put it away', async () => {
    const asleep = await create()
    await asleep.write(0, [someBytes(1000)])
    await asleep.save()
    const copy = await resume()
    const own = basename(copy?.path ?? '')
    await until(async () => (await readdir(folder.path)).length === 2, { what: 'the original to be gone' })

    await asleep.keep()

    expect((await readdir(folder.path)).sort((a, b) => a.localeCompare(b))).toEqual([
      own,
      own.replace('.data', '.json'),
    ])
  })

  it('that never got to write a map is not gone on with', async () => {
    const killed = await create()
    await killed.write(0, [someBytes(1000)])

    expect(await resume()).toBeUndefined()
  })
})

describe('a sweep', () => {
  it('removes what nobody can go on with, and keeps what another process may', async () => {
    const orphan = await create()
    await orphan.write(0, [someBytes(1000)])
    const kept = (await spools.create(digestOf(Buffer.from('kept'))))(SIZE)
    await kept.write(0, [someBytes(1000)])
    await kept.keep()
    kept.release()

    await spools.sweep((digest) => digest === DIGEST)
    expect(await readdir(folder.path)).toContain(basename(orphan.path))
    await spools.sweep(nobody)

    expect(await readdir(folder.path)).not.toContain(basename(orphan.path))
    expect(await readdir(folder.path)).toContain(basename(kept.path))
  })

  it('of a site that has become one process removes what several left, once it is a day old', async () => {
    const left = await create()
    await left.write(0, [someBytes(1000)])
    await left.save()
    const alone = await openSpools(folder.path)
    await alone.sweep(nobody)
    expect(await readdir(folder.path)).toHaveLength(2)
    const mapPath = left.path.replace(/data$/, 'json')
    const map = JSON.parse(await readFile(mapPath, 'utf8'))
    const yesterday = new Date(Date.now() - 25 * 60 * 60 * 1000)
    await writeFile(mapPath, JSON.stringify({ ...map, updatedAt: yesterday.toISOString() }))

    await alone.sweep(nobody)

    expect(await readdir(folder.path)).toEqual([])
  })
})
