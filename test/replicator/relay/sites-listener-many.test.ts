/** Many sites, many events, and a relay that is killed under them. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { until } from '../../support/wait.ts'
import { type ListeningRelay, startListeningRelay, TOKENS } from './listening-relay.ts'
import { noticeOf } from './log-fixture.ts'

let owned: AsyncDisposableStack
beforeEach(() => {
  owned = new AsyncDisposableStack()
})
afterEach(() => owned.disposeAsync())

const start = async (...args: Parameters<typeof startListeningRelay>): Promise<ListeningRelay> =>
  owned.use(await startListeningRelay(...args))

/** Reads to a number, page after page, as a site does. */
async function follow(relay: ListeningRelay, token: string, to: number): Promise<string[]> {
  const ids: string[] = []
  for (let after = 0; after < to; ) {
    const { status, page } = await relay.ask(`after=${after}&wait=5000`, {
      authorization: `Bearer ${token}`,
      'accept-encoding': 'gzip',
    })
    expect(status).toBe(200)
    for (const { number, notice } of page.records) {
      expect(number).toBe(after + 1)
      after = number
      ids.push(notice.id)
    }
    expect(page.through).toBe(after)
  }
  return ids
}

describe('a storm of events', () => {
  it('reaches every site whole and in order, those that come late from disk', async () => {
    const relay = await start({}, { memoryBytes: 300_000, segmentBytes: 500_000 })
    const sent = Array.from({ length: 10_000 }, (_, index) => `event-${index}`)

    const early = [follow(relay, TOKENS.berlin, sent.length), follow(relay, TOKENS.oslo, sent.length)]
    for (let start = 0; start < sent.length; start += 100) {
      await Promise.all(sent.slice(start, start + 100).map((id) => relay.log.append([noticeOf(id)])))
    }
    const [berlin, oslo] = await Promise.all(early)
    const late = await follow(relay, TOKENS.berlin, sent.length)

    expect(berlin).toEqual(sent)
    expect(oslo).toEqual(sent)
    expect(late).toEqual(sent)
    expect(relay.listener.sites().every(({ behind }) => behind !== undefined && behind <= 1000)).toBe(true)
  })
})

describe('a thousand questions that are held', () => {
  it('cost nothing while nothing happens, and all are answered when it does', async () => {
    const relay = await start({ maxRequestsPerSite: 2000, maxConnections: 2000 })
    const held = Array.from({ length: 1000 }, () => relay.ask('after=0&wait=25000'))
    await until(() => relay.listener.sites()[0]?.asking === 1000, {
      what: 'all to be held',
      deadlineMs: 30_000,
    })
    const cpu = process.cpuUsage()

    const pausedAt = performance.now()
    await until(() => performance.now() - pausedAt > 1000, { what: 'a second to pass' })
    const idle = process.cpuUsage(cpu)
    expect((idle.user + idle.system) / 1000).toBeLessThan(500)
    await relay.log.append([noticeOf('a')])

    const wokenAt = performance.now()
    const answers = await Promise.all(held)
    expect(performance.now() - wokenAt).toBeLessThan(10_000)
    expect(new Set(answers.map(({ page }) => page.records.map(({ number }) => number).join()))).toEqual(
      new Set(['1']),
    )
  })
})
