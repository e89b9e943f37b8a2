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

const appendMany = (relay: ListeningRelay, count: number, prefix = 'e') =>
  relay.log.append(Array.from({ length: count }, (_, index) => noticeOf(`${prefix}${index}`)))

const numbersOf = ({
  page,
}: {
  readonly page: { readonly records: readonly { readonly number: number }[] }
}) => page.records.map(({ number }) => number)

const isHeld = (relay: ListeningRelay) =>
  until(() => relay.listener.sites()[0]?.asking === 1, { what: 'the question to be held' })

describe('a site that asks for the log', () => {
  it('gets what follows the number it has, with all that is said of it', async () => {
    const relay = await start()
    await appendMany(relay, 5)

    const { status, headers, page } = await relay.ask('after=2')

    expect([status, headers['content-type']]).toEqual([200, 'application/json'])
    expect(page).toEqual({
      log: relay.log.id,
      records: [3, 4, 5].map((number) => ({ number, notice: noticeOf(`e${number - 1}`) })),
      through: 5,
      last: 5,
      settledThrough: 0,
      heldMs: expect.any(Number),
    })
  })

  it('begins at the newest record where it has none, at once, and without a watermark', async () => {
    const relay = await start()
    await appendMany(relay, 5)
    relay.watermark = { epoch: 'e', round: 1, through: 5, sentAtMs: performance.now() }

    const { page } = await relay.ask('wait=20000')

    expect([page.records, page.through, page.watermark]).toEqual([[], 5, undefined])
  })

  it('gets again what was received within the last minute when it starts', async () => {
    let nowMs = 0
    const relay = await start({}, { now: () => nowMs })
    await appendMany(relay, 3, 'old')
    nowMs = 70_000
    await appendMany(relay, 3, 'new')

    expect(numbersOf(await relay.ask('after=6&settled=1&wait=20000'))).toEqual([4, 5, 6])
    expect(numbersOf(await relay.ask('after=1&settled=1'))).toEqual([2, 3, 4, 5, 6])
    expect(numbersOf(await relay.ask('settled=1'))).toEqual([4, 5, 6])
    expect((await relay.ask('after=6&settled=1')).page.settledThrough).toBe(3)
    nowMs = 140_000
    expect(numbersOf(await relay.ask('after=6&settled=1'))).toEqual([])
  })

  it('gets pages within their limits, one after the other, to the end', async () => {
    const relay = await start(
      { limitRecords: 70, limitBytes: 20_000 },
      { memoryBytes: 10_000, segmentBytes: 50_000 },
    )
    await appendMany(relay, 500)
    const numbers: number[] = []

    for (let after = 0; after < 500; ) {
      const answer = await relay.ask(`after=${after}`)
      expect(answer.text.length).toBeLessThan(21_000)
      numbers.push(...numbersOf(answer))
      expect(answer.page.through).toBe(numbers.at(-1))
      expect(answer.page.last).toBe(500)
      after = answer.page.through
    }

    expect(numbers).toEqual(Array.from({ length: 500 }, (_, index) => index + 1))
  })

  it('has at most 1000 records and 512 KiB on a page', async () => {
    const relay = await start()
    for (let turn = 0; turn < 3; turn++) await appendMany(relay, 1000, `${turn}-`)

    const answer = await relay.ask('after=0')

    expect(answer.page.records.length).toBeLessThanOrEqual(1000)
    expect(answer.page.records.length).toBeGreaterThan(900)
    expect(answer.text.length).toBeLessThan(513 * 1024)
  })

  it.each([
    ['gzip', true],
    ['deflate, GZIP;q=0.5', true],
    ['*', true],
    ['gzip;q=0', false],
    ['gzip; q=0.0, deflate', false],
    ['identity', false],
    ['x-gzip', false],
  ])('and accepts %s gets gzip: %s, and never for a small page', async (accepted, isGzip) => {
    const relay = await start()
    await appendMany(relay, 20)

    const large = await relay.ask('after=0', { 'accept-encoding': accepted })
    const small = await relay.ask('after=20', { 'accept-encoding': accepted })

    expect(large.headers['content-encoding']).toBe(isGzip ? 'gzip' : undefined)
    expect(small.headers['content-encoding']).toBe(undefined)
    expect(numbersOf(large)).toHaveLength(20)
  })

  it.each(['after=0&log=00000000-0000-0000-0000-000000000000', 'after=6', 'after=999999999'])(
    'gets 410 and where the log is for %s, at once',
    async (query) => {
      const relay = await start()
      await appendMany(relay, 5)

      const { status, gone } = await relay.ask(`${query}&wait=20000`)

      expect([status, gone]).toEqual([410, { log: relay.log.id, first: 1, last: 5 }])
    },
  )

  it('gets 410 for what is kept no longer, and all that is kept from its edge on', async () => {
    let nowMs = 0
    const relay = await start({}, { now: () => nowMs, segmentBytes: 2000, retentionBytes: 4000 })
    for (let index = 0; index < 50; index++) await appendMany(relay, 1, `${index}-`)
    nowMs = 100_000
    await relay.log.touch()
    const { first } = relay.log

    expect((await relay.ask(`after=${first - 2}&wait=20000`)).gone).toEqual({
      log: relay.log.id,
      first,
      last: 50,
    })
    expect(numbersOf(await relay.ask(`after=${first - 1}`))[0]).toBe(first)
    expect((await relay.ask('after=0&settled=1')).status).toBe(410)
  })
})

describe('a question that is held', () => {
  it('ends with the first record, and has those that came right after it', async () => {
    const relay = await start({ gatherMs: 300 })
    const asked = relay.ask('after=0&wait=20000')
    await isHeld(relay)

    await appendMany(relay, 1, 'a')
    await appendMany(relay, 1, 'b')

    const answer = await asked
    expect(numbersOf(answer)).toEqual([1, 2])
    expect(answer.page.heldMs).toBeGreaterThanOrEqual(290)
    expect(answer.page.heldMs).toBeLessThan(10_000)
  })

  it('ends without a record when its time is over, and says how long it was held', async () => {
    const relay = await start({ maxWaitMs: 150 })

    const { status, page } = await relay.ask('after=0&wait=600000')

    expect([status, page.records, page.through]).toEqual([200, [], 0])
    expect(page.heldMs).toBeGreaterThanOrEqual(145)
    expect(page.heldMs).toBeLessThan(5000)
  })

  it('is not held at all unless that is asked for', async () => {
    const relay = await start()

    expect((await relay.ask('after=0')).page.heldMs).toBeLessThan(1000)
  })

  it('ends with a watermark that the site does not have, and not with one that it has', async () => {
    const relay = await start()
    await appendMany(relay, 3)
    const asked = relay.ask('after=3&epoch=one&round=7&wait=20000')
    await isHeld(relay)
    let isAnswered = false
    void asked.then(() => {
      isAnswered = true
    })

    relay.watermark = { epoch: 'one', round: 7, through: 3, sentAtMs: performance.now() }
    relay.changed()
    await relay.ask('after=0', { authorization: `Bearer ${TOKENS.oslo}` })
    expect(isAnswered).toBe(false)
    relay.watermark = { epoch: 'one', round: 8, through: 3, sentAtMs: performance.now() - 400 }
    relay.changed()

    const { page } = await asked
    expect(page.watermark).toEqual({ epoch: 'one', round: 8, through: 3, ageMs: expect.any(Number) })
    expect(page.watermark?.ageMs).toBeGreaterThanOrEqual(400)
    expect((await relay.ask('after=3&epoch=other&round=99&wait=20000')).page.watermark?.epoch).toBe('one')
  })

  it('ends with another note, once for each site', async () => {
    const relay = await start({ maxWaitMs: 1000 })
    relay.note = 'the relay started'
    expect((await relay.ask('after=0&wait=20000')).page).toMatchObject({ note: 'the relay started' })

    const held = await relay.ask('after=0&wait=20000')
    expect(held.page.heldMs).toBeGreaterThanOrEqual(990)
    const elsewhere = await relay.ask('after=0&wait=20000', { authorization: `Bearer ${TOKENS.oslo}` })
    expect(elsewhere.page.heldMs).toBeLessThan(900)

    relay.note = undefined
    const told = await relay.ask('after=0&wait=20000')
    expect([told.page.note, told.page.heldMs < 190]).toEqual([undefined, true])
  })

  it('goes on past what does not concern the site', async () => {
    const relay = await start()
    const asked = relay.ask('after=0&wait=20000')
    await isHeld(relay)

    for (let turn = 0; turn < 50; turn++) relay.changed()
    await appendMany(relay, 1)

    expect(numbersOf(await asked)).toEqual([1])
  })
})

describe('a watermark', () => {
  it('is on no page that does not reach what it covers', async () => {
    const relay = await start({ limitRecords: 3 })
    await appendMany(relay, 7)
    relay.watermark = { epoch: 'one', round: 1, through: 6, sentAtMs: performance.now() }

    const pages = [await relay.ask('after=0'), await relay.ask('after=3'), await relay.ask('after=6')]

    expect(pages.map(({ page }) => [page.through, page.watermark?.through])).toEqual([
      [3, undefined],
      [6, 6],
      [7, 6],
    ])
  })

  it('never looks younger than it is, by the clock of the site that asked', async () => {
    const skewMs = 1_000_000
    const relay = await start({ now: () => performance.now() + skewMs, maxWaitMs: 1000 })
    for (let turn = 0; turn < 5; turn++) {
      const madeAtMs = performance.now()
      relay.watermark = { epoch: 'one', round: turn, through: 0, sentAtMs: madeAtMs + skewMs }
      const sentAtMs = performance.now()
      const { page } = await relay.ask(`after=0&epoch=one&round=${turn}&wait=20000`)

      const asOfMs = sentAtMs + page.heldMs - (page.watermark?.ageMs ?? Number.NaN)
      expect(asOfMs).toBeLessThanOrEqual(madeAtMs)
      expect(asOfMs).toBeGreaterThan(madeAtMs - 1000)
    }
  })

  it('reaches a site during a storm of events', async () => {
    const relay = await start()
    const over = new AbortController()
    const storm = (async () => {
      for (let turn = 0; !over.signal.aborted; turn++) {
        const through = await appendMany(relay, 20, `${turn}-`)
        relay.watermark = { epoch: 'one', round: turn, through, sentAtMs: performance.now() }
        relay.changed()
      }
    })()

    let after = 0
    let marks = 0
    for (let turn = 0; turn < 60; turn++) {
      const { page } = await relay.ask(`after=${after}&wait=1000`)
      expect(page.records[0]?.number ?? after + 1).toBe(after + 1)
      if (page.watermark) {
        marks += 1
        expect(page.watermark.through).toBeLessThanOrEqual(page.through)
      }
      after = page.through
    }
    over.abort()
    await storm

    expect(marks).toBeGreaterThan(20)
  })
})

describe('what the relay knows of its sites', () => {
  it('is how far each is, how many records it lacks and how old the oldest of them is', async () => {
    let nowMs = 0
    const relay = await start({ maxWaitMs: 10 }, { now: () => nowMs })
    const never = {
      connected: false,
      asking: 0,
      through: undefined,
      behind: undefined,
      lagMs: undefined,
      lastSeenMs: undefined,
    }
    expect(relay.listener.sites()).toEqual([
      { name: 'berlin', ...never },
      { name: 'oslo', ...never },
    ])
    await appendMany(relay, 2)
    await relay.ask('after=1')
    nowMs = 5000
    await appendMany(relay, 3, 'later')

    const [berlin, oslo] = relay.listener.sites()

    expect(berlin).toMatchObject({ name: 'berlin', connected: true, through: 1, behind: 4, lagMs: 5000 })
    expect(berlin?.lastSeenMs).toBeLessThan(10_000)
    expect(oslo).toEqual({ name: 'oslo', ...never })
    await relay.ask('after=5')
    expect(relay.listener.sites()[0]).toMatchObject({ through: 5, behind: 0, lagMs: 0 })
  })

  it('is that one lacks more than is still kept', async () => {
    let nowMs = 0
    const relay = await start({}, { now: () => nowMs, segmentBytes: 2000, retentionBytes: 4000 })
    await appendMany(relay, 1)
    await relay.ask('after=1')
    for (let index = 0; index < 50; index++) await appendMany(relay, 1, `${index}-`)
    nowMs = 100_000
    await relay.log.touch()

    expect(relay.log.first).toBeGreaterThan(2)
    expect(relay.listener.sites()[0]).toMatchObject({ through: 1, behind: 50, lagMs: 100_000 })
  })

  it('is that one is no longer connected when it has not asked for a while', async () => {
    let nowMs = 0
    const relay = await start({ now: () => nowMs })
    await relay.ask('after=0')
    expect(relay.listener.sites()[0]?.connected).toBe(true)

    nowMs = 11_000

    await until(() => relay.listener.sites()[0]?.connected === false, { what: 'the site to be away' })
    expect(relay.listener.sites()[0]?.lastSeenMs).toBe(11_000)
  })
})
