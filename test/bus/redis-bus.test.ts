/** The bus of several processes, with a real Redis: heard by the site's own, never in the way of anybody, back by itself. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { Bus } from '../../src/bus/bus.ts'
import { createRedisBus } from '../../src/bus/redis-bus.ts'
import { createLogger } from '../../src/log.ts'
import { createMetrics, type Metrics } from '../../src/metrics.ts'
import { busContract, nameOf, record } from '../contracts/bus.contract.ts'
import { freePort } from '../support/port.ts'
import { type RedisServer, startRedis } from '../support/redis.ts'
import { until } from '../support/wait.ts'

let redis: RedisServer
let sites = 0
beforeAll(async () => {
  redis = await startRedis()
})
afterAll(() => redis[Symbol.asyncDispose]())

const HINT = { kind: 'hint', name: nameOf('team/app') } as const

interface Member {
  readonly bus: Bus
  readonly metrics: Metrics
  /** How often it said that it may have missed something. */
  gaps: number
  readonly warnings: string[]
}

let owned: AsyncDisposableStack
beforeEach(() => {
  owned = new AsyncDisposableStack()
})
afterEach(() => owned.disposeAsync())

function open(site: string, options: { url?: string; pingMs?: number } = {}): Member {
  const metrics = createMetrics()
  const warnings: string[] = []
  const log = createLogger({ level: 'warn', destination: { write: (line) => void warnings.push(line) } })
  const { url = redis.url, pingMs } = options
  const bus = owned.use(createRedisBus({ log, metrics }, { url, site, pingMs }))
  const member: Member = { bus, metrics, gaps: 0, warnings }
  bus.onGap(() => {
    member.gaps += 1
  })
  return member
}

/** Resolves when they hear each other. */
async function join(site: string): Promise<[Member, Member]> {
  const [one, other] = [open(site), open(site)]
  await heardBy(one, other)
  await heardBy(other, one)
  return [one, other]
}

async function heardBy(sender: Member, receiver: Member): Promise<void> {
  let heard = false
  receiver.bus.on('traffic', () => {
    heard = true
  })
  const beacon = { kind: 'traffic', arrivedBytes: 0, requests: 0, servedBytes: 0 } as const
  await until(
    () => {
      sender.bus.publish(beacon)
      return heard
    },
    { what: 'the other to hear' },
  )
}

async function counted({ metrics }: Member, result: string): Promise<number> {
  const { values } = await metrics.busMessages.get()
  return values.find(({ labels }) => labels.result === result)?.value ?? 0
}

const newSite = () => `site-${++sites}`

busContract(async () => {
  const stack = owned
  const [{ bus: one }, { bus: other }] = await join(newSite())
  // What was said to find each other must not be taken for what the test says.
  await quiet(one, other)
  return { one, other, [Symbol.asyncDispose]: () => stack.disposeAsync() }
})

/** Messages of one sender come in order, so the last beacon is behind all others. */
async function quiet(one: Bus, other: Bus): Promise<void> {
  for (const [sender, receiver] of [
    [one, other],
    [other, one],
  ] as const) {
    let arrived = false
    const last = nameOf(`last/${++sites}`)
    receiver.on('hint', ({ name }) => {
      if (name === last) arrived = true
    })
    sender.publish({ kind: 'hint', name: last })
    await until(() => arrived, { what: 'the beacons to be through' })
  }
}

describe('the bus of several processes', () => {
  it('is not heard by another site on the same Redis', async () => {
    const [one, other] = await join(newSite())
    const [stranger] = await join(newSite())
    const heard = record(stranger.bus)
    const known = record(other.bus)

    one.bus.publish(HINT)
    await until(() => known.some(({ kind }) => kind === 'hint'), { what: 'its own site to hear it' })
    await quiet(stranger.bus, stranger.bus)

    expect(heard.filter((message) => message.kind === 'hint' && message.name === HINT.name)).toEqual([])
  })

  it('passes over garbage and what a newer program says, counts it, and goes on', async () => {
    const site = newSite()
    const [one, other] = await join(site)
    const heard = record(other.bus)
    const say = (text: string) => redis.command('PUBLISH', `geo-registry:${site}:bus`, text)
    const garbage = [
      'no json',
      '',
      '[]',
      'null',
      '{"v":1,"kind":"hint"}',
      '{"v":1,"from":"x","kind":"hint","name":"UPPER/../case"}',
      '{"v":1,"from":"x","kind":"blob-gone","digest":"sha256:short"}',
      '{"v":1,"from":"x","kind":"traffic","arrivedBytes":-1,"requests":0,"servedBytes":0}',
      '{"v":1,"from":"x","kind":"traffic","arrivedBytes":1e999,"requests":0,"servedBytes":0}',
      JSON.stringify({ v: 1, from: 'x', kind: 'hint', name: 'a'.repeat(5000) }),
    ]
    const unknown = ['{"v":2,"from":"x","kind":"hint","name":"a/b"}', '{"v":1,"from":"x","kind":"later"}']

    for (const text of [...garbage, ...unknown]) await say(text)
    one.bus.publish(HINT)

    await until(() => heard.length > 0, { what: 'the message behind it' })
    expect(heard.filter(({ kind }) => kind !== 'traffic')).toEqual([HINT])
    expect(await counted(other, 'garbage')).toBe(garbage.length)
    expect(await counted(other, 'unknown')).toBe(unknown.length)
  })

  it('drops what is said while Redis is away, says so once, and hears again by itself', async () => {
    const [one, other] = await join(newSite())
    const heard = record(other.bus)
    const gapsBefore = other.gaps

    await redis.stop()
    for (let count = 0; count < 100; count++) one.bus.publish(HINT)
    await until(() => one.warnings.length > 0, { what: 'it to be said' })
    await redis.start()
    await heardBy(one, other)
    await heardBy(other, one)

    expect(heard.filter(({ kind }) => kind === 'hint')).toEqual([])
    expect(other.gaps).toBe(gapsBefore + 1)
    expect(one.warnings).toHaveLength(1)
    expect(await counted(one, 'dropped')).toBeGreaterThanOrEqual(100)
  })

  it('holds a bounded number of messages for a Redis that answers nobody, and is there for listeners here', async () => {
    const [one] = await join(newSite())
    const heard = record(one.bus)

    redis.freeze()
    for (let count = 0; count < 20_000; count++) one.bus.publish(HINT)

    expect(await counted(one, 'dropped')).toBeGreaterThanOrEqual(19_000)
    expect(heard).toHaveLength(20_000)
    redis.thaw()
    await until(async () => (await counted(one, 'dropped')) + (await counted(one, 'sent')) >= 20_000, {
      what: 'every message to be sent or dropped',
    })
  })

  it('notices that a subscription is dead though nothing was said, and tells that it may have missed something', async () => {
    const site = newSite()
    // One that only listens: what it says is missed is said of its subscription.
    const [one, other] = [open(site), open(site, { pingMs: 100 })]
    await heardBy(one, other)
    const before = other.gaps

    redis.freeze()
    try {
      // Longer than a ping is waited for.
      await until(() => other.warnings.length > 0, { what: 'the silence to be noticed', deadlineMs: 8000 })
    } finally {
      redis.thaw()
    }
    await until(() => other.gaps > before, { what: 'it to be said that something may have been missed' })

    await heardBy(one, other)
  })

  it('may be opened before Redis is there, and ended when it never came', async () => {
    const site = newSite()
    const lost = open(site, { url: `redis://127.0.0.1:${await freePort()}` })
    lost.bus.publish(HINT)
    await redis.stop()
    const early = open(site)
    await until(() => early.warnings.length > 0, { what: 'Redis to be missed' })
    await redis.start()

    const late = open(site)
    await heardBy(late, early)
    await lost.bus[Symbol.asyncDispose]()
    expect(await counted(lost, 'dropped')).toBe(1)
  })
})
