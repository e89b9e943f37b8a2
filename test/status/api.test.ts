/** The API by its table of requests: what is asked of the replicator, what is answered, what is refused. */
import { beforeEach, describe, expect, it } from 'vitest'
import { createLogger } from '../../src/log.ts'
import { createAdminApp } from '../../src/status/admin.ts'
import { ControlRefused, type ReplicationControl } from '../../src/status/replication-control.ts'
import { type FakeControl, fakeControl, SYNCED } from './fake-control.ts'

let logged: string[]
let control: FakeControl
const log = createLogger({ destination: { write: (line) => void logged.push(line) } })

beforeEach(() => {
  logged = []
  control = fakeControl()
})

async function ask(method: 'GET' | 'POST', path: string, overrides: Partial<ReplicationControl> = {}) {
  control = fakeControl(overrides)
  const ports = { ready: async () => undefined, metrics: async () => '', collectGarbage: async () => ({}) }
  const app = createAdminApp({ ...ports, replication: control }, { log, token: () => undefined })
  const response = await app.request(path, { method })
  const body = (await response.json()) as Readonly<Record<string, unknown>>
  return { status: response.status, body }
}

describe('status', () => {
  it('is the report', async () => {
    const { status, body } = await ask('GET', '/status')

    expect(status).toBe(200)
    expect(body).toMatchObject({ healthy: true, container_repositories_synced_count: 2, lag_seconds: 0 })
  })
})

describe('repositories', () => {
  it("are listed with the fields of GitLab's GraphQL", async () => {
    const { body } = await ask('GET', '/repositories')

    expect(control.asked).toEqual([['list', { limit: 100 }]])
    expect(body).toMatchObject({ next: null, repositories: [{ path: 'team/app' }, { path: 'team/explain' }] })
    expect(body['repositories']).toEqual([
      expect.anything(),
      {
        id: 2,
        path: 'team/explain',
        state: 'failed',
        retryCount: 11,
        retryAt: '2026-11-22T06:01:00.000Z',
        lastSyncFailure: 'v1: the primary has no such blob',
        lastSyncedAt: '2026-11-22T06:00:00.000Z',
        createdAt: '2026-11-22T05:59:00.000Z',
        needsAttention: true,
        missingOnPrimary: false,
        verificationState: 'succeeded',
        verifiedAt: '2026-11-22T06:00:00.000Z',
        verificationFailure: null,
        verificationChecksum: 'ab12',
        verificationChecksumMismatched: null,
        checksumMismatch: false,
        tagsCount: 10,
        failingTagsCount: 1,
        blobsOutstanding: 0,
        bytesOutstanding: 0,
        inventoryAt: '2026-11-22T06:00:00.000Z',
        activeAt: null,
      },
    ])
  })

  it('are filtered, and read on from the page before', async () => {
    const { body } = await ask(
      'GET',
      '/repositories?state=failed&needsattention=true&path=team*&after=a%2Fb&limit=1',
    )

    expect(control.asked).toEqual([
      ['list', { state: 'failed', needsAttention: true, path: 'team*', after: 'a/b', limit: 1 }],
    ])
    expect(body['next']).toBe('team/app')
  })

  it('are shown one by one with their failing tags, however the slashes are written', async () => {
    for (const path of ['/repositories/team/explain', '/repositories/team%2Fexplain']) {
      expect(await ask('GET', path)).toMatchObject({
        status: 200,
        body: {
          path: 'team/explain',
          failingTags: [
            {
              tag: 'v1',
              digest: `sha256:${'a'.repeat(64)}`,
              kind: 'absent',
              message: 'the primary has no such blob',
              since: '2026-11-22T06:00:00.000Z',
            },
          ],
        },
      })
    }
  })

  it('are explained tag by tag, also the one that is called explain', async () => {
    const { body } = await ask('GET', '/repositories/team/explain/explain?tag=v1')

    expect(control.asked).toEqual([['explain', 'team/explain', 'v1']])
    expect(body).toEqual({
      source: 'local',
      why: 'confirmed within tags.trust',
      digestHere: `sha256:${'a'.repeat(64)}`,
      digestThere: null,
      since: '2026-11-22T06:00:00.000Z',
      mode: 'replicate',
    })
  })

  it.each([
    ['/repositories/team/app/resync', [['resync', 'team/app', { dryRun: false }]], 1],
    ['/repositories/team/app/reverify?dryrun=true', [['reverify', 'team/app', { dryRun: true }]], 1],
    ['/repositories/resync?state=failed', [['resync', { state: 'failed' }, { dryRun: false }]], 2],
    [
      '/repositories/reverify?path=team*&needsattention=false&dryrun=true',
      [['reverify', { path: 'team*', needsAttention: false }, { dryRun: true }]],
      2,
    ],
    ['/repositories/resync?all=true', [['resync', {}, { dryRun: false }]], 2],
  ])('POST %s does that', async (path, asked, repositories) => {
    const { status, body } = await ask('POST', path)

    expect(status).toBe(200)
    expect(body).toEqual({ repositories, dryRun: path.includes('dryrun=true') })
    expect(control.asked).toEqual(asked)
  })

  it('that are not tracked are said not to be', async () => {
    const answer = { status: 404, body: { error: 'team/none is not tracked' } }

    expect(await ask('GET', '/repositories/team/none')).toEqual(answer)
    expect(await ask('POST', '/repositories/team/none/resync')).toEqual(answer)
  })
})

describe('the hand', () => {
  it('pauses and resumes', async () => {
    expect(await ask('POST', '/pause')).toEqual({ status: 200, body: { paused: true } })
    expect(control.asked).toEqual([['pause']])
    expect(await ask('POST', '/resume')).toEqual({ status: 200, body: { paused: false } })
    expect(control.asked).toEqual([['resume']])
  })

  it('releases the brake, and is told what it held back; or is only told', async () => {
    const brake = async () => ({
      trippedAtMs: Date.UTC(2026, 0),
      repositories: 1,
      tags: 7,
      examples: [SYNCED.path],
    })
    const held = {
      tripped: true,
      trippedAt: '2026-01-01T00:00:00.000Z',
      repositories: 1,
      tags: 7,
      examples: ['team/app'],
    }

    expect((await ask('GET', '/brake', { brake })).body).toEqual(held)
    expect((await ask('POST', '/brake/release?dryrun=true', { brake })).body).toEqual({
      ...held,
      dryRun: true,
    })
    expect(control.asked).toEqual([])
    expect((await ask('POST', '/brake/release', { brake })).body).toEqual({ ...held, dryRun: false })
    expect(control.asked).toEqual([['releaseBrake']])
  })

  it('brings back what is hidden, by an id that may hold anything', async () => {
    expect(await ask('POST', '/hidden/team%2Fapp@1%25/restore')).toEqual({
      status: 200,
      body: { restored: true },
    })
    expect(control.asked).toEqual([['restore', 'team/app@1%']])
    expect(await ask('POST', '/hidden/gone/restore')).toEqual({
      status: 404,
      body: { error: 'no such entry' },
    })
  })
})

describe('a request that is wrong', () => {
  it.each([
    ['GET', '/status?verbose=1', 'verbose: unknown; expected none'],
    ['GET', '/repositories?state=done', 'state: expected pending, started, synced, failed'],
    ['GET', '/repositories?limit=1001', 'limit: expected a whole number from 1 to 1000'],
    ['GET', '/repositories?limit=1e2', 'limit: expected a whole number from 1 to 1000'],
    ['GET', '/repositories?after=', 'after: expected 1 to 255 characters'],
    ['GET', '/repositories?toString=1', 'toString: unknown'],
    ['GET', '/repositories/Team/App', 'repository: expected a name such as team/app'],
    ['GET', '/repositories/..%2F..%2Fetc', 'repository: expected a name such as team/app'],
    ['GET', '/repositories/team/app/explain?tag=-x', 'tag: expected a tag such as v1.2'],
    ['GET', '/repositories/explain?tag=v1', 'tag: unknown; expected none'],
    ['POST', '/repositories/resync', 'expected state, needsattention or path, or else all=true'],
    ['POST', '/repositories/resync?all=false', 'expected state, needsattention or path, or else all=true'],
    ['POST', '/repositories/resync?all=true&path=a', 'expected state, needsattention or path, or else all'],
    [
      'POST',
      '/repositories/resync?pat=team',
      'pat: unknown; expected state, needsattention, path, all, dryrun',
    ],
    ['POST', '/repositories/resync?path=a&path=b', 'path: expected once'],
    ['POST', '/repositories/resync?path=a&dryrun=1', 'dryrun: expected true or false'],
    ['POST', '/repositories/team/app/resync?all=true', 'all: unknown; expected dryrun'],
    ['POST', '/repositories/Team/resync', 'repository: expected a name such as team/app'],
    ['POST', '/pause?for=1h', 'for: unknown; expected none'],
    ['POST', '/brake/release?dryrun=yes', 'dryrun: expected true or false'],
    ['POST', '/adopt', 'folder: expected the absolute path of a folder'],
    ['POST', '/adopt?folder=var/lib', 'folder: expected the absolute path of a folder'],
    ['POST', '/rebuild?dryrun', 'dryrun: expected true or false'],
  ] as const)('%s %s is told what was expected, and nothing is done', async (method, path, words) => {
    const { status, body } = await ask(method, path)

    expect(status).toBe(400)
    expect(body['error']).toContain(words)
    expect(control.asked).toEqual([])
  })

  it.each([
    ['GET', '/pause'],
    ['POST', '/status'],
    ['POST', '/plan'],
    ['GET', '/rebuild'],
    ['POST', '/repositories/team/app'],
    ['POST', '/repositories//resync'],
  ] as const)('%s %s is no request at all', async (method, path) => {
    expect((await ask(method, path)).status).toBeGreaterThanOrEqual(400)
    expect(control.asked).toEqual([])
  })
})

describe('a failure', () => {
  it('is told in the words of the replicator when it has some', async () => {
    const pause = () => Promise.reject(new ControlRefused('a rebuild is under way'))

    expect(await ask('POST', '/pause', { pause })).toEqual({
      status: 409,
      body: { error: 'a rebuild is under way' },
    })
  })

  it('is otherwise logged, and its words are not shown', async () => {
    const list = () => Promise.reject(new Error('password=hunter2'))

    expect(await ask('GET', '/repositories', { list })).toEqual({
      status: 500,
      body: { error: 'internal error: see the log' },
    })
    expect(logged.join()).toContain('hunter2')
  })
})
