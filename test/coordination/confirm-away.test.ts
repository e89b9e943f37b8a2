import { afterAll, beforeAll, expect, it } from 'vitest'
import { createStandings } from '../../proxy/standing.ts'
import { createConfirm } from '../../src/fill/confirm.ts'
import { UpstreamError } from '../../src/upstream/errors.ts'
import { sharedStores } from '../store/shared-stores.ts'
import { nameOf, putBlob } from '../store/store-fixture.ts'
import { type RedisServer, startRedis } from '../support/redis.ts'

const name = nameOf('team/app')

let redis: RedisServer
beforeAll(async () => {
  redis = await startRedis()
})
afterAll(() => redis[Symbol.asyncDispose]())

it('the primary is asked once while Redis is away, and its word is the answer, yes and no', async () => {
  await using stores = await sharedStores(redis)
  const { store } = stores.a
  const [yes, no] = [await putBlob(store, 'it has this'), await putBlob(store, 'and not this')]
  for (const digest of [yes, no]) await store.index.putLink(name, 'layer', digest, store.index.mark())
  const asked: string[] = []
  const confirmBlob = async (_name: unknown, digest: string) => {
    asked.push(digest)
    if (digest === no) throw new UpstreamError('absent', 'not there', { status: 404 })
  }
  const confirm = createConfirm({ ...store, upstream: { confirmBlob } as never })
  const standings = createStandings({
    index: store.index,
    confirm,
    primaryIsAway: () => false,
    checkMs: 1000,
    recheckMs: 0,
  })
  const access = { credential: { kind: 'site' } as const, mayWrite: false, onlyPrimary: false }
  const settle = async (digest: typeof yes) =>
    standings.settle(name, 'layer', digest, await store.index.link(name, 'layer', digest), access)
  await redis.stop()

  expect(await settle(yes)).toEqual({ staleSinceMs: undefined })
  await expect(settle(no)).rejects.toMatchObject({ kind: 'absent' })

  expect(asked).toEqual([yes, no])
  expect(await store.index.link(name, 'layer', no)).toMatchObject({ confirmedAtMs: undefined })
  await redis.start()
})
