/** What is left of the relay's log after a crash, and what is no crash but damage. */
import { copyFile, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { crc32 } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { startProgram } from '../../support/process.ts'
import { tempFolder } from '../../support/temp.ts'
import { until } from '../../support/wait.ts'
import { contentOf, damage, newestSegment, noticeOf, openLog, segmentsOf } from './log-fixture.ts'

const APPENDING = join(import.meta.dirname, 'appending-process.ts')
const KILLS = 8

describe('a relay that is killed', () => {
  it('has every record that it acknowledged, under its number, and no gaps', async () => {
    await using folder = await tempFolder('relay-log-kill')
    const said = new Set<string>()
    const ids = new Set<string>()
    for (let kill = 0; kill < KILLS; kill++) {
      let lines = 0
      await using program = await startProgram(process.execPath, [APPENDING, folder.path, `run${kill}`], {
        onLine: (line) => {
          said.add(line)
          lines += 1
        },
      })
      await until(() => lines > 20, { what: 'records to be acknowledged' })
      await delay((kill * 53) % 200)
      await program.kill()

      await using log = await openLog(folder.path)
      ids.add(log.id)
      const content = await contentOf(log)
      expect(said.difference(new Set(content))).toEqual(new Set())
      expect(content.length).toBe(log.last)
    }
    expect(ids.size).toBe(1)
    expect((await segmentsOf(folder.path)).length).toBeGreaterThan(1)
  }, 120_000)
})

describe('the end of the log', () => {
  /** Three records, of which the clock says that the first was acknowledged. */
  async function threeRecords(folder: string): Promise<void> {
    const log = await openLog(folder)
    await log.append([noticeOf('a')])
    await log.touch()
    await copyFile(join(folder, 'clock'), join(folder, 'kept'))
    await log.append([noticeOf('b')])
    await log.append([noticeOf('c')])
    await log.close()
    await copyFile(join(folder, 'kept'), join(folder, 'clock'))
  }

  it('is cut at the last whole record, wherever a write was torn, and goes on from there', async () => {
    await using folder = await tempFolder('relay-log-torn')
    await threeRecords(folder.path)
    const path = await newestSegment(folder.path)
    const whole = await readFile(path)
    const ends = [...whole.toString('latin1').matchAll(/\n/g)].map(({ index }) => index + 1)
    const [, second = 0, third = 0, fourth = 0] = ends
    expect(fourth).toBe(whole.length)

    for (let length = second; length < whole.length; length++) {
      await writeFile(path, whole.subarray(0, length))
      const lines: string[] = []
      await using log = await openLog(folder.path, { lines })
      expect(log.last, `of ${length} bytes`).toBe(length < third ? 1 : 2)
      expect(lines.join().includes('is cut'), `of ${length} bytes`).toBe(
        length !== second && length !== third,
      )
      if (length % 16 === 0) {
        expect(await log.append([noticeOf('d')])).toBe(log.last)
        expect((await contentOf(log)).at(-1)).toBe(`${log.last} d`)
      }
      await log.close()
      await copyFile(join(folder.path, 'kept'), join(folder.path, 'clock'))
    }
  })

  it.each([
    ['zeros', (end: Buffer) => end.fill(0)],
    ['garbage', (end: Buffer) => end.fill('x')],
    ['garbage in lines', (end: Buffer) => end.fill('x\n')],
    ['a hole before a whole record', (end: Buffer) => end.fill(0, 0, 100)],
    ['a flipped bit', (end: Buffer) => end.fill(end.readUInt8(60) ^ 1, 60, 61)],
  ])('is cut where a crash left %s of what was never acknowledged', async (_name, spoil) => {
    await using folder = await tempFolder('relay-log-torn')
    await threeRecords(folder.path)
    const log = await openLog(folder.path)
    const path = await newestSegment(folder.path)
    const { size } = await stat(path)
    // One write, so that neither record says of the other that it was acknowledged.
    await Promise.all([log.append([noticeOf('d')]), log.append([noticeOf('e')])])
    await log.close()
    await copyFile(join(folder.path, 'kept'), join(folder.path, 'clock'))
    await damage(path, (bytes) => {
      spoil(bytes.subarray(size))
      return bytes
    })

    await using again = await openLog(folder.path)

    expect(await contentOf(again)).toEqual(['1 a', '2 b', '3 c'])
    expect((await stat(path)).size).toBe(size)
    expect(await again.append([noticeOf('f')])).toBe(4)
  })

  it('that was a long stretch of nothing is cut without being taken into memory', async () => {
    await using folder = await tempFolder('relay-log-torn')
    await threeRecords(folder.path)
    const path = await newestSegment(folder.path)
    const { size } = await stat(path)
    await truncate(path, size + 64 * 1024 * 1024)

    await using log = await openLog(folder.path)

    expect([log.last, (await stat(path)).size]).toEqual([3, size])
  })
})

describe('a log that lost what it had acknowledged', () => {
  const openDamaged = (folder: string) => expect(openLog(folder)).rejects

  async function manySegments(folder: string): Promise<string[]> {
    const log = await openLog(folder, { segmentBytes: 2000 })
    for (let index = 0; index < 50; index++) await log.append([noticeOf(`e${index}`)])
    await log.close()
    return await segmentsOf(folder)
  }

  it.each([
    ['a record in the middle of a segment', 1, (bytes: Buffer) => bytes.fill('x', 500, 501)],
    ['the end of a segment', 1, (bytes: Buffer) => bytes.subarray(0, -30)],
    ['a record of the newest segment', -1, (bytes: Buffer) => bytes.fill('x', 200, 201)],
    ['its last record', -1, (bytes: Buffer) => bytes.subarray(0, -1)],
    ['the head of a segment', 1, (bytes: Buffer) => bytes.fill('x', 5, 6)],
    ['all of a segment', -1, () => Buffer.alloc(0)],
    ['a line of a segment', 1, (bytes: Buffer) => bytes.subarray(bytes.indexOf('\n', 300))],
  ])('(%s) does not open, and says what to do', async (_name, at, change) => {
    await using folder = await tempFolder('relay-log-damage')
    const path = (await manySegments(folder.path)).at(at) ?? expect.unreachable()
    await damage(path, change)
    const before = await readFile(path)

    await openDamaged(folder.path).toThrow(/damaged: .*\. Bring back the folder as it was, or move it away/)

    expect(await readFile(path)).toEqual(before)
  })

  it.each([
    ['a byte', 1],
    ['300 KB', 300_000],
  ])(
    'does not open even where nothing but a later record says that it had (%s is lost)',
    async (_name, bytes) => {
      await using folder = await tempFolder('relay-log-damage')
      const log = await openLog(folder.path)
      const many = Array.from({ length: 2000 }, (_, index) => noticeOf(`e${index}`))
      await log.append(many)
      await log.append([noticeOf('later')])
      await log.close()
      await rm(join(folder.path, 'clock'))
      await damage(await newestSegment(folder.path), (whole) => whole.fill(0, 200, 200 + bytes))

      await openDamaged(folder.path).toThrow('record 1, at byte')
    },
  )

  it('does not open where a segment is missing, in the middle or at the end', async () => {
    await using folder = await tempFolder('relay-log-damage')
    const paths = await manySegments(folder.path)
    await rm(paths.at(-1) ?? '')
    await openDamaged(folder.path).toThrow(/records \d+ to 50 were acknowledged/)
    await rm(paths.at(-3) ?? '')
    await openDamaged(folder.path).toThrow(/damaged: .* goes on after/)
  })

  it('does not open with a segment of another log in it', async () => {
    await using folder = await tempFolder('relay-log-damage')
    await using other = await tempFolder('relay-log-damage')
    const [path = ''] = (await manySegments(folder.path)).slice(3)
    const [foreign = ''] = (await manySegments(other.path)).slice(3)
    await copyFile(foreign, path)

    await openDamaged(folder.path).toThrow('of another log')
  })

  it('does not open what a later version wrote, and says which', async () => {
    await using folder = await tempFolder('relay-log-damage')
    const fields = '"v":2,"log":"x"}'
    const line = `{"crc":"${crc32(fields).toString(16).padStart(8, '0')}",${fields}\n`
    await folder.write('0000000000000000.log', line)

    await openDamaged(folder.path).toThrow(/format 2, this one knows 1/)
  })

  it('begins another log once its folder is away', async () => {
    await using folder = await tempFolder('relay-log-damage')
    const log = await openLog(folder.path)
    const { id } = log
    await log.append([noticeOf('a')])
    await log.close()
    await rm(folder.path, { recursive: true })

    await using again = await openLog(folder.path)

    expect([again.last, again.id === id]).toEqual([0, false])
  })
})
