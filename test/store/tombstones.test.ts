import { describe, expect, it } from 'vitest'
import { createTombstones } from '../../src/store/tombstones.ts'

const HOUR_MS = 60 * 60 * 1000

describe('tombstones', () => {
  it('overrule a request that began before the removal, not one that began after it', () => {
    const tombstones = createTombstones()
    const before = tombstones.mark()
    tombstones.bury('a')
    const after = tombstones.mark()

    expect(tombstones.overrules(before, 'a')).toBe(true)
    expect(tombstones.overrules(before, 'x', 'a')).toBe(true)
    expect(tombstones.overrules(before, 'x')).toBe(false)
    expect(tombstones.overrules(after, 'a')).toBe(false)
  })

  it('count what a removal took with it as removed when the removal was seen', () => {
    const tombstones = createTombstones()
    const before = tombstones.mark()
    const removal = tombstones.bury('manifest')
    const between = tombstones.mark()
    tombstones.bury('tag', removal)

    expect(tombstones.overrules(before, 'tag')).toBe(true)
    expect(tombstones.overrules(between, 'tag')).toBe(false)
  })

  it('keep the latest removal of a thing', () => {
    const tombstones = createTombstones()
    const first = tombstones.bury('manifest')
    const between = tombstones.mark()
    tombstones.bury('tag')
    tombstones.bury('tag', first)

    expect(tombstones.overrules(between, 'tag')).toBe(true)
  })

  it('refuse a request so old that what was removed since is no longer known', () => {
    let clockMs = 0
    const tombstones = createTombstones({ now: () => clockMs })
    const ancient = tombstones.mark()
    tombstones.bury('a')
    const old = tombstones.mark()
    clockMs += 24 * HOUR_MS + 1
    tombstones.bury('b')

    expect(tombstones.overrules(ancient, 'x')).toBe(true)
    expect(tombstones.overrules(old, 'a')).toBe(false)
    expect(tombstones.overrules(old, 'b')).toBe(true)
  })

  it('are still known after 23 hours, whatever was removed since', () => {
    let clockMs = 0
    const tombstones = createTombstones({ now: () => clockMs })
    const before = tombstones.mark()
    tombstones.bury('a')
    for (let hour = 1; hour <= 23; hour++) {
      clockMs = hour * HOUR_MS
      tombstones.bury(`other ${hour}`)
    }

    expect(tombstones.overrules(before, 'a')).toBe(true)
    expect(tombstones.overrules(before, 'x')).toBe(false)
  })

  it('are bounded in number: what had to be forgotten overrules every older mark', () => {
    const tombstones = createTombstones()
    const before = tombstones.mark()
    tombstones.bury('first')
    const after = tombstones.mark()
    for (let other = 0; other < 100_000; other++) tombstones.bury(`other ${other}`)

    expect(tombstones.overrules(before, 'x')).toBe(true)
    expect(tombstones.overrules(after, 'first')).toBe(false)
    expect(tombstones.overrules(after, 'other 99999')).toBe(true)
  })
})
