/** The model of the soak can say no, and says it only with reason. */
import { describe, expect, it } from 'vitest'
import { createDisturbances, type Effect, type Place } from './disturbances.ts'
import { type Asked, createModel, type Reply } from './model.ts'

const RULES = { stalenessMs: 2_000, maxStaleMs: 10_000, recheckMs: 20_000 }
const HERE: Asked = { place: 'tokyo', repository: 'team/app' }
const ELSEWHERE: Asked = { ...HERE, place: 'lima' }

function scene() {
  let nowMs = 0
  const now = () => nowMs
  const disturbances = createDisturbances({ now, graceMs: 1_000 })
  const model = createModel({ rules: { tokyo: RULES, lima: RULES }, tags: ['v1', 'v2'], disturbances, now })
  /** An answer that is asked for a millisecond later, and comes after 10. */
  function reply(status: number | undefined, more: Partial<Reply> = {}): Reply {
    const start = ++nowMs
    nowMs += 10
    const nothing = {
      source: 'local',
      hasWarning: false,
      digest: undefined,
      bodyDigest: undefined,
      words: '',
    }
    return { ...nothing, start, end: nowMs, status, ...more }
  }
  const found = (digest: string, more: Partial<Reply> = {}) =>
    reply(200, { digest, bodyDigest: digest, ...more })
  return {
    model,
    reply,
    found,
    pass: (ms: number) => {
      nowMs += ms
    },
    push(asked: Asked, digest: string, tag: string, outcome: 'answered' | 'lost' = 'answered') {
      nowMs++
      model.beginPush(asked, digest, tag).settle(reply(outcome === 'lost' ? undefined : 201))
    },
    remove(asked: Asked, digest: string) {
      nowMs++
      model.beginDelete(asked, digest).settle(reply(202))
    },
    trouble: (effect: Effect, ...places: readonly Place[]) =>
      disturbances.begin({ what: effect, places, effect }),
    read: (digest: string, more: Partial<Reply> = {}) => model.judgeTag(HERE, 'v1', found(digest, more)),
  }
}

const STALE = { source: 'stale', hasWarning: true }

describe('a tag', () => {
  it('may be as old as the rule allows for a write elsewhere, and no older', () => {
    const { push, pass, read } = scene()
    push(HERE, 'a', 'v1')
    pass(5_000)
    push(ELSEWHERE, 'b', 'v1')
    pass(1_900)
    expect(read('a')).toBeUndefined()
    pass(200)
    expect(read('a')).toContain('older than the rule allows')
    expect(read('b')).toBeUndefined()
  })

  it('is at once what was pushed through the same site', () => {
    const { push, read } = scene()
    push(HERE, 'a', 'v1')
    push(HERE, 'b', 'v1')
    expect([read('a'), read('b')]).toEqual([expect.stringContaining('older'), undefined])
  })

  it('is never what nobody pushed, nor other bytes than its digest', () => {
    const { push, read } = scene()
    push(HERE, 'a', 'v1')
    expect(read('x')).toContain('never was there')
    expect(read('a', { bodyDigest: 'b' })).toContain('the bytes are b')
  })

  it('is 404 only while it is not there', () => {
    const { model, push, remove, reply } = scene()
    expect(model.judgeTag(HERE, 'v1', reply(404))).toBeUndefined()
    push(HERE, 'a', 'v1')
    expect(model.judgeTag(HERE, 'v1', reply(404))).toContain('it is there')
    remove(ELSEWHERE, 'a')
    expect(model.judgeTag(HERE, 'v1', reply(404))).toBeUndefined()
  })

  it('may be either for as long as a lost write can still land', () => {
    const { push, pass, read } = scene()
    push(HERE, 'a', 'v1')
    push(HERE, 'b', 'v1', 'lost')
    expect([read('a'), read('b')]).toEqual([undefined, undefined])
    pass(31_000)
    push(HERE, 'c', 'v1')
    expect([read('a'), read('b'), read('c')]).toEqual([
      expect.stringContaining('older'),
      expect.stringContaining('older'),
      undefined,
    ])
  })
})

describe('a stale answer', () => {
  it('needs a primary that is away, a Warning, and a confirmation within outage.maxstale', () => {
    const { push, pass, read, trouble } = scene()
    push(HERE, 'a', 'v1')
    pass(2_000)
    expect(read('a', STALE)).toContain('nothing explains it')
    const over = trouble('away', 'tokyo')
    expect(read('a', STALE)).toBeUndefined()
    expect(read('a', { source: 'stale' })).toContain('Warning')
    push(ELSEWHERE, 'b', 'v1')
    pass(11_000)
    expect(read('a', STALE)).toBeUndefined()
    pass(2_000)
    expect(read('a', STALE)).toContain('older')
    over()
    pass(1_100)
    expect(read('b', STALE)).toContain('nothing explains it')
  })

  it('is never given to a HEAD that decides an upload', () => {
    const { model, push, found, trouble } = scene()
    push(HERE, 'a', 'v1')
    trouble('away', 'tokyo')
    const asked = { ...HERE, decidesUpload: true }
    expect(model.judgeTag(asked, 'v1', found('a', STALE))).toContain('decides an upload')
    expect(model.judgeTag(asked, 'v1', found('a'))).toContain('is answered by local')
    expect(model.judgeTag(asked, 'v1', found('a', { source: 'primary' }))).toBeUndefined()
  })
})

describe('an error', () => {
  it('is forgiven only while something that can cause it goes on, at that site', () => {
    const { model, push, pass, reply, trouble } = scene()
    push(HERE, 'a', 'v1')
    pass(1)
    const judge = (status: number | undefined) => model.judgeTag(HERE, 'v1', reply(status))
    expect([judge(503), judge(undefined)]).toEqual([
      expect.stringContaining('503, and nothing explains it'),
      expect.stringContaining('broke off'),
    ])
    trouble('away', 'lima')
    trouble('nothing', 'tokyo')
    trouble('shared state', 'tokyo')
    expect(judge(503)).toContain('nothing explains it')
    const over = trouble('away', 'tokyo')
    expect(judge(503)).toBeUndefined()
    over()
    pass(900)
    expect(judge(503)).toBeUndefined()
    pass(200)
    expect(judge(503)).toContain('nothing explains it')
  })

  it('is not forgiven for a blob that is held, while only the primary is away', () => {
    const { model, pass, found, reply, trouble } = scene()
    model.beginBlob('team/app', 'a').settle(reply(201))
    expect(model.judgeBlob(HERE, 'a', found('a'))).toBeUndefined()
    pass(1)
    trouble('away', 'tokyo')
    expect(model.judgeBlob(HERE, 'a', reply(503))).toContain('it is held here')
    expect(model.judgeBlob(ELSEWHERE, 'a', reply(503))).toContain('nothing explains it')
    trouble('down', 'tokyo')
    expect(model.judgeBlob(HERE, 'a', reply(undefined))).toBeUndefined()
  })

  it('is forgiven for a blob that came to be held as Redis went away, until it is held again', () => {
    const { model, pass, found, reply, trouble } = scene()
    const AT_LIMA = { ...HERE, place: 'lima' } as const
    model.beginBlob('team/app', 'a').settle(reply(201))
    model.beginBlob('team/app', 'b').settle(reply(201))
    const judge = (digest: string) => model.judgeBlob(AT_LIMA, digest, reply(503))
    expect(model.judgeBlob(AT_LIMA, 'a', found('a'))).toBeUndefined()
    pass(5_000)
    expect(model.judgeBlob(AT_LIMA, 'b', found('b'))).toBeUndefined()
    const redisBack = trouble('shared state', 'lima')
    pass(500)
    redisBack()
    const primaryBack = trouble('away', 'lima')
    expect([judge('a'), judge('b')]).toEqual([expect.stringContaining('it is held here'), undefined])
    primaryBack()
    model.forget()
    pass(130_000)
    trouble('away', 'lima')
    expect(judge('b')).toBeUndefined()
    expect(model.judgeBlob(AT_LIMA, 'b', found('b'))).toBeUndefined()
    expect(judge('b')).toContain('it is held here')
  })
})

describe('a blob', () => {
  it('has its own bytes, and is there once it was pushed', () => {
    const { model, found, reply } = scene()
    expect(model.judgeBlob(HERE, 'a', reply(404))).toBeUndefined()
    model.beginBlob('team/app', 'a').settle(reply(201))
    expect(model.judgeBlob(HERE, 'a', found('b'))).toContain('its bytes are b')
    expect(model.judgeBlob(HERE, 'a', found('part', { status: 206 }), 'part')).toBeUndefined()
    expect(model.judgeBlob(HERE, 'a', reply(404))).toContain('it is there')
  })
})

describe('a digest', () => {
  it('may be found for as long as its confirmation holds after a delete elsewhere, and not after one here', () => {
    const { model, push, remove, pass, found } = scene()
    const read = () => model.judgeDigest(HERE, 'a', found('a'))
    push(HERE, 'a', 'v1')
    remove(ELSEWHERE, 'a')
    pass(19_000)
    expect(read()).toBeUndefined()
    pass(20_000)
    expect(read()).toContain('older')
    push(ELSEWHERE, 'a', 'v1')
    remove(HERE, 'a')
    expect(read()).toContain('older')
  })
})

describe('an intruder', () => {
  it('gets 401 or 403, whatever goes on, and elsewhere not even what is there', () => {
    const { model, found, reply, trouble } = scene()
    trouble('away', 'tokyo')
    expect([401, 403].map((status) => model.judgeIntrusion(HERE, reply(status), false))).toEqual([
      undefined,
      undefined,
    ])
    expect(model.judgeIntrusion(HERE, found('a'), false)).toContain('is answered 200')
    expect(model.judgeIntrusion(HERE, reply(503), false)).toContain('is answered 503')
    expect(model.judgeIntrusion(HERE, reply(404), true)).toBeUndefined()
    expect(model.judgeIntrusion(HERE, reply(503), true)).toBeUndefined()
    expect(model.judgeIntrusion(HERE, found('a', { status: 206 }), true)).toContain('is answered 206')
  })
})
