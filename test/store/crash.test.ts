/** Law 1: kill -9 of a process that is writing, at random moments, again and again on the same folder. */
import { createReadStream } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { algorithmOf, createDigester, parseDigest } from '../../src/oci/digest.ts'
import { createStorePaths } from '../../src/store/paths.ts'
import { startProgram } from '../support/process.ts'
import { tempFolder } from '../support/temp.ts'
import { until } from '../support/wait.ts'
import { nameOf, storeFixture, tagOf } from './store-fixture.ts'

const WRITER = join(import.meta.dirname, 'writer.ts')
const KILLS = 25
const name = nameOf('team/app')

describe('a store whose process is killed', () => {
  it('shows nothing that does not match its digest, and everything it has acknowledged', async () => {
    await using folder = await tempFolder('crash')
    const random = seeded(20_251_122)
    let checkedBlobs = 0
    for (let kill = 0; kill < KILLS; kill++) {
      const said: string[] = []
      await using writer = await startProgram(process.execPath, [WRITER, folder.path, `kill ${kill}`], {
        onLine: (line) => said.push(line),
      })
      await until(() => said.length > 0 || writer.exit !== undefined, { what: 'the writer to write' })
      await delay(random() * 60)
      await writer.kill()
      expect(said, writer.logs()).not.toEqual([])

      checkedBlobs = await expectEveryBlobToMatch(folder.path)
      await expectEveryLinkToLead(folder.path)
      await expectAcknowledged(folder.path, said)
    }
    expect(checkedBlobs).toBeGreaterThan(KILLS)
  }, 240_000)
})

async function expectEveryBlobToMatch(root: string): Promise<number> {
  const files = await filesBelow(createStorePaths(root).blobs)
  for (const path of files) {
    const [algorithm, , hex, file] = path.split('/').slice(-4)
    const digest = parseDigest(`${algorithm}:${hex}`)
    if (!digest || file !== 'data') throw new Error(`${path} is no place for a blob`)
    const digester = createDigester(algorithmOf(digest))
    for await (const chunk of createReadStream(path)) digester.update(chunk as Buffer)
    expect(digester.digest()).toBe(digest)
  }
  return files.length
}

async function expectEveryLinkToLead(root: string): Promise<void> {
  const paths = createStorePaths(root)
  const blobs = new Set(await filesBelow(paths.blobs))
  for (const path of await filesBelow(paths.repositories)) {
    const digest = parseDigest(await readFile(path, 'utf8'))
    expect(digest, path).toBeDefined()
    if (digest) expect(blobs, path).toContain(paths.blob(digest))
  }
}

/** The last word on each thing; a change that was under way when the process died may have come after it. */
async function expectAcknowledged(root: string, said: readonly string[]): Promise<void> {
  await using fixture = await storeFixture({}, root)
  const { index } = fixture.store
  for (const line of said) {
    const [what, ...words] = line.split(' ')
    const digest = parseDigest(words.at(-1) ?? '')
    if (what === 'blob' && digest) expect(await index.link(name, 'layer', digest), line).toBeDefined()
    if (what === 'hide' && digest) expect(await index.link(name, 'manifest', digest), line).toBeUndefined()
    if (what === 'tag' && digest && !said.includes(line.replace('tag', 'hide')) && !isLast(said, line)) {
      expect(await index.link(name, 'manifest', digest), line).toBeDefined()
    }
  }
  const last = new Map(said.filter(isTagWord).map((line) => [line.split(' ')[1] ?? '', line]))
  for (const [tag, line] of last) {
    const held = await index.tag(name, tagOf(tag))
    if (line.startsWith('hide')) expect(held?.digest, line).not.toBe(line.split(' ')[2])
    if (line.startsWith('tag') && !isLast(said, line)) expect(held, line).toBeDefined()
  }
}

function isTagWord(line: string): boolean {
  return line.startsWith('tag ') || line.startsWith('hide ')
}

/** Whether what follows, unsaid, may already undo what this line says. */
function isLast(said: readonly string[], line: string): boolean {
  return said.filter(isTagWord).at(-1) === line
}

async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name))
}

/** Mulberry32: the same moments in every run, as far as a kernel allows. */
function seeded(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
