/** Fill leases on a real Redis: one holder at a time, followers who know how far it is, and what faults make of both. */
import pino from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createRedisFillLeases, type RedisFillLeases } from '../../src/coordination/redis-fill-leases.ts'
import type { FillFollowing, FillLease, FillSource } from '../../src/fill/fill-leases.ts'
import type { FillState, FillWant } from '../../src/fill/fill-state.ts'
import { type Digest, digestOf } from '../../src/oci/digest.ts'
import { type RedisServer, startRedis } from '../support/redis.ts'
import { until } from '../support/wait.ts'

const TTL_MS = 1500
const DIGEST = digestOf(Buffer.from('any'))

let redis: RedisServer
let opened: RedisFillLeases[]
let warnings: string[]
beforeEach(async () => {
  redis = await startRedis()
  opened = []
  warnings = []
})
afterEach(async () => {
  for (const leases of opened) await leases.close()
  await redis[Symbol.asyncDispose]()
})

/** As another process has them. */
function openLeases(site = 'tokyo'): RedisFillLeases {
  const log = pino({ level: 'warn' }, { write: (line: string) => void warnings.push(line) })
  const leases = createRedisFillLeases({ log }, { url: redis.url, site, ttlMs: TTL_MS })
  opened.push(leases)
  return leases
}

async function takeMine(leases: RedisFillLeases, digest: Digest = DIGEST): Promise<FillLease> {
  const taken = await leases.take(digest)
  if (taken.kind !== 'mine') throw new Error(`${taken.kind} instead of mine`)
  return taken.lease
}

interface Heard {
  readonly following: FillFollowing
  readonly states: FillState[]
  readonly ends: string[]
}

async function followTheirs(leases: RedisFillLeases): Promise<Heard> {
  const taken = await leases.take(DIGEST)
  if (taken.kind !== 'theirs') throw new Error(`${taken.kind} instead of theirs`)
  const states: FillState[] = []
  const ends: string[] = []
  const following = taken.follow({
    state: (state) => void states.push(state),
    ended: ({ kind }) => void ends.push(kind),
  })
  return { following, states, ends }
}

function stateOf(heldBytes: number): FillState {
  return {
    file: `sha256-${'a'.repeat(64)}.0123456789abcdef.data`,
    sizeBytes: 1000,
    held: heldBytes === 0 ? [] : [[0, heldBytes]],
    taken: [[0, 1000]],
    far: [],
    verified: false,
  }
}

/** A fetch whose progress the test decides. */
function createSource(): FillSource & { heldBytes: number; readonly wants: FillWant[] } {
  const wants: FillWant[] = []
  const source = {
    heldBytes: 0,
    wants,
    state: () => stateOf(source.heldBytes),
    wanted: (want: FillWant) => void wants.push(want),
  }
  return source
}

describe('the lease of a digest', () => {
  it('is one process’s at a time, and free again when it is given up', async () => {
    const [one, two] = [openLeases(), openLeases()]

    const kinds = (await Promise.all([one, two, one].map((leases) => leases.take(DIGEST)))).map(
      (taken) => taken.kind,
    )

    expect(kinds.sort()).toEqual(['mine', 'theirs', 'theirs'])
    expect(await two.isTaken(DIGEST)).toBe(true)
    expect(await two.isTaken(digestOf(Buffer.from('another')))).toBe(false)
  })

  it('is given up with a last word, which whoever takes it next is not told', async () => {
    const [one, two] = [openLeases(), openLeases()]
    const lease = await takeMine(one)
    lease.share(createSource())
    const heard = await followTheirs(two)
    await until(() => heard.states.length > 0, { what: 'the state' })

    await lease.end({ kind: 'published' })

    await until(() => heard.ends.length > 0, { what: 'the last word' })
    expect(heard.ends).toEqual(['published'])
    expect(await one.isTaken(DIGEST)).toBe(false)
    expect((await takeMine(two)).left).toBeUndefined()
  })

  it('is not shared between sites on one Redis', async () => {
    await takeMine(openLeases('tokyo'))

    expect((await takeMine(openLeases('berlin'))).left).toBeUndefined()
  })

  it('stays with a holder that has nothing to say for longer than it lasts', async () => {
    const [one, two] = [openLeases(), openLeases()]
    const lease = await takeMine(one)
    const heard = await followTheirs(two)
    const endsAt = performance.now() + 2 * TTL_MS

    await until(() => performance.now() > endsAt, { what: 'twice the time a lease lasts' })

    expect(heard.ends).toEqual([])
    expect(lease.lost.aborted).toBe(false)
    expect(await two.isTaken(DIGEST)).toBe(true)
  })
})

describe('a follower', () => {
  it('hears how far the holder is, also when it comes late, and the newest last', async () => {
    const [one, two, three] = [openLeases(), openLeases(), openLeases()]
    const lease = await takeMine(one)
    const source = createSource()
    lease.share(source)
    const early = await followTheirs(two)
    for (const heldBytes of [100, 200, 300]) {
      source.heldBytes = heldBytes
      lease.changed()
      await until(() => early.states.at(-1)?.held[0]?.[1] === heldBytes, { what: `${heldBytes} to be told` })
    }

    const late = await followTheirs(three)

    await until(() => late.states.length > 0, { what: 'the state' })
    expect(late.states[0]).toEqual(stateOf(300))
  })

  it('makes itself heard by the holder', async () => {
    const [one, two] = [openLeases(), openLeases()]
    const lease = await takeMine(one)
    const source = createSource()
    lease.share(source)
    const { following, states } = await followTheirs(two)
    await until(() => states.length > 0, { what: 'the state' })
    const want: FillWant = { spans: [[5, 900]], client: true }

    following.want(want)

    await until(() => source.wants.some(({ client }) => client), { what: 'the want' })
    expect(source.wants.at(-1)).toEqual(want)
  })

  it('is told a burst of changes in few words', async () => {
    const [one, two] = [openLeases(), openLeases()]
    const lease = await takeMine(one)
    const source = createSource()
    lease.share(source)
    const { states } = await followTheirs(two)
    await until(() => states.length > 0, { what: 'the state' })
    const before = states.length

    for (let heldBytes = 1; heldBytes <= 1000; heldBytes++) {
      source.heldBytes = heldBytes
      lease.changed()
    }

    await until(() => states.at(-1)?.held[0]?.[1] === 1000, { what: 'the newest state' })
    expect(states.length - before).toBeLessThanOrEqual(3)
  })

  it('ignores what it cannot read', async () => {
    const [one, two] = [openLeases(), openLeases()]
    const lease = await takeMine(one)
    const source = createSource()
    const heard = await followTheirs(two)
    const channel = `geo-registry:tokyo:fill:news:${DIGEST}`
    await until(async () => (await redis.command('publish', channel, 'no JSON')) === '1', {
      what: 'the follower to listen',
    })
    const outside = { ...stateOf(10), file: '../../../etc/passwd' }
    await redis.command('publish', channel, JSON.stringify({ state: outside }))

    lease.share(source)

    await until(() => heard.states.length > 0, { what: 'the state' })
    expect(heard.states).toEqual([stateOf(0)])
    expect(heard.ends).toEqual([])
  })
})

describe('a holder that is killed', () => {
  it('is replaced by one that knows what it had said', async () => {
    const [one, two] = [openLeases(), openLeases()]
    const lease = await takeMine(one)
    const source = createSource()
    source.heldBytes = 700
    lease.share(source)
    const heard = await followTheirs(two)
    await until(() => heard.states.length > 0, { what: 'the state' })

    await one.close()

    await until(() => heard.ends.length > 0, { what: 'the loss to be noticed', deadlineMs: TTL_MS + 4000 })
    expect(heard.ends).toEqual(['left'])
    expect((await takeMine(two)).left).toEqual(stateOf(700))
    expect(heard.ends).toEqual(['left'])
  })
})

describe('a holder whose lease another process has', () => {
  it('is told, and what it says then reaches nobody', async () => {
    const [one, two] = [openLeases(), openLeases()]
    const lease = await takeMine(one)
    lease.share(createSource())
    await redis.command('del', `geo-registry:tokyo:fill:lease:${DIGEST}`)
    const other = await takeMine(two)

    await until(() => lease.lost.aborted, { what: 'the holder to be told' })
    await lease.end({ kind: 'published' })

    expect(await one.isTaken(DIGEST)).toBe(true)
    expect(other.lost.aborted).toBe(false)
  })
})

describe('Redis', () => {
  it('that forgets everything costs no holder its lease', async () => {
    const [one, two] = [openLeases(), openLeases()]
    const lease = await takeMine(one)
    const source = createSource()
    lease.share(source)
    await redis.command('flushall')
    source.heldBytes = 5
    lease.changed()

    await until(() => two.isTaken(DIGEST), { what: 'the lease to be there again' })

    expect(lease.lost.aborted).toBe(false)
    const heard = await followTheirs(two)
    await until(() => heard.states.at(-1)?.held[0]?.[1] === 5, { what: 'the state' })
  })

  it('that restarts in time is noticed by nobody', async () => {
    const [one, two] = [openLeases(), openLeases()]
    const lease = await takeMine(one)
    const source = createSource()
    lease.share(source)
    const heard = await followTheirs(two)
    await until(() => heard.states.length > 0, { what: 'the state' })

    await redis.stop()
    await redis.start()
    source.heldBytes = 900
    lease.changed()

    await until(() => heard.states.at(-1)?.held[0]?.[1] === 900, { what: 'news after the restart' })
    expect(heard.ends).toEqual([])
    expect(lease.lost.aborted).toBe(false)
  })

  it('that stays away ends what is held and what is followed, says so once, and gives leases again', async () => {
    const [one, two] = [openLeases(), openLeases()]
    const lease = await takeMine(one)
    lease.share(createSource())
    const heard = await followTheirs(two)
    await until(() => heard.states.length > 0, { what: 'the state' })

    await redis.stop()

    await until(() => lease.lost.aborted, { what: 'the holder to give up' })
    await until(() => heard.ends.length > 0, { what: 'the follower to give up' })
    expect(heard.ends).toEqual(['unreachable'])
    expect((await one.take(DIGEST)).kind).toBe('unreachable')
    expect(await two.isTaken(DIGEST)).toBeUndefined()
    await lease.end({ kind: 'left' })
    expect(warnings.filter((line) => line.includes('Redis cannot be reached'))).toHaveLength(2)
    await redis.start()
    await until(async () => (await two.take(DIGEST)).kind === 'mine', { what: 'a lease to be had again' })
  })

  it('that is frozen keeps the first who asks waiting for about a second, and the next not at all', async () => {
    const leases = openLeases()
    await leases.isTaken(DIGEST)
    redis.freeze()
    const begun = performance.now()

    expect((await leases.take(DIGEST)).kind).toBe('unreachable')
    const firstMs = performance.now() - begun
    expect((await leases.take(DIGEST)).kind).toBe('unreachable')

    expect(firstMs).toBeLessThan(5000)
    expect(performance.now() - begun - firstMs).toBeLessThan(firstMs / 2)
    redis.thaw()
    await until(async () => (await leases.take(digestOf(Buffer.from('b')))).kind === 'mine', {
      what: 'a lease to be had again',
    })
  })

  it('that was never there is found out within about a second', async () => {
    await redis.stop()
    const begun = performance.now()

    expect((await openLeases().take(DIGEST)).kind).toBe('unreachable')

    expect(performance.now() - begun).toBeLessThan(5000)
    await redis.start()
  })
})
