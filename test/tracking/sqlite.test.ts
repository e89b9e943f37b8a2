/** The tracking database of a site of one process: a file that survives whatever happens to that process. */
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { createLogger } from '../../src/log.ts'
import { openTracking } from '../../src/tracking/open-tracking.ts'
import { trackingContract } from '../contracts/tracking.contract.ts'
import { nameOf } from '../store/store-fixture.ts'
import { startProgram } from '../support/process.ts'
import { tempFolder } from '../support/temp.ts'
import { until } from '../support/wait.ts'
import { duePaths, LONG_MS, type TrackingSubject } from './tracking-fixture.ts'

const log = createLogger({ level: 'silent' })
const ACCEPTER = join(import.meta.dirname, 'accepter.ts')

async function makeSqlite(): Promise<TrackingSubject> {
  await using starting = new AsyncDisposableStack()
  const folder = starting.use(await tempFolder('tracking'))
  const file = join(folder.path, 'deep', 'tracking.db')
  const clock = { ms: Date.now() }
  const openOne = () => openTracking({ kind: 'sqlite', file }, { log, now: () => clock.ms })
  const tracking = starting.use(await openOne())
  const owned = starting.move()
  return {
    tracking,
    clock,
    open: async () => owned.use(await openOne()),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

describe('tracking in SQLite', () => {
  trackingContract(makeSqlite)

  it('has every event that was accepted when the process is killed, again and again', async () => {
    await using folder = await tempFolder('tracking-killed')
    const file = join(folder.path, 'tracking.db')
    const said: string[] = []
    for (let kill = 0; kill < 6; kill++) {
      const before = said.length
      await using accepter = await startProgram(process.execPath, [ACCEPTER, file, `run-${kill}`], {
        onLine: (line) => said.push(line),
      })
      await until(() => said.length > before + 20 || accepter.exit !== undefined, { what: 'events accepted' })
      await accepter.kill()
      expect(said.length, accepter.logs()).toBeGreaterThan(before + 20)

      await using tracking = await openTracking({ kind: 'sqlite', file }, { log })
      const kept = new Set<string>()
      for (const path of await duePaths(tracking, Date.now() + LONG_MS)) {
        for (const { id } of await tracking.pendingEvents(path)) kept.add(id)
      }
      expect(said.filter((id) => !kept.has(id))).toEqual([])
    }
  })

  it('is shared by two processes that both write as fast as they can', async () => {
    await using folder = await tempFolder('tracking-shared')
    const file = join(folder.path, 'tracking.db')
    const said: string[] = []
    const start = (run: string) =>
      startProgram(process.execPath, [ACCEPTER, file, run, '150'], { onLine: (line) => said.push(line) })
    await using one = await start('one')
    await using other = await start('other')

    expect(await Promise.all([one.exited, other.exited])).toEqual([
      { code: 0, signal: null },
      { code: 0, signal: null },
    ])

    await using tracking = await openTracking({ kind: 'sqlite', file }, { log })
    expect(said).toHaveLength(300)
    expect(await tracking.counts()).toMatchObject({ eventsPending: 300 })
    expect((await tracking.pendingEvents(nameOf('team/app-0'))).length).toBeGreaterThan(0)
  })

  it('lets the rest of the process have its turns while it is busy or waits for another', async () => {
    await using subject = await makeSqlite()
    await subject.tracking.discover([nameOf('team/app')])
    const other = await subject.open()
    let turns = 0
    const ticker = setInterval(() => {
      turns++
    }, 1)
    using _ticker = { [Symbol.dispose]: () => clearInterval(ticker) }

    const leases = await Promise.all([
      ...Array.from({ length: 40 }, () => subject.tracking.discover(manyNames())),
      ...Array.from({ length: 40 }, () => other.lease(nameOf('team/app'), LONG_MS)),
    ])

    expect(leases.filter((lease) => typeof lease === 'object')).toHaveLength(1)
    expect(turns).toBeGreaterThan(10)
  })

  it('says so when its file cannot be opened, and leaves nothing open', async () => {
    await using folder = await tempFolder('tracking-bad')
    const file = await folder.write(
      'tracking.db',
      'this is no database, and longer than a hundred bytes. '.repeat(9),
    )

    await expect(openTracking({ kind: 'sqlite', file }, { log })).rejects.toThrow(/not a database/)
    await expect(openTracking({ kind: 'sqlite', file: join(file, 'below') }, { log })).rejects.toThrow()
  })
})

function manyNames() {
  return Array.from({ length: 200 }, (_, index) => nameOf(`many/app-${index}`))
}
