/** Long work over the API: what is read line by line, and what becomes of it when nobody reads. */
import { connect } from 'node:net'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { createLogger } from '../../src/log.ts'
import { createAdminApp, startAdmin } from '../../src/status/admin.ts'
import {
  ControlRefused,
  type ExportLoss,
  type ListingOptions,
  type ReplicationControl,
} from '../../src/status/replication-control.ts'
import { digest, fakeControl, NOW_MS, name, SYNCED, tag } from './fake-control.ts'

let logged: string[]
const log = createLogger({ destination: { write: (line) => void logged.push(line) } })
const ports = { ready: async () => undefined, metrics: async () => '', collectGarbage: async () => ({}) }
beforeEach(() => {
  logged = []
})

function site(overrides: Partial<ReplicationControl>) {
  return createAdminApp({ ...ports, replication: fakeControl(overrides) }, { log, token: () => undefined })
}

const linesOf = async (response: Response) =>
  (await response.text())
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))

describe('long work', () => {
  it('sends its progress and its items as they come, and its result last', async () => {
    const app = site({
      exportCheck: async ({ onItem, onProgress }) => {
        const nothing = { digestHere: undefined, digestThere: undefined, missing: undefined }
        await onItem({ ...nothing, repository: SYNCED.path, tag: tag('v1'), kind: 'absent' })
        onProgress({ phase: 'comparing', done: 1, total: 2, unit: 'repositories' })
        await onItem({ ...nothing, repository: name('team/none'), tag: undefined, kind: 'unlisted' })
        return { tags: 30, allRepositoriesAsked: true }
      },
    })
    const response = await app.request('/export-check')
    const nothing = { digestHere: null, digestThere: null, missing: null }

    expect(response.status).toBe(200)
    expect(response.headers.get('content-type')).toBe('application/x-ndjson')
    expect(await linesOf(response)).toEqual([
      { item: { ...nothing, repository: 'team/app', tag: 'v1', kind: 'absent' } },
      { progress: { phase: 'comparing', done: 1, total: 2, unit: 'repositories' } },
      { item: { ...nothing, repository: 'team/none', tag: null, kind: 'unlisted' } },
      { result: { tags: 30, allRepositoriesAsked: true } },
    ])
  })

  it('lists what is hidden and what is ahead', async () => {
    const app = site({
      hidden: async function* (under) {
        yield {
          id: String(under),
          hiddenAtMs: NOW_MS,
          repository: SYNCED.path,
          tags: [tag('v1')],
          links: [{ kind: 'layer', digest: digest('a') }],
        }
      },
      ahead: async ({ onItem }) => {
        await onItem({
          repository: SYNCED.path,
          tag: tag('v1'),
          digest: digest('a'),
        })
        return { tags: 1 }
      },
    })

    expect(await linesOf(await app.request('/hidden?path=team'))).toEqual([
      {
        item: {
          id: 'team',
          hiddenAt: '2026-11-22T06:00:00.000Z',
          repository: 'team/app',
          tags: ['v1'],
          links: [{ kind: 'layer', digest: digest('a') }],
        },
      },
      { result: { entries: 1 } },
    ])
    expect(await linesOf(await app.request('/ahead'))).toEqual([
      { item: { repository: 'team/app', tag: 'v1', digest: digest('a') } },
      { result: { tags: 1 } },
    ])
  })

  it('passes on which folder is adopted, and whether only to count', async () => {
    const control = fakeControl()
    const app = createAdminApp({ ...ports, replication: control }, { log, token: () => undefined })
    await linesOf(await app.request('/adopt?folder=/srv/old%20one&dryrun=true', { method: 'POST' }))
    await linesOf(await app.request('/rebuild', { method: 'POST' }))

    expect(control.asked).toEqual([
      ['adopt', '/srv/old one', { dryRun: true }],
      ['rebuild', { dryRun: false }],
    ])
  })

  it('ends with the words of what was refused', async () => {
    const app = site({ plan: () => Promise.reject(new ControlRefused('the primary is away')) })

    expect(await linesOf(await app.request('/plan'))).toEqual([{ error: 'the primary is away' }])
  })

  it('ends with an error, logged and not shown, when it fails halfway', async () => {
    const app = site({
      ahead: async ({ onItem }) => {
        await onItem({
          repository: SYNCED.path,
          tag: undefined,
          digest: digest('a'),
        })
        throw new Error('EIO')
      },
    })

    expect((await linesOf(await app.request('/ahead'))).at(-1)).toEqual({
      error: 'internal error: see the log',
    })
    expect(logged.join()).toContain('EIO')
  })

  it('runs one of each kind at a time, and another when it has ended or failed', async () => {
    const first = Promise.withResolvers<Record<string, number>>()
    const plans = [() => first.promise, async () => ({ repositories: 3 })]
    const app = site({ plan: () => plans.shift()?.() ?? Promise.reject(new Error('too many')) })
    const running = await app.request('/plan')

    const second = await app.request('/plan')
    expect(second.status).toBe(409)
    expect(await second.json()).toEqual({ error: 'plan is already running' })
    expect((await app.request('/ahead')).status).toBe(200)

    first.reject(new Error('no'))
    await linesOf(running)
    await vi.waitFor(async () =>
      expect(await linesOf(await app.request('/plan'))).toEqual([{ result: { repositories: 3 } }]),
    )
  })

  it('does nothing for a HEAD, whose answer nobody would read', async () => {
    let planned = 0
    const app = site({
      plan: async () => {
        planned++
        return {}
      },
    })

    expect((await app.request('/plan', { method: 'HEAD' })).status).toBe(405)
    expect(planned).toBe(0)
    expect((await app.request('/plan')).status).toBe(200)
  })

  it('leaves out progress that nobody was ready to read, and waits with items until they are taken', async () => {
    let taken = 0
    const app = site({
      exportCheck: async ({ onItem, onProgress }: ListingOptions<ExportLoss>) => {
        const nothing = { digestHere: undefined, digestThere: undefined, missing: undefined }
        const loss = { ...nothing, repository: SYNCED.path, tag: undefined, kind: 'unlisted' } as const
        for (let done = 0; done < 1000; done++) onProgress({ phase: 'x', done, total: 1000, unit: 'tags' })
        for (; taken < 50; taken++) await onItem(loss)
        return { allRepositoriesAsked: true }
      },
    })
    const response = await app.request('/export-check')
    await new Promise((resolve) => setImmediate(resolve))

    expect(taken).toBeLessThan(5)
    const lines = await linesOf(response)
    expect(lines.filter((line) => 'item' in line)).toHaveLength(50)
    expect(lines.filter((line) => 'progress' in line).length).toBeLessThan(5)
  })

  describe('on a socket', () => {
    let stack: AsyncDisposableStack
    beforeEach(() => {
      stack = new AsyncDisposableStack()
    })
    afterEach(async () => await stack.disposeAsync())

    it('is stopped when whoever asked is gone, without a word in the log', async () => {
      const stopped = Promise.withResolvers<unknown>()
      const begun = Promise.withResolvers<void>()
      const replication = fakeControl({
        plan: ({ signal }) => {
          begun.resolve()
          signal.addEventListener('abort', () => stopped.resolve(signal.aborted))
          return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
        },
      })
      const listen = { host: '127.0.0.1', port: 0 }
      const admin = stack.use(
        await startAdmin(listen, { ...ports, replication }, { log, token: () => undefined }),
      )
      const socket = connect(admin.address.port, '127.0.0.1')
      socket.write('GET /plan HTTP/1.1\r\nhost: localhost\r\n\r\n')
      await begun.promise

      socket.destroy()

      expect(await stopped.promise).toBe(true)
      await vi.waitFor(async () => {
        const { address } = admin
        const again = await fetch(`http://127.0.0.1:${address.port}/plan`, {
          signal: AbortSignal.timeout(200),
        })
        expect(again.status).toBe(200)
        await again.body?.cancel()
      })
      expect(logged).toEqual([])
    })
  })
})
