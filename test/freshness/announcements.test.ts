/** What is announced of tags is bounded, and says so when it had to forget something. */
import { describe, expect, it } from 'vitest'
import { createAnnouncements, EVERYTHING } from '../../src/freshness/announcements.ts'
import { SETTLED_MS } from '../../src/freshness/freshness.ts'
import { NAME, NEW, OLD, OTHER_NAME, OTHER_TAG, TAG, tagNamed } from '../contracts/freshness-world.ts'

describe('announcements', () => {
  it('put everything in doubt for a minute when there was room for fewer than were heard', () => {
    let nowMs = 0
    const announcements = createAnnouncements({ now: () => nowMs, maxEntries: 2 })
    for (const tag of [TAG, OTHER_TAG]) announcements.hear(NAME, [{ tag, digest: NEW }])
    expect(announcements.of(OTHER_NAME, TAG)).toBe(undefined)
    nowMs = 1000

    const said = announcements.hear(NAME, [{ tag: tagNamed('v3'), digest: NEW }])

    expect(said.map(({ key }) => key)).toEqual(['a:v3', EVERYTHING])
    expect(announcements.all()).toHaveLength(3)
    for (const tag of [TAG, OTHER_TAG]) expect(announcements.of(OTHER_NAME, tag)).toBe('disputed')
    nowMs = 1000 + SETTLED_MS
    expect(announcements.of(OTHER_NAME, TAG)).toBe(undefined)
    expect(announcements.all()).toEqual([])
    expect(announcements.settle().map(({ key }) => key)).toEqual(['a:v2', 'a:v3', EVERYTHING])
    expect(announcements.settle()).toEqual([])
  })

  it('are settled in the order they were said last, once each', () => {
    let nowMs = 0
    const announcements = createAnnouncements({ now: () => nowMs })
    announcements.hear(NAME, [{ tag: TAG, digest: OLD }])
    announcements.hear(NAME, [{ tag: OTHER_TAG, digest: OLD }])
    nowMs = 10
    const [again] = announcements.hear(NAME, [{ tag: TAG, digest: OLD }])
    expect(again).toEqual({ key: 'a:v1', said: OLD, number: 3, atMs: 10 })

    nowMs = SETTLED_MS
    expect(announcements.settle().map(({ key, number }) => [key, number])).toEqual([['a:v2', 2]])
    expect(announcements.at('a:v1')).toBe(again)
    expect(announcements.at('a:v2')).toBe(undefined)
  })
})
