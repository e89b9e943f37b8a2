/** What a site makes of a log that has holes, and of a relay that does not answer. */
import { beforeEach, describe, expect, it } from 'vitest'
import type { LogPage } from '../../replicator/relay/page.ts'
import { events, followTag, OLD, pushOf } from './followed-tag.ts'
import { type FollowerScene, followerScene } from './follower-scene.ts'
import { notice, repository } from './inbox-world.ts'

const tag = followTag()
const { following, askPrimary, confirmed, position, pageNow } = tag
let scene: FollowerScene
beforeEach(() => {
  scene = tag.scene
})

describe('a log with a hole', () => {
  it.each([
    ['no longer keeps what comes next', () => scene.relay.forget(8), /keeps its log from 9 on/],
    ['has begun another log', () => scene.relay.beginLog(), /has begun a new log/],
  ])('is compared with the primary as a whole when the relay %s', async (_, happen, why) => {
    await following()
    await askPrimary()
    scene.nowMs += 1_000
    scene.relay.append(...events(10))
    happen()
    scene.broken.add('compare')
    await scene.reply()
    expect(position().number).toBe(0)
    scene.broken.clear()
    await scene.reply()
    expect(scene.compared).toBe(2)
    expect(position()).toEqual({ log: scene.relay.log, number: scene.relay.last })
    expect(scene.follower.status().lastGap).toMatch(why)
    expect((await scene.asked()).question).toMatchObject({ settled: true, seen: undefined })
    expect(scene.rests.at(-1)).toBeGreaterThanOrEqual(2_500)

    scene.relay.advance('epoch-2')
    await scene.catchUp()
    expect(await confirmed()).toBeUndefined()
    expect(scene.lines.map(({ msg }) => msg).join()).toContain('events may have been missed')
  })

  it.each([
    ['leaves a number out', (page: LogPage) => ({ ...page, records: page.records.toSpliced(1, 1) })],
    ['begins later than asked', (page: LogPage) => ({ ...page, records: page.records.slice(1) })],
    ['ends before it says', (page: LogPage) => ({ ...page, records: page.records.slice(0, -1) })],
    [
      'has its records in another order',
      (page: LogPage) => ({ ...page, records: page.records.toReversed() }),
    ],
    ['is of another log', (page: LogPage) => ({ ...page, log: 'log-2' })],
    ['has none of its records', (page: LogPage) => ({ ...page, records: [] })],
  ])('is noticed when a page %s, and no watermark of it counts', async (_, spoil) => {
    await following()
    const before = await scene.freshness.watermark()
    scene.nowMs += 1_000
    scene.relay.append(...events(4))
    scene.relay.advance()
    await scene.reply(spoil(await pageNow()))
    expect(scene.compared).toBe(2)
    expect(await scene.freshness.watermark()).toEqual({ ...before, ageMs: 1_000 })
  })

  it('is what an older copy of its folder looks like', async () => {
    scene.relay.append(...events(10))
    await following()
    const { log } = scene.relay
    scene.relay.beginLog()
    scene.relay.log = log
    scene.relay.append(...events(3))
    await scene.reply()
    expect(scene.follower.status()).toMatchObject({ cursor: 3 })
    expect(scene.follower.status().lastGap).toMatch(/an older copy/)
  })

  it('begins anew with a place that another version wrote', async () => {
    const cursors = new Map([['relay', 'what?']])
    scene = followerScene({
      tracking: {
        cursor: async (name) => cursors.get(name),
        setCursor: async (name, value) => void cursors.set(name, value ?? ''),
        accept: async () => [],
      },
    })
    scene.start()
    await scene.reply()
    expect(scene.compared).toBe(1)
    expect(cursors.get('relay')).toBe('{"log":"log-1","number":0}')
  })
})

describe('a relay that is away', () => {
  it('ends nothing but grows the age of the watermark, and is asked more and more rarely', async () => {
    await following()
    await askPrimary()
    for (let attempt = 0; attempt < 12; attempt++) await scene.lose()
    expect(scene.follower.status()).toMatchObject({ connected: false, awayMs: 0, cursor: 0 })
    expect(scene.follower.status().lastError).toContain('ECONNRESET')
    const rests = scene.rests.slice(-12)
    expect(rests[0]).toBeGreaterThanOrEqual(100)
    expect(rests[0]).toBeLessThanOrEqual(200)
    expect(Math.max(...rests)).toBeLessThanOrEqual(5_000)
    expect(rests.at(-1)).toBeGreaterThanOrEqual(2_500)
    expect(scene.lines.filter(({ level }) => level === 'warn')).toHaveLength(1)

    scene.nowMs += 5_000
    expect(scene.follower.status().awayMs).toBe(5_000)
    expect(await confirmed()).toBe(OLD)
    scene.relay.advance()
    await scene.catchUp()
    expect(await confirmed()).toBe(OLD)
    expect(scene.follower.status()).toMatchObject({ connected: true, lastError: undefined })
  })

  it('loses nothing of what happened meanwhile', async () => {
    await following()
    await askPrimary()
    await scene.lose()
    scene.relay.append(pushOf(), notice('push', repository('team/other'), { tag: 'y' }))
    await scene.lose()
    scene.relay.advance()
    await scene.catchUp()
    expect(scene.stored).toHaveLength(2)
    expect(await confirmed()).toBeUndefined()
  })

  it('is not asked over and over when it holds no question', async () => {
    await following()
    const rests = scene.rests.length
    for (let turn = 0; turn < 5; turn++) await scene.reply()
    expect(scene.rests.length - rests).toBe(5)
  })

  it('is asked nothing more once the follower is closed, whatever it waits for', async () => {
    await following()
    const begun = performance.now()
    await scene.follower.close()
    expect(performance.now() - begun).toBeLessThan(5_000)
    expect(scene.lines.filter(({ level }) => level === 'warn')).toEqual([])
  })
})
