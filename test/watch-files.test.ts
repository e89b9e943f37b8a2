import { mkdir, rename, rm, symlink, unlink, utimes } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type WatchOptions, watchFiles } from '../src/lifecycle.ts'
import { type TempFolder, tempFolder } from './support/temp.ts'
import { until } from './support/wait.ts'

/** Far beyond any test: only events can tell of a change. */
const NO_POLL = 3_600_000

describe('watching files', () => {
  let folder: TempFolder
  let changes: string[]
  let stack: DisposableStack
  beforeEach(async () => {
    folder = await tempFolder('watch')
    changes = []
    stack = new DisposableStack()
  })
  afterEach(async () => {
    stack.dispose()
    await folder[Symbol.asyncDispose]()
  })

  function start(paths: readonly string[], options: WatchOptions = {}): Disposable {
    const onChange = (changed: readonly string[]) => void changes.push(...changed)
    return stack.use(watchFiles(paths, onChange, { pollMs: NO_POLL, settleMs: 10, ...options }))
  }
  /** In one step, as whoever replaces a certificate should: no half-written file is ever seen. */
  const put = async (name: string, content: string) =>
    rename(await folder.write('incoming', content), join(folder.path, name))
  const change = (count: number) => until(() => changes.length >= count, { what: `${count} changes` })

  it('tells of a file that is written again or replaced', async () => {
    const file = await folder.write('tls.crt', 'one')
    start([file])

    await folder.write('tls.crt', 'two, in place')
    await change(1)
    const inPlace = changes.length
    await put('tls.crt', 'three')
    await change(inPlace + 1)

    expect(new Set(changes)).toEqual(new Set([file]))
  })

  it("sees Kubernetes swap the folder behind a secret's symbolic link, for all its files at once", async () => {
    await folder.write('..2026_1/tls.crt', 'one')
    await folder.write('..2026_1/tls.key', 'one')
    await symlink('..2026_1', join(folder.path, '..data'))
    const files = [join(folder.path, 'tls.crt'), join(folder.path, 'tls.key')]
    for (const file of files) await symlink(`..data/${file.slice(-7)}`, file)
    const calls: (readonly string[])[] = []
    stack.use(watchFiles(files, (changed) => void calls.push(changed), { pollMs: NO_POLL, settleMs: 50 }))

    await folder.write('..2026_2/tls.crt', 'two')
    await folder.write('..2026_2/tls.key', 'two')
    await symlink('..2026_2', join(folder.path, '..data_tmp'))
    await rename(join(folder.path, '..data_tmp'), join(folder.path, '..data'))

    await until(() => calls.flat().length >= 2, { what: 'both files' })
    expect(calls.flat().sort()).toEqual(files)
  })

  it('says nothing of other files in the folder, nor of a file that is only gone', async () => {
    const file = await folder.write('a.key', 'one')
    const last = await folder.write('z.key', 'one')
    start([file, last])

    await folder.write('other', 'new')
    await unlink(file)
    await put('z.key', 'two')
    await change(1)

    expect(changes).toEqual([last])
  })

  it('tells of a file that comes back different, and not of the same one', async () => {
    const file = await folder.write('a.key', 'one')
    const away = join(folder.path, 'away')
    start([file])

    await rename(file, away)
    await rename(away, file)
    await folder.write('b.key', 'unrelated')
    await unlink(file)
    await put('a.key', 'two!')
    await change(1)

    expect(changes).toEqual([file])
  })

  it('finds by its poll what no event could tell', async () => {
    const file = join(folder.path, 'later', 'a.key')
    start([file], { pollMs: 10 })

    await mkdir(join(folder.path, 'later'))
    await put('later/a.key', 'one')
    await change(1)
    await rm(join(folder.path, 'later'), { recursive: true })
    await mkdir(join(folder.path, 'later'))
    await put('later/a.key', 'one')
    await change(2)
    await utimes(file, 1, 1)
    await change(3)
  })

  it('is over when disposed of', async () => {
    const file = await folder.write('a.key', 'one')
    const other: string[] = []
    start([file], { pollMs: 5 })[Symbol.dispose]()
    stack.use(watchFiles([file], (changed) => void other.push(...changed), { pollMs: 5, settleMs: 5 }))

    await put('a.key', 'two')
    await until(() => other.length > 0, { what: 'the other watcher to see it' })

    expect(changes).toEqual([])
  })
})
