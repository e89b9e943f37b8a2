import { describe, expect, it } from 'vitest'
import { NotificationError, readEnvelope } from '../../replicator/notification.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { MEDIA_TYPES } from '../../src/oci/media-types.ts'

const DIGEST = digestOf(Buffer.from('x'))
const ID = '9b1c8a50-0000-4000-8000-000000000001'

const read = (value: unknown) => readEnvelope(Buffer.from(JSON.stringify(value)))
const one = (event: object) => read({ events: [event] })
const push = (target: object) => ({ id: ID, action: 'push', target: { repository: 'team/app', ...target } })
const noticeOf = (event: object) => {
  const { notices, ignored } = one(event)
  expect([notices.length, ignored]).toEqual([1, []])
  return notices[0]
}

describe('an event that matters', () => {
  it('is a pushed tag with its digest, as GitLab and Distribution send it', () => {
    const event = {
      id: ID,
      timestamp: '2026-11-22T06:19:03.274387251Z',
      action: 'push',
      target: {
        mediaType: MEDIA_TYPES.dockerManifest,
        size: 528,
        digest: DIGEST,
        length: 528,
        repository: 'team/app',
        url: `http://registry.test/v2/team/app/manifests/${DIGEST}`,
        tag: 'latest',
        references: [{ mediaType: MEDIA_TYPES.octetStream, digest: DIGEST, size: 1 }],
      },
      request: { id: 'r', addr: '10.0.0.1:5', host: 'registry.test', method: 'PUT', useragent: 'docker' },
      actor: { name: 'root', user_type: 'personal_access_token', user: 'a.jwt.x' },
      source: { addr: '127.0.0.1:5000', instanceID: 'i' },
      meta: { blob: { redirected: true } },
      somethingNew: [1, { two: 3 }],
    }

    expect(noticeOf(event)).toEqual({
      id: ID,
      action: 'push',
      repository: 'team/app',
      tag: 'latest',
      digest: DIGEST,
      renamedTo: undefined,
    })
  })

  it.each([MEDIA_TYPES.ociManifest, MEDIA_TYPES.ociIndex, MEDIA_TYPES.dockerList, undefined])(
    'is a manifest of type %s pushed by its digest, an index as well',
    (mediaType) => {
      expect(noticeOf(push({ mediaType, digest: DIGEST }))).toMatchObject({ tag: undefined, digest: DIGEST })
    },
  )

  it('is a deleted tag, a deleted digest, and a repository deleted with all that was in it', () => {
    const deleted = (target: object) =>
      noticeOf({ id: ID, action: 'delete', target: { repository: 'team/app', ...target } })

    expect(deleted({ tag: 'v1' })).toMatchObject({ action: 'delete', tag: 'v1', digest: undefined })
    expect(deleted({ digest: DIGEST })).toMatchObject({ action: 'delete', tag: undefined, digest: DIGEST })
    expect(deleted({})).toMatchObject({ action: 'delete', tag: undefined, digest: undefined })
  })

  it('is a mounted blob, since something is being pushed to that repository', () => {
    const target = {
      mediaType: MEDIA_TYPES.octetStream,
      digest: DIGEST,
      repository: 'team/app',
      fromRepository: 'a',
    }

    expect(noticeOf({ id: ID, action: 'mount', target })).toMatchObject({ repository: 'team/app' })
  })

  it('is a rename, from the one path and to the other, whichever kind of rename it was', () => {
    const rename = (repository: string | undefined, type: string) =>
      noticeOf({
        id: ID,
        action: 'rename',
        target: { repository, rename: { type, from: 'group/old', to: 'group/new' } },
      })

    for (const notice of [rename('group/old', 'name'), rename(undefined, 'namespace')]) {
      expect(notice).toMatchObject({ action: 'rename', repository: 'group/old', renamedTo: 'group/new' })
    }
  })

  it('still touches its repository when its tag or digest is none that can be asked for', () => {
    const digests = ['md5:1234', `sha256:${'A'.repeat(64)}`, 7, null]
    for (const digest of digests) {
      expect(noticeOf(push({ digest, tag: '../../etc' }))).toMatchObject({
        tag: undefined,
        digest: undefined,
      })
    }
    const rename = { from: 'a', to: '../b' }
    expect(noticeOf({ id: ID, action: 'rename', target: { rename } })).toMatchObject({ renamedTo: undefined })
  })
})

describe('an event that does not matter', () => {
  it('is counted by its reason, and the others of its envelope are read all the same', () => {
    const octets = { mediaType: MEDIA_TYPES.octetStream, digest: DIGEST }
    const events = [
      { action: 'pull', target: { repository: 'team/app', tag: 'v1' } },
      push(octets),
      push({ repository: 'Team/App', tag: 'v1' }),
      push({ repository: '../../etc', tag: 'v1' }),
      push({ repository: 'a'.repeat(256), tag: 'v1' }),
      push({ repository: 5 }),
      { action: 'push' },
      { action: 'rename', target: { repository: 'team/app', rename: { from: 'A', to: 'b' } } },
      { action: 'quarantine', target: { repository: 'team/app' } },
      { action: '__proto__' },
      { target: { repository: 'team/app' } },
      null,
      'push',
      [],
      push({ tag: 'v2' }),
    ]

    const { notices, ignored } = read({ events })

    expect(notices).toMatchObject([{ repository: 'team/app', tag: 'v2' }])
    const names = Array.from({ length: 6 }, () => 'name')
    const actions = Array.from({ length: 6 }, () => 'action')
    expect(ignored).toEqual(['pull', 'blob', ...names, ...actions])
  })
})

describe('the id of an event', () => {
  const { id: _, ...nameless } = push({ tag: 'v1', digest: DIGEST })
  const idOf = (event: object) => one(event).notices[0]?.id

  it('is made of what it says when it has none, the same each time it is sent', () => {
    const event = { ...nameless, timestamp: '2026-01-01T00:00:00Z', request: { id: 'r1' } }

    expect(idOf(event)).toMatch(/^sha256:[0-9a-f]{64}$/)
    expect(idOf({ ...event, actor: { name: 'root' } })).toBe(idOf(event))
    const others = [
      { ...event, timestamp: '2026-01-01T00:00:01Z' },
      { ...event, request: { id: 'r2' } },
      { ...event, action: 'delete' },
      { ...event, target: { ...event.target, tag: 'v2' } },
      { ...event, target: { ...event.target, repository: 'team/other' } },
      { ...event, target: { ...event.target, digest: digestOf(Buffer.from('y')) } },
    ]
    expect(new Set([event, ...others].map(idOf)).size).toBe(7)
  })

  it.each([
    ['empty', ''],
    ['no text', 12],
    ['endless', 'x'.repeat(129)],
    ['one that no database takes', 'a\u0000b'],
    ['of several lines', 'a\nb'],
  ])('is made of what it says when the one it has is %s', (_name, id) => {
    expect(idOf({ ...nameless, id })).toMatch(/^sha256:[0-9a-f]{64}$/)
  })
})

describe('an envelope', () => {
  it('of thousands of events is read whole, in their order', () => {
    const events = Array.from({ length: 5000 }, (_, index) => ({
      ...push({ tag: `v${index}` }),
      id: `${index}`,
    }))

    expect(read({ events }).notices.map(({ id }) => id)).toEqual(events.map(({ id }) => id))
  })

  it.each([{}, { events: null }, { events: [] }, { other: 1 }])('without events is one: %j', (envelope) => {
    expect(read(envelope)).toEqual({ notices: [], arrivals: [], ignored: [] })
  })

  it('whose events are nested deeper than any stack is read', () => {
    const depth = 100_000
    const nested = `${'['.repeat(depth)}${']'.repeat(depth)}`
    const bytes = Buffer.from(
      `{"events":[{"action":"push","target":{"repository":"team/app","tag":"v1","x":${nested}}}]}`,
    )

    expect(readEnvelope(bytes).notices).toMatchObject([{ tag: 'v1' }])
  })

  it('of more events than real ones could be in it is refused before any of them is looked at', () => {
    const bytes = Buffer.from(`{"events":[${'0,'.repeat(1_000_000)}0]}`)
    const startedAt = performance.now()

    expect(() => readEnvelope(bytes)).toThrow(/expected at most 100000/)
    expect(performance.now() - startedAt).toBeLessThan(1000)
  })

  it.each(['', 'null', '[]', '"events"', '7', '{"events":{}}', '{"events":"push"}', '{"events":[', '\u0000'])(
    'is refused with what was expected when it is %j',
    (text) => {
      expect(() => readEnvelope(Buffer.from(text))).toThrow(NotificationError)
      expect(() => readEnvelope(Buffer.from(text))).toThrow(/expected/)
    },
  )
})
