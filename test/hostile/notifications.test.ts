/** Notifications of every shape: what is valid in them is stored, and what is not costs nobody anything. */
import { join } from 'node:path'
import fc from 'fast-check'
import { Agent, request } from 'undici'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startEventsListener } from '../../replicator/events-listener.ts'
import { createInbox } from '../../replicator/inbox.ts'
import type { HttpListener } from '../../src/http-listener.ts'
import { createLogger } from '../../src/log.ts'
import { createMetrics } from '../../src/metrics.ts'
import { openTracking } from '../../src/tracking/open-tracking.ts'
import type { Tracking } from '../../src/tracking/tracking.ts'
import { idleDeps } from '../replicator/inbox-world.ts'
import { nameOf } from '../store/store-fixture.ts'
import { tempFolder } from '../support/temp.ts'
import { deeplyNested, HOSTILE_TIMEOUT_MS, holds, jsonWith, mutated, SEEDED } from './hostile.ts'

const V1 = 'application/vnd.docker.distribution.events.v1+json'
const V2 = 'application/vnd.docker.distribution.events.v2+json'
const DIGEST = `sha256:${'a'.repeat(64)}`

let owned: AsyncDisposableStack
let tracking: Tracking
let listener: HttpListener
let agent: Agent
const logged: string[] = []
let sent = 0

beforeAll(async () => {
  owned = new AsyncDisposableStack()
  const folder = owned.use(await tempFolder('hostile-events'))
  const log = createLogger({ destination: { write: (line) => void logged.push(line) } })
  tracking = owned.use(
    await openTracking({ kind: 'sqlite', file: join(folder.path, 'tracking.db') }, { log }),
  )
  const inbox = owned.use(createInbox({ ...idleDeps(), tracking, log }))
  listener = owned.use(
    await startEventsListener(
      { accept: ({ notices }) => inbox.accept(notices), log, metrics: createMetrics() },
      { host: '127.0.0.1', port: 0, secret: () => undefined, requestsPerSecond: 1e9, burst: 1e9 },
    ),
  )
  agent = owned.adopt(new Agent(), (made) => made.destroy())
})
afterAll(() => owned.disposeAsync())

async function post(body: Buffer | string, type = V1): Promise<number> {
  const answer = await request(`http://127.0.0.1:${listener.address.port}/notifications`, {
    method: 'POST',
    headers: { 'content-type': type },
    body: Buffer.from(body),
    dispatcher: agent,
    headersTimeout: 10_000,
  })
  await answer.body.text()
  return answer.statusCode
}

const pendingOf = async (name: string) => (await tracking.pendingEvents(nameOf(name))).map(({ tag }) => tag)

/** An event that no reader may lose, of a repository of its own. */
function validEvent(id: number) {
  return {
    id: `hostile-${id}`,
    timestamp: '2026-11-22T06:19:03Z',
    action: 'push',
    target: { mediaType: 'x', size: 1, digest: DIGEST, repository: `valid/r${id}`, tag: 'v1', url: 'x' },
    source: { addr: 'x', instanceID: 'i' },
  }
}

const EVENT_KEYS = ['id', 'action', 'target', 'timestamp', 'request', 'source', 'actor', 'meta']
const TARGET_KEYS = [
  'repository',
  'tag',
  'digest',
  'mediaType',
  'rename',
  'from',
  'to',
  'instanceID',
  'useragent',
]
const VALUES = [
  ...[
    'push',
    'delete',
    'mount',
    'rename',
    'pull',
    'PUSH',
    'team/app',
    '../../etc',
    'a'.repeat(300),
    'v1',
    '..',
  ],
  ...[DIGEST, 'sha256:beef', 'application/octet-stream', { from: 'a', to: '../b' }, { from: 'a', to: 'b' }],
  ...[
    { repository: 'junk/app', tag: 'v1', digest: DIGEST },
    { repository: 'junk/app', tag: '\ud800' },
  ],
]
const junk = jsonWith([...EVENT_KEYS, ...TARGET_KEYS], VALUES)

describe(`a notification (${SEEDED})`, { timeout: HOSTILE_TIMEOUT_MS }, () => {
  it('loses no valid event to those beside it, and is answered 204', async () => {
    const events = fc.array(fc.oneof(junk, fc.constant('valid' as const)), { maxLength: 12 })
    const property = fc.asyncProperty(
      events,
      fc.constantFrom(V1, V2, 'application/json'),
      async (all, type) => {
        const ids: number[] = []
        const envelope = all.map((event) => {
          if (event !== 'valid') return event
          ids.push(++sent)
          return validEvent(sent)
        })

        expect(await post(JSON.stringify({ events: envelope }), type)).toBe(204)
        for (const id of ids) expect(await pendingOf(`valid/r${id}`)).toEqual(['v1'])
      },
    )

    await holds(property, { runs: 150 })
  })

  it('of any bytes is 204, or 400 with nothing of it taken', async () => {
    const text = JSON.stringify({ events: [validEvent(0), { action: 'pull' }] })
    const pieces = [
      '{',
      '}',
      '[',
      ']',
      '"',
      ':',
      ',',
      '\\',
      '\\u0000',
      '\\ud800',
      'null',
      '1e999',
      '{"__proto__":',
      '\0',
      '\ufeff',
    ]
    const bytes = fc.oneof(
      mutated(fc.constant(text), pieces).map((changed) => Buffer.from(changed)),
      mutated(fc.constant(text), pieces).map((changed) => Buffer.from(changed, 'latin1')),
      junk.map((value) => Buffer.from(JSON.stringify(value))),
      jsonWith(['events'], [null, [], [[]], {}, 'push']).map((value) => Buffer.from(JSON.stringify(value))),
      fc.uint8Array({ maxLength: 60 }).map((some) => Buffer.from(some)),
    )
    const property = fc.asyncProperty(bytes, async (body) => {
      const before = await tracking.due(Date.now() * 2, 100_000)
      const status = await post(body)
      expect([204, 400]).toContain(status)
      if (status === 400) expect(await tracking.due(Date.now() * 2, 100_000)).toEqual(before)
    })

    await holds(property, { runs: 200 })
  })

  it('with keys like those of every object changes no object', async () => {
    const evil =
      '{"events":[{"__proto__":{"action":"push","polluted":1},"constructor":{"prototype":{"polluted":1}}}]}'

    expect(await post(evil)).toBe(204)
    const id = ++sent
    expect(await post(`{"__proto__":{"events":[${JSON.stringify(validEvent(id))}]}}`)).toBe(204)

    expect(Reflect.get({}, 'polluted')).toBeUndefined()
    expect(await tracking.find(nameOf(`valid/r${id}`))).toBeUndefined()
  })

  it('that is nested beyond any stack, or of as many events as fit, is answered in time', async () => {
    const nested = deeplyNested(200_000)
    const id = ++sent
    const valid = JSON.stringify(validEvent(id))

    expect(await post(`{"events":[{"action":"push","target":${nested}},${valid}]}`)).toBe(204)
    expect(await post(nested)).toBe(400)
    expect(await post(`{"events":[${'{},'.repeat(50_000)}${valid}]}`)).toBe(204)
    expect(await post(`{"events":[${'0,'.repeat(1_000_000)}0]}`)).toBe(400)
    expect(await pendingOf(`valid/r${id}`)).toEqual(['v1'])
  })

  it('has left no fault of the site’s own in the log', () => {
    expect(logged.filter((line) => /"level":"(error|fatal)"/.test(line))).toEqual([])
  })
})
