/** Law 1: the recorded calls of a writing process are replayed on a disk that loses what was not synced. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { type Digest, parseDigest } from '../../src/oci/digest.ts'
import { createStorePaths, linkEntry, type StorePaths, tagEntry } from '../../src/store/paths.ts'
import { runProgram } from '../support/process.ts'
import { tempFolder } from '../support/temp.ts'
import { createDiskModel, type DiskModel, type FoundFile } from './disk-model.ts'
import { parseRecordedCalls, type RecordedCall, STRACE_OPTIONS } from './recorded-calls.ts'
import { nameOf, tagOf } from './store-fixture.ts'

const WRITER = join(import.meta.dirname, 'writer.ts')
const ROUNDS = 12
const name = nameOf('team/app')

describe('a store after a power cut', () => {
  let paths: StorePaths
  let calls: RecordedCall[]
  beforeAll(async () => {
    await using folder = await tempFolder('durability')
    const [root, trace] = [join(folder.path, 'root'), join(folder.path, 'trace')]
    const writer = [process.execPath, WRITER, root, 'traced', String(ROUNDS)]
    await runProgram('strace', [...STRACE_OPTIONS, '-o', trace, ...writer])
    paths = createStorePaths(root)
    calls = parseRecordedCalls(await readFile(trace, 'utf8'), root)
  })

  /** Replays all calls and looks at the disk behind each; the kernel may write back every so many calls. */
  function replay(look: (disk: DiskModel, call: RecordedCall) => void, writeBackEvery = Infinity): void {
    const disk = createDiskModel(paths.root)
    for (const [index, call] of calls.entries()) {
      disk.apply(call)
      if (index % writeBackEvery === writeBackEvery - 1) disk.writeBack()
      look(disk, call)
    }
  }

  it('was recorded with everything that the writer said it did', () => {
    const said = calls.flatMap((call) => (call.kind === 'said' ? [call.line.split(' ')[0]] : []))

    expect(said.filter((what) => what === 'blob')).toHaveLength(ROUNDS * 2)
    expect(said.filter((what) => what === 'tag')).toHaveLength(ROUNDS)
    expect(said.filter((what) => what === 'hide')).toHaveLength(ROUNDS / 4)
    expect(said.filter((what) => what === 'doubt')).toHaveLength(ROUNDS / 4)
    expect(said.filter((what) => what === 'expire')).toHaveLength(ROUNDS / 4)
    expect(said.filter((what) => what === 'drop')).toHaveLength(ROUNDS / 4)
  })

  it.each([
    ['every name but no unsynced byte survived', () => () => 'seen' as const],
    ['only synced names survived', () => () => 'synced' as const],
    [
      'some names survived',
      (step: number) => (path: string) => (coin(`${step} ${path}`) ? 'seen' : 'synced'),
    ],
    [
      'other names survived',
      (step: number) => (path: string) => (coin(`${path} ${step}`) ? 'synced' : 'seen'),
    ],
  ] as const)('shows nothing half-written, and no link without its blob, when %s', (_what, survival) => {
    let step = 0
    let seenLinks = 0
    const foreign = new Set<string>()
    replay((disk, call) => {
      step += 1
      if (call.kind === 'said') {
        const [what, digest = ''] = call.line.split(' ')
        const layer = parseDigest(digest)
        if (!layer) return
        const link = paths.link(name, linkEntry('layer', layer))
        for (const path of [paths.blob(layer), link]) {
          if (what === 'foreign') foreign.add(path)
          else foreign.delete(path)
        }
      }
      if (call.kind === 'said' || call.kind === 'sync-begins') return
      // Another registry's half-written files are its own affair until we have confirmed them.
      const found = disk.afterPowerCut(survival(step)).filter(({ path }) => !foreign.has(path))
      seenLinks += expectSound(found, paths)
    })
    expect(seenLinks).toBeGreaterThan(100)
  })

  it('still has all that was acknowledged before it', () => {
    const standing = new Map<string, string>()
    replay((disk, call) => {
      if (call.kind !== 'said') return
      const [what = '', ...words] = call.line.split(' ')
      const digest = parseDigest(words.at(-1) ?? '')
      if (what === 'blob' && digest) standing.set(paths.link(name, linkEntry('layer', digest)), digest)
      if (what === 'tag' && digest) {
        standing.set(paths.tagLink(name, tagOf(words[0] ?? '')), digest)
        standing.set(paths.link(name, linkEntry('manifest', digest)), digest)
      }
      if (what === 'hide' && digest) {
        standing.delete(paths.tagLink(name, tagOf(words[0] ?? '')))
        standing.delete(paths.link(name, linkEntry('manifest', digest)))
      }
      const found = new Map(disk.afterPowerCut(() => 'synced').map((file) => [file.path, file.text]))
      for (const [path, text] of standing) {
        // A tag that the next round is about to move may already have moved.
        if (path.includes('/tags/')) expect(found.get(path), `${call.line}: ${path}`).toBeDefined()
        else expect(found.get(path), `${call.line}: ${path}`).toBe(text)
      }
    })
    expect(standing.size).toBeGreaterThan(ROUNDS)
  })

  it('never finds what was hidden, nor a confirmation of what was hidden or doubted', () => {
    let looked = 0
    const look = (disk: DiskModel, call: RecordedCall) => {
      if (call.kind !== 'said') return
      const [what = '', tag = '', text = ''] = call.line.split(' ')
      const digest = parseDigest(text)
      const gone = [
        ...(what === 'doubt' || what === 'hide' ? [paths.confirmation(name, tagEntry(tagOf(tag)))] : []),
        ...(what === 'hide' && digest ? hiddenPaths(tag, digest) : []),
      ]
      for (const survival of ['seen', 'synced'] as const) {
        const found = disk.afterPowerCut(() => survival).map((file) => file.path)
        for (const path of gone) expect(found, call.line).not.toContain(path)
        if (what === 'hide' && digest) expectKept(found, tag, digest)
      }
      looked += gone.length
    }
    for (const writeBackEvery of [1, 2, 3, 5, 7, 11, 13, Infinity]) replay(look, writeBackEvery)
    expect(looked).toBeGreaterThan(ROUNDS)
  })

  it('never finds a fresh confirmation of what was expired, nor a mark of completeness that was dropped', () => {
    let looked = 0
    const expired = new Set<Digest>()
    const look = (disk: DiskModel, call: RecordedCall) => {
      if (call.kind !== 'said') return
      const [what = '', text = ''] = call.line.split(' ')
      const digest = parseDigest(text)
      if (what === 'expire' && digest) expired.add(digest)
      for (const survival of ['seen', 'synced'] as const) {
        const found = new Map(disk.afterPowerCut(() => survival).map((file) => [file.path, file.text]))
        for (const one of expired) {
          expect(found.get(paths.confirmation(name, linkEntry('manifest', one))), call.line).toMatch(/ 0*1$/)
          looked += 1
        }
        if (what === 'drop') expect(found.has(paths.complete(name)), call.line).toBe(false)
      }
    }
    for (const writeBackEvery of [1, 2, 3, 5, 7, Infinity]) {
      expired.clear()
      replay(look, writeBackEvery)
    }
    expect(looked).toBeGreaterThan(ROUNDS)
  })

  /** What is hidden can be had back, also after a power cut. */
  function expectKept(found: readonly string[], tag: string, digest: Digest): void {
    const hidden = found.filter((path) => path.startsWith(paths.hidden))
    for (const path of [paths.tagLink(name, tagOf(tag)), paths.link(name, linkEntry('manifest', digest))]) {
      expect(hidden.some((kept) => kept.endsWith(path.slice(paths.root.length)))).toBe(true)
    }
  }

  function hiddenPaths(tag: string, digest: Digest): string[] {
    const manifest = linkEntry('manifest', digest)
    return [paths.tagLink(name, tagOf(tag)), paths.link(name, manifest), paths.confirmation(name, manifest)]
  }
})

/** The number of links looked at. */
function expectSound(found: readonly FoundFile[], paths: StorePaths): number {
  const published = found.filter(({ path }) => path.startsWith(`${paths.root}/docker/`))
  expect(published.filter(({ complete }) => !complete)).toEqual([])
  const visible = new Set(found.map(({ path }) => path))
  const links = published.filter(({ path }) => path.endsWith('/link'))
  for (const { path, text } of links) {
    const digest = parseDigest(text)
    if (!digest) throw new Error(`${path} holds ${JSON.stringify(text)}`)
    if (!visible.has(paths.blob(digest))) throw new Error(`${path} names a blob that is not there`)
    if (path.endsWith('/current/link') && !visible.has(paths.link(name, linkEntry('manifest', digest)))) {
      throw new Error(`${path} names a manifest that is not linked`)
    }
  }
  for (const { path, text } of found.filter(({ path }) => path.startsWith(paths.hidden))) {
    const digest = path.includes('/revisions/') ? parseDigest(text) : undefined
    if (digest && visible.has(paths.confirmation(name, linkEntry('manifest', digest)))) {
      throw new Error(`${digest} is hidden but still confirmed`)
    }
  }
  return links.length
}

/** The same for the same text in every run. */
function coin(text: string): boolean {
  let hash = 0
  for (const letter of text) hash = (Math.imul(hash, 31) + letter.charCodeAt(0)) | 0
  return ((hash ^ (hash >>> 7)) & 1) === 1
}
