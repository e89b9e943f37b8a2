/** A process that was stopped in its turn, and goes on when the others have long gone on without it. */
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Digest } from '../../src/oci/digest.ts'
import { type Coordination, CoordinationUnavailableError } from '../../src/store/coordination.ts'
import { EXPIRED_AT_MS } from '../../src/store/expiries.ts'
import type { HeldTag, Link, Mark } from '../../src/store/repository-index.ts'
import type { Store } from '../../src/store/store.ts'
import { startProgram } from '../support/process.ts'
import { type RedisServer, startRedis } from '../support/redis.ts'
import { until } from '../support/wait.ts'
import { sharedStores } from './shared-stores.ts'
import { all, nameOf, putManifest, tagOf } from './store-fixture.ts'

const name = nameOf('team/app')
const latest = tagOf('latest')

let redis: RedisServer
beforeAll(async () => {
  redis = await startRedis()
})
afterAll(() => redis[Symbol.asyncDispose]())

interface Case {
  readonly what: string
  readonly remove: (store: Store, digest: Digest) => Promise<void>
  readonly held: (store: Store, digest: Digest) => Promise<unknown>
}

const cases: Case[] = [
  {
    what: 'link',
    remove: (store, digest) => store.index.hideLink(name, 'manifest', digest),
    held: (store, digest) => store.index.link(name, 'manifest', digest),
  },
  {
    what: 'tag',
    remove: (store) => store.index.hideTag(name, latest),
    held: (store) => store.index.tag(name, latest),
  },
  {
    what: 'mark',
    remove: (store) => store.holdings.dropComplete(name),
    held: (store) => store.holdings.completeSince(name),
  },
]

describe('a process that is stopped after it looked and before it wrote', () => {
  it.each(cases)('takes its $what back when another removed it meanwhile', async ({ what, remove, held }) => {
    await using stores = await sharedStores(redis)
    const { store } = stores.a
    const digest = await putManifest(store, name, 'contested')
    const lines: string[] = []
    const script = join(import.meta.dirname, 'paused-process.ts')
    await using paused = await startProgram(
      process.execPath,
      [script, stores.root, redis.url, stores.site, what, digest],
      { onLine: (line) => lines.push(line) },
    )
    await until(() => lines.includes('looked false'), { what: 'the other process to have looked' })
    paused.signal('SIGSTOP')

    await remove(store, digest)
    paused.signal('SIGUSR2')
    paused.signal('SIGCONT')
    await paused.exited

    expect(lines[1]).toBe(what === 'mark' ? 'came to undefined' : 'came to false')
    expect(await held(store, digest)).toBeUndefined()
    if (what === 'link') expect(await store.holdings.links(name, 'manifest')).toEqual([])
    if (what === 'tag') expect(await store.holdings.tags(name)).toEqual([])
  })

  it('keeps what nobody removed, though it lost its turn', async () => {
    await using stores = await sharedStores(redis)
    const { store } = stores.a
    const digest = await putManifest(store, name, 'uncontested')
    const lines: string[] = []
    const script = join(import.meta.dirname, 'paused-process.ts')
    await using paused = await startProgram(
      process.execPath,
      [script, stores.root, redis.url, stores.site, 'tag', digest],
      { onLine: (line) => lines.push(line) },
    )
    await until(() => lines.includes('looked false'), { what: 'the other process to have looked' })
    paused.signal('SIGSTOP')
    await store.index.hideTag(name, tagOf('another'))
    paused.signal('SIGUSR2')
    paused.signal('SIGCONT')
    await paused.exited

    expect(lines[1]).toBe('came to true')
    expect(await store.index.tag(name, latest)).toMatchObject({ digest })
  })
})

/** `through` lets the first look be finished, and what follows it wait for `goOn`. */
function stopAfterLooking() {
  const looked = Promise.withResolvers<void>()
  const gate = Promise.withResolvers<void>()
  let armed = false
  const through = (coordination: Coordination): Coordination => ({
    ...coordination,
    overrules: async (mark, ...keys) => {
      const overruled = await coordination.overrules(mark, ...keys)
      if (armed) {
        armed = false
        looked.resolve()
        await gate.promise
      }
      return overruled
    },
  })
  const arm = () => {
    armed = true
  }
  return { through, arm, looked: looked.promise, goOn: gate.resolve }
}

describe('a link that was being written when Redis went away', () => {
  it.each([
    ['flushed', async () => void (await redis.command('flushall')), true],
    ['killed', () => redis.stop(), false],
  ])('is taken back: %s', async (_how, goAway, stays) => {
    const { through, arm, looked, goOn } = stopAfterLooking()
    await using stores = await sharedStores(redis, {}, { through })
    const digest = await putManifest(stores.a.store, name, 'm')
    const { index } = stores.b.store
    arm()
    const linking = index.putLink(nameOf('team/other'), 'manifest', digest, index.mark())
    await looked

    await goAway()
    goOn()

    expect(await linking).toBe(false)
    expect(await stores.a.store.index.link(nameOf('team/other'), 'manifest', digest)).toBeUndefined()
    expect(await all(stores.a.store.holdings.repositories())).toContain(name)
    if (!stays) await redis.start()
  })
})

describe('what is held and was being confirmed again when Redis went away', () => {
  interface Renewal {
    readonly what: string
    readonly renew: (store: Store, digest: Digest, mark: Mark) => Promise<boolean>
    readonly held: (store: Store, digest: Digest) => Promise<HeldTag | Link | undefined>
    readonly remove: (store: Store, digest: Digest) => Promise<void>
  }
  const renewals: Renewal[] = [
    {
      what: 'a link',
      renew: (store, digest, mark) => store.index.putLink(name, 'manifest', digest, mark),
      held: (store, digest) => store.index.link(name, 'manifest', digest),
      remove: (store, digest) => store.index.hideLink(name, 'manifest', digest),
    },
    {
      what: 'a tag',
      renew: (store, digest, mark) => store.index.putTag(name, latest, digest, mark),
      held: (store) => store.index.tag(name, latest),
      remove: (store) => store.index.hideTag(name, latest),
    },
  ]

  /** Before it, afterwards, and what came of it. */
  async function interrupted(
    { renew, held }: Renewal,
    meanwhile: (store: Store, digest: Digest) => Promise<void>,
  ) {
    const { through, arm, looked, goOn } = stopAfterLooking()
    await using stores = await sharedStores(redis, {}, { through })
    const { store } = stores.a
    const digest = await putManifest(store, name, 'm', latest)
    const before = await held(store, digest)
    arm()
    const mark = { ...stores.b.store.index.mark(), atMs: Date.now() + 60_000 }
    const renewing = renew(stores.b.store, digest, mark)
    await looked
    await redis.stop()
    try {
      await meanwhile(store, digest)
      goOn()
      return { came: await renewing, before, after: await held(store, digest) }
    } finally {
      goOn()
      await redis.start()
    }
  }

  it.each(renewals)('stays, as it was confirmed before: $what', async (renewal) => {
    const { came, before, after } = await interrupted(renewal, async () => undefined)

    expect(came).toBe(false)
    // An outage serves such a link; while the primary is there, it is asked.
    expect(after).toEqual(renewal.what === 'a link' ? { ...before, confirmedAtMs: EXPIRED_AT_MS } : before)
  })

  it.each(renewals)('is not served when it was to be removed meanwhile: $what', async (renewal) => {
    const { came, after } = await interrupted(renewal, async (store, digest) => {
      await expect(renewal.remove(store, digest)).rejects.toBeInstanceOf(CoordinationUnavailableError)
    })

    expect(came).toBe(false)
    expect(after?.confirmedAtMs).toBeUndefined()
  })
})
