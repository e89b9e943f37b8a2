/** The tracking database of a site of several processes: a server that comes and goes. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createLogger } from '../../src/log.ts'
import { openTracking } from '../../src/tracking/open-tracking.ts'
import { trackingContract } from '../contracts/tracking.contract.ts'
import { nameOf } from '../store/store-fixture.ts'
import { startLink } from '../support/link.ts'
import { type PostgresServer, startPostgres } from '../support/postgres.ts'
import { until } from '../support/wait.ts'
import { found, LONG_MS, leased, pushOf, synced, type TrackingSubject } from './tracking-fixture.ts'

const log = createLogger({ level: 'silent' })
const app = nameOf('team/app')

describe('tracking in Postgres', () => {
  let server: PostgresServer
  beforeAll(async () => {
    server = await startPostgres()
  })
  afterAll(() => server[Symbol.asyncDispose]())

  async function makePostgres(): Promise<TrackingSubject> {
    await using starting = new AsyncDisposableStack()
    const url = await server.createDatabase()
    const clock = { ms: Date.now() }
    const openOne = () => openTracking({ kind: 'postgres', url, poolSize: 5 }, { log, now: () => clock.ms })
    const tracking = starting.use(await openOne())
    const owned = starting.move()
    return {
      tracking,
      clock,
      open: async () => owned.use(await openOne()),
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    }
  }

  trackingContract(makePostgres)

  it('gives no lease that lives to a process whose clock is minutes ahead', async () => {
    await using subject = await makePostgres()
    const { tracking, clock } = subject
    const ahead = await subject.open()
    await tracking.discover([app])
    const lease = await leased(tracking, 'team/app', 60_000)

    clock.ms += 600_000

    expect(await ahead.lease(app, LONG_MS)).toBeUndefined()
    expect(await tracking.settle(lease, synced())).toBe('done')
  })
})

describe('tracking in a Postgres that goes away', () => {
  it('rejects what it is asked meanwhile, and goes on by itself when the server is back', async () => {
    await using server = await startPostgres({ durable: true })
    const url = await server.createDatabase()
    await using tracking = await openTracking({ kind: 'postgres', url }, { log })
    await tracking.accept([pushOf('team/app')])
    const lease = await leased(tracking, 'team/app')
    await Promise.all(Array.from({ length: 20 }, () => tracking.counts()))

    await server.kill()

    const asked = [
      () => tracking.accept([pushOf('team/app')]),
      () => tracking.counts(),
      () => tracking.due(Date.now(), 10),
      () => tracking.lease(app, LONG_MS),
      () => tracking.renew(lease, LONG_MS),
      () => tracking.settle(lease, synced()),
      () => tracking.setCursor('scrub', 'here'),
    ]
    for (const ask of asked) await expect(ask()).rejects.toThrow()
    await server.start()
    await until(() => tracking.counts(), { what: 'the database to answer' })
    expect(await tracking.pendingEvents(app)).toHaveLength(1)
    expect(await found(tracking, 'team/app')).toMatchObject({ state: 'started' })
    expect(await tracking.settle(lease, synced())).toBe('done')
    expect(await tracking.cursor('scrub')).toBeUndefined()
  })

  it('uses no connection again on which the server fell silent', async () => {
    await using server = await startPostgres()
    const direct = new URL(await server.createDatabase())
    await using link = await startLink({ target: direct.href })
    const url = Object.assign(new URL(direct), { port: String(link.port) }).href
    await using tracking = await openTracking({ kind: 'postgres', url, answerTimeoutMs: 500 }, { log })
    await Promise.all(Array.from({ length: 20 }, () => tracking.counts()))
    const before = link.counts().connections

    link.stall()
    await expect(tracking.find(app)).rejects.toThrow(/timeout/)
    await expect(tracking.accept([pushOf('team/app')])).rejects.toThrow(/timeout/)
    link.resume()

    await Promise.all(Array.from({ length: 30 }, () => tracking.find(app)))
    expect(await tracking.accept([pushOf('team/app')])).toEqual([app])
    expect(link.counts().connections).toBe(before + 2)
  })

  it('asks for the address again with each connection', async () => {
    await using first = await startPostgres()
    const firstUrl = await first.createDatabase()
    let url = firstUrl
    await using tracking = await openTracking({ kind: 'postgres', url: () => url }, { log })
    await using second = await startPostgres()
    url = await second.createDatabase()
    await using other = await openTracking({ kind: 'postgres', url }, { log })
    await other.discover([app])

    await first.stop()

    expect(await until(() => tracking.find(app), { what: 'the other server to be asked' })).toMatchObject({
      path: app,
    })
  })

  it('cannot be opened while there is none, and says why', async () => {
    const server = await startPostgres()
    const url = await server.createDatabase()
    await server[Symbol.asyncDispose]()

    await expect(openTracking({ kind: 'postgres', url }, { log })).rejects.toMatchObject({
      code: 'ECONNREFUSED',
    })
  })
})
