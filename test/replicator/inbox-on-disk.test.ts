/** The inbox on a real store, tracking database and queue: what it leaves on the disk, and what survives kill -9. */
import { join } from 'node:path'
import { Agent, request } from 'undici'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { createInbox, type Inbox } from '../../replicator/inbox.ts'
import { readEnvelope } from '../../replicator/notification.ts'
import { createMemoryFreshness } from '../../src/freshness/memory-freshness.ts'
import { createLogger } from '../../src/log.ts'
import { createMetrics } from '../../src/metrics.ts'
import type { Digest } from '../../src/oci/digest.ts'
import { createMemoryQueue } from '../../src/queue/memory-queue.ts'
import type { Queue } from '../../src/queue/queue.ts'
import type { LinkKind } from '../../src/store/repository-index.ts'
import { openStore, type Store } from '../../src/store/store.ts'
import { openTracking } from '../../src/tracking/open-tracking.ts'
import type { Tracking } from '../../src/tracking/tracking.ts'
import { nameOf, putBlob, putManifest } from '../store/store-fixture.ts'
import { onFreePort } from '../support/port.ts'
import { startProgram } from '../support/process.ts'
import { type TempFolder, tempFolder } from '../support/temp.ts'
import { until } from '../support/wait.ts'

const log = createLogger({ destination: { write: () => {} } })
const metrics = createMetrics()
const trackingIn = (folder: TempFolder) =>
  openTracking({ kind: 'sqlite', file: join(folder.path, 'tracking.sqlite') }, { log })

interface EventFields {
  readonly id: string
  readonly action: string
  readonly target: object
}
const envelope = (...events: EventFields[]) => Buffer.from(JSON.stringify({ events }))

let folder: TempFolder
beforeEach(async () => {
  folder = await tempFolder('inbox')
})
afterEach(() => folder[Symbol.asyncDispose]())

describe('an inbox on the disk', () => {
  const owned = { current: new AsyncDisposableStack() }
  let store: Store
  let tracking: Tracking
  let queue: Queue
  let inbox: Inbox
  beforeEach(async () => {
    owned.current = new AsyncDisposableStack()
    store = owned.current.adopt(await openStore(join(folder.path, 'root'), {}, { log, metrics }), (opened) =>
      opened.close(),
    )
    tracking = owned.current.use(await trackingIn(folder))
    queue = owned.current.use(createMemoryQueue({ log }))
    const freshness = createMemoryFreshness()
    const { index, holdings } = store
    inbox = owned.current.use(
      createInbox({ tracking, queue, freshness, index, holdings, modeOf: () => 'replicate', log, metrics }),
    )
  })
  afterEach(() => owned.current.disposeAsync())

  const accept = (...events: EventFields[]) => inbox.accept(readEnvelope(envelope(...events)).notices)
  /** Whether the primary is asked before the link is served again; it must be there. */
  async function isExpired(name: string, kind: LinkKind, digest: Digest): Promise<boolean> {
    const link = await store.index.link(nameOf(name), kind, digest)
    expect(link?.confirmedAtMs).toBeDefined()
    return (link?.confirmedAtMs ?? 0) < Date.now() - 3_600_000
  }

  it('makes a deleted digest be asked for again in its repository, and leaves it there and elsewhere', async () => {
    const digest = await putBlob(store, 'layer')
    const other = await putBlob(store, 'other layer')
    for (const name of ['team/app', 'team/app/sub']) {
      for (const each of [digest, other])
        await store.index.putLink(nameOf(name), 'layer', each, store.index.mark())
    }
    await store.holdings.markComplete(nameOf('team/app'), store.index.mark())

    await accept({ id: 'd', action: 'delete', target: { repository: 'team/app', digest } })

    expect(await isExpired('team/app', 'layer', digest)).toBe(true)
    expect(await isExpired('team/app', 'layer', other)).toBe(false)
    expect(await isExpired('team/app/sub', 'layer', digest)).toBe(false)
    expect(await store.holdings.completeSince(nameOf('team/app'))).toBeUndefined()
  })

  it('makes everything under a renamed path be asked for again, and its new places due', async () => {
    const names = ['group/old', 'group/old/sub', 'group/older', 'group']
    const digest = await putBlob(store, 'manifest')
    for (const name of names) {
      await putManifest(store, nameOf(name), 'manifest')
      await store.holdings.markComplete(nameOf(name), store.index.mark())
    }
    await tracking.discover(names.map(nameOf))

    await accept({
      id: 'r',
      action: 'rename',
      target: { repository: 'group/old', rename: { type: 'name', from: 'group/old', to: 'group/new' } },
    })

    const expired = await Promise.all(names.map((name) => isExpired(name, 'manifest', digest)))
    expect(expired).toEqual([true, true, false, false])
    const complete = await Promise.all(names.map((name) => store.holdings.completeSince(nameOf(name))))
    expect(complete.map((since) => since === undefined)).toEqual([true, true, false, false])
    expect(await tracking.find(nameOf('group/new/sub'))).toMatchObject({ state: 'pending' })
  })

  it('turns a storm of 10 000 events into few jobs, and keeps every event until its job has it', async () => {
    const runs: string[] = []
    const { promise: free, resolve } = Promise.withResolvers<void>()
    queue.work(
      async (key) => {
        runs.push(key)
        await free
      },
      { concurrency: 2 },
    )

    for (let start = 0; start < 10_000; start += 1000) {
      const batch = Array.from({ length: 1000 }, (_, index) => ({
        id: `e${start + index}`,
        action: 'push',
        target: { repository: `team/app${index % 4}`, tag: `v${index % 10}` },
      }))
      await accept(...batch)
      await accept(...batch)
    }
    resolve()

    await until(async () => (await queue.depth()).waiting + (await queue.depth()).running === 0, {
      what: 'the jobs to end',
    })
    expect(runs.length).toBeLessThanOrEqual(8)
    expect(new Set(runs).size).toBe(4)
    expect((await tracking.counts()).eventsPending).toBe(10_000)
  })
})

describe('an accepted notification', () => {
  it('survives kill -9 at any moment', { timeout: 60_000 }, async () => {
    const accepted = new Set<string>()
    let sent = 0
    const agent = new Agent({ connections: 4 })
    for (let round = 0; round < 4; round++) {
      const { program, port } = await onFreePort(async (candidate) => {
        const started = await startProgram(process.execPath, [
          join(import.meta.dirname, 'inbox-process.ts'),
          folder.path,
          String(candidate),
        ])
        await vi.waitFor(
          () =>
            request(`http://127.0.0.1:${candidate}/`, { dispatcher: agent }).then(({ body }) => body.dump()),
          {
            timeout: 10_000,
          },
        )
        return { program: started, port: candidate }
      })
      const killAt = accepted.size + 20 + round * 17
      const senders = Array.from({ length: 4 }, async () => {
        while (!program.exit) {
          const id = `event-${sent++}`
          const target = { repository: `team/app${sent % 5}`, tag: `v${sent}` }
          try {
            const { statusCode, body } = await request(`http://127.0.0.1:${port}/notifications`, {
              method: 'POST',
              headers: { 'content-type': 'application/json' },
              body: envelope({ id, action: 'push', target }),
              dispatcher: agent,
            })
            await body.dump()
            if (statusCode === 204) accepted.add(id)
          } catch {
            return // The process is gone: whether this one was taken, nobody was told.
          }
        }
      })
      await until(() => accepted.size >= killAt, { what: 'notifications to be accepted' })
      await program.kill()
      await Promise.all(senders)
    }
    await agent.destroy()

    await using tracking = await trackingIn(folder)
    const kept = new Set<string>()
    for (let index = 0; index < 5; index++) {
      for (const { id } of await tracking.pendingEvents(nameOf(`team/app${index}`))) kept.add(id)
    }
    expect([...accepted].filter((id) => !kept.has(id))).toEqual([])
    expect(kept.size).toBeLessThanOrEqual(sent)
  })
})
