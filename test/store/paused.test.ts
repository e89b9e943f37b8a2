/** A process that was stopped in its turn, and goes on when the others have long gone on without it. */
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Digest } from '../../src/oci/digest.ts'
import type { Coordination } from '../../src/store/coordination.ts'
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

describe('a link that was being written when Redis went away', () => {
  it.each([
    ['flushed', async () => void (await redis.command('flushall')), true],
    ['killed', () => redis.stop(), false],
  ])('is taken back: %s', async (_how, goAway, stays) => {
    const looked = Promise.withResolvers<void>()
    const gate = Promise.withResolvers<void>()
    let first = true
    const through = (coordination: Coordination): Coordination => ({
      ...coordination,
      overrules: async (mark, ...keys) => {
        const overruled = await coordination.overrules(mark, ...keys)
        if (first) {
          first = false
          looked.resolve()
          await gate.promise
        }
        return overruled
      },
    })
    await using stores = await sharedStores(redis, {}, { through })
    const digest = await putManifest(stores.a.store, name, 'm')
    const linking = stores.b.store.index.putLink(
      nameOf('team/other'),
      'manifest',
      digest,
      stores.b.store.index.mark(),
    )
    await looked.promise

    await goAway()
    gate.resolve()

    expect(await linking).toBe(false)
    expect(await stores.a.store.index.link(nameOf('team/other'), 'manifest', digest)).toBeUndefined()
    expect(await all(stores.a.store.holdings.repositories())).toContain(name)
    if (!stays) await redis.start()
  })
})
