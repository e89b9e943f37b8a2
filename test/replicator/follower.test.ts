/** What a site makes of its relay's log and watermark: what it hears, in which order, and when it begins an epoch. */
import { beforeEach, describe, expect, it } from 'vitest'
import { events, followTag, LATEST, NEW, OLD, pushOf } from './followed-tag.ts'
import type { FollowerScene } from './follower-scene.ts'
import { APP, notice, repository } from './inbox-world.ts'

const tag = followTag()
const { following, askPrimary, confirmed, position, pageNow } = tag
let scene: FollowerScene
beforeEach(() => {
  scene = tag.scene
})

describe('a site that follows a relay', () => {
  it('begins at the end of the log when it has never followed one, and compares everything first', async () => {
    scene.relay.append(...events(5))
    scene.start()
    const first = await scene.asked()
    expect(first.question).toMatchObject({ after: undefined, settled: false })
    await scene.reply()

    expect(scene.compared).toBe(1)
    expect(position()).toEqual({ log: 'log-1', number: 5 })
    expect((await scene.asked()).question).toMatchObject({
      after: position(),
      settled: true,
      seen: undefined,
    })
  })

  it('compares everything again when it was killed before its first place was saved', async () => {
    scene.broken.add('setCursor')
    scene.start()
    await scene.reply()
    expect([scene.compared, scene.cursors]).toEqual([1, []])
    scene.broken.clear()
    scene.start()
    await scene.reply()
    expect([scene.compared, scene.cursors.length]).toEqual([2, 1])
  })

  it('hears and stores each event before its place in the log is saved, and the watermark after it', async () => {
    await following()
    scene.relay.append(...events(3))
    scene.nowMs += 500
    scene.relay.advance()
    scene.broken.add('setCursor')
    await scene.reply()
    expect(scene.stored).toHaveLength(3)
    expect(await scene.freshness.watermark()).toMatchObject({ ageMs: 500 })

    scene.broken.clear()
    await scene.catchUp()
    expect(position().number).toBe(3)
    expect(await scene.freshness.watermark()).toMatchObject({ ageMs: 0 })
  })

  it('pulls a tag without a question while the watermark covers it, and asks once it is too old', async () => {
    await following()
    await askPrimary()
    expect(await confirmed()).toBe(OLD)
    scene.nowMs += 9_999
    expect(await confirmed()).toBe(OLD)
    scene.nowMs += 2
    expect(await confirmed()).toBeUndefined()
    scene.relay.advance()
    await scene.catchUp()
    expect(await confirmed()).toBe(OLD)
  })

  it('asks for a tag again from the moment its event was heard', async () => {
    await following()
    await askPrimary()
    scene.relay.append(pushOf())
    expect(await confirmed()).toBe(OLD)
    await scene.reply()
    expect(await confirmed()).toBeUndefined()
    await askPrimary(NEW)
    expect(await confirmed()).toBe(NEW)
  })

  it('asks again for what was being asked for when a path above it was renamed, though it is not held yet', async () => {
    await following()
    const under = repository('team/app/nested')
    const asked = await scene.freshness.observe(under, LATEST)
    scene.relay.append(notice('rename', APP, { to: 'team/moved' }))
    await scene.reply()
    await scene.freshness.confirm(asked, OLD)
    scene.relay.advance()
    await scene.catchUp()

    expect(await scene.freshness.confirmed(under, LATEST)).toBeUndefined()
    await scene.freshness.confirm(await scene.freshness.observe(under, LATEST), NEW)
    expect(await scene.freshness.confirmed(under, LATEST)).toBe(NEW)
  })

  it('reads a long log page by page, and tells of no watermark before its last page', async () => {
    await following()
    scene.relay.limit = 10
    scene.relay.append(...events(25))
    scene.nowMs += 1_000
    scene.relay.advance()
    await scene.reply()
    await scene.reply()
    expect(scene.follower.status()).toMatchObject({ cursor: 20, behind: 5 })
    expect(await scene.freshness.watermark()).toMatchObject({ ageMs: 1_000 })
    await scene.reply()
    expect(scene.follower.status()).toMatchObject({ cursor: 25, behind: 0 })
    expect(await scene.freshness.watermark()).toMatchObject({ ageMs: 0 })
  })

  it('does not write its place for a watermark alone', async () => {
    await following()
    const writes = scene.cursors.length
    for (let round = 0; round < 5; round++) {
      scene.relay.advance()
      await scene.reply()
    }
    expect(scene.cursors).toHaveLength(writes)
  })

  it('counts the whole way of question and answer as age of the watermark', async () => {
    await following()
    const { sentAtMs } = await scene.asked()
    scene.nowMs = sentAtMs + 2_000 // The question is on its way.
    scene.relay.advance()
    scene.nowMs += 700 // The relay holds it.
    const page = await scene.page(sentAtMs + 2_000)
    scene.nowMs += 3_000 // The answer is on its way.
    await scene.reply(page)
    const { ageMs = 0 } = (await scene.freshness.watermark()) ?? {}
    expect(page).toMatchObject({ heldMs: 700, watermark: { ageMs: 700 } })
    expect(ageMs).toBe(2_000 + 700 + 3_000)
  })

  it('takes a watermark that is told again with its first age for as old as it was', async () => {
    await following()
    scene.relay.advance()
    const page = await pageNow()
    await scene.reply(page)
    scene.nowMs += 4_000
    await scene.asked()
    await scene.reply(page)
    expect(await scene.freshness.watermark()).toMatchObject({ ageMs: 4_000 })
  })

  it('takes pages that come again, or late, for what they are', async () => {
    await following()
    scene.relay.append(...events(2))
    const early = await pageNow()
    await scene.reply()
    scene.relay.append(...events(2))
    scene.relay.advance('epoch-2')
    await scene.reply()
    const before = await scene.freshness.watermark()
    scene.nowMs += 3_000
    await scene.reply(early)
    await scene.reply(early)
    expect(position().number).toBe(4)
    expect(await scene.freshness.watermark()).toEqual({ ...before, ageMs: 3_000 })
    expect(scene.compared).toBe(1)
    await scene.catchUp()
    expect(scene.follower.status().lastError).toBeUndefined()
  })
})

describe('an epoch at a site', () => {
  it('begins after what was announced within the last minute was heard again', async () => {
    scene.relay.append(...events(2))
    scene.nowMs += 61_000
    scene.relay.append(pushOf())
    await following()
    expect(position().number).toBe(3)
    expect(scene.stored).toHaveLength(1)
    // Its tag may not be written yet: what the primary says now could be what it was.
    await askPrimary(OLD)
    expect(await confirmed()).toBeUndefined()
    await askPrimary(NEW)
    expect(await confirmed()).toBe(NEW)
  })

  it('begins anew after a restart, and hears the last minute again first', async () => {
    await following()
    scene.relay.append(pushOf())
    await scene.catchUp()
    scene.start()
    expect(await scene.freshness.watermark()).toBeUndefined()
    await scene.catchUp()
    expect(scene.stored).toHaveLength(2)
    await askPrimary(OLD)
    expect(await confirmed()).toBeUndefined()
    expect(scene.cursors.map((text) => JSON.parse(text ?? '').number)).toEqual([0, 1])
  })

  it('does not begin while the last minute has been read in part only', async () => {
    scene.relay.append(...events(25))
    scene.relay.limit = 10
    scene.start()
    scene.relay.advance()
    await scene.reply()
    for (let page = 0; page < 2; page++) {
      await scene.reply()
      expect(await scene.freshness.watermark()).toBeUndefined()
    }
    await scene.reply()
    expect(await scene.freshness.watermark()).toMatchObject({ ageMs: 0 })
  })

  it('ends with that of the relay, and costs each tag one question', async () => {
    await following()
    await askPrimary()
    scene.relay.watermark = undefined
    scene.relay.note = 'A canary is missing.'
    scene.nowMs += 1_000
    await scene.reply()
    expect(scene.follower.status().note).toBe('A canary is missing.')
    expect(await confirmed()).toBe(OLD)

    scene.relay.advance('epoch-2')
    scene.relay.note = undefined
    await scene.reply()
    expect(await confirmed()).toBeUndefined()
    await askPrimary()
    expect(await confirmed()).toBe(OLD)
  })

  it('passes on nothing that the relay said before it went away', async () => {
    await following()
    scene.relay.note = 'A canary is missing.'
    await scene.reply()
    await scene.lose()

    expect(scene.follower.status()).toMatchObject({ connected: false, note: undefined })
  })

  it.each(['hear', 'accept', 'setCursor', 'beginEpoch', 'advance'] as const)(
    'is another one after %s failed: the same is read again, and nothing is covered before',
    async (part) => {
      await following()
      await askPrimary()
      scene.relay.append(notice('push', 'team/other', { tag: 'x' }))
      scene.relay.advance(part === 'beginEpoch' ? 'epoch-2' : 'epoch-1')
      scene.broken.add(part)
      for (let attempt = 0; attempt < 3; attempt++) {
        scene.nowMs += 1_000
        await scene.reply()
      }
      expect(scene.follower.status()).toMatchObject({ connected: true, epochAgeMs: undefined })
      expect(scene.follower.status().lastError).toContain(`${part} is away`)
      expect(await scene.freshness.watermark()).toSatisfy((mark) => !mark || mark.ageMs >= 3_000)

      scene.broken.clear()
      scene.relay.advance()
      await scene.catchUp()
      expect(scene.follower.status()).toMatchObject({ lastError: undefined, epochAgeMs: 0, cursor: 1 })
      expect(await scene.freshness.watermark()).toMatchObject({ ageMs: 0 })
      expect(await confirmed()).toBeUndefined()
      expect(scene.compared).toBe(1)
      expect(scene.lines.filter(({ level }) => level === 'warn').length).toBeLessThan(4)
    },
  )

  it('is begun again when another follower took it over and is gone', async () => {
    await following()
    await scene.freshness.advance(await scene.freshness.beginEpoch(), scene.nowMs)
    const ages = []
    for (let second = 0; second < 40; second++) {
      scene.nowMs += 1_000
      scene.relay.advance()
      await scene.reply()
      ages.push((await scene.freshness.watermark())?.ageMs)
    }
    expect(ages[10]).toBe(11_000)
    expect(ages.at(-1)).toBe(0)
    expect(ages.indexOf(0)).toBeGreaterThan(14)
  })

  it('leaves the watermark to another follower that is alive', async () => {
    await following()
    const others = await scene.freshness.beginEpoch()
    for (let second = 0; second < 40; second++) {
      scene.nowMs += 1_000
      await scene.freshness.advance(others, scene.nowMs)
      scene.relay.advance()
      await scene.reply()
    }
    expect(await scene.freshness.watermark()).toMatchObject({ epoch: others })
  })
})
