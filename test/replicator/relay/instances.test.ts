import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { followInstances, type InstanceAddress } from '../../../replicator/relay/instances.ts'
import { until } from '../../support/wait.ts'

type Told =
  | { readonly keys: readonly string[]; readonly askedAtMs: number | undefined }
  | { readonly error: string }

let told: Told[]
let addresses: readonly InstanceAddress[]
let names: Map<string, () => Promise<readonly string[]>>
let asked: string[]
let open: AsyncDisposableStack
beforeEach(() => {
  told = []
  addresses = []
  names = new Map()
  asked = []
  open = new AsyncDisposableStack()
})
afterEach(() => open.disposeAsync())

const newest = () => told.at(-1)

function follow(origins: readonly string[], timeoutMs?: number): void {
  open.use(
    followInstances(
      {
        onResolved(found, askedAtMs) {
          addresses = found
          told.push({ keys: found.map(({ key }) => key), askedAtMs })
        },
        onUnresolved: ({ message }) => void told.push({ error: message }),
        async lookup(name) {
          asked.push(name)
          const answer = names.get(name)
          if (!answer) throw new Error('ENOTFOUND')
          return await answer()
        },
      },
      { origins, everyMs: 10, timeoutMs },
    ),
  )
}

describe('addresses that are written down', () => {
  it('are told once and asked of nobody', async () => {
    follow(['http://10.0.0.1:5000', 'https://[::1]:5443/'])

    await until(() => told.length > 0, { what: 'the addresses' })

    expect(addresses).toEqual([
      { key: 'http://10.0.0.1:5000', origin: 'http://10.0.0.1:5000', ip: '10.0.0.1' },
      { key: 'https://[::1]:5443', origin: 'https://[::1]:5443', ip: '::1' },
    ])
    expect(told).toMatchObject([{ askedAtMs: undefined }])
    expect(asked).toEqual([])
  })
})

describe('a name', () => {
  it('stands for every address it has, each under its own origin', async () => {
    names.set('registry.internal', async () => ['10.0.0.1', '10.0.0.2', '10.0.0.1'])
    follow(['https://registry.internal:5000', 'http://10.0.0.9:5000'])

    await until(() => told.length > 0, { what: 'the addresses' })

    expect(addresses).toEqual([
      {
        key: 'https://registry.internal:5000 (10.0.0.1)',
        origin: 'https://registry.internal:5000',
        ip: '10.0.0.1',
      },
      {
        key: 'https://registry.internal:5000 (10.0.0.2)',
        origin: 'https://registry.internal:5000',
        ip: '10.0.0.2',
      },
      { key: 'http://10.0.0.9:5000', origin: 'http://10.0.0.9:5000', ip: '10.0.0.9' },
    ])
  })

  it('is asked for again and again, and told of with the time of the question', async () => {
    let ips = ['10.0.0.1']
    names.set('registry.internal', async () => ips)
    const fromMs = performance.now()
    follow(['http://registry.internal:5000'])
    await until(() => told.length > 2, { what: 'three answers' })

    ips = ['10.0.0.1', '10.0.0.2']
    await until(() => addresses.length === 2, { what: 'the second address' })

    const times = told.flatMap((each) => ('askedAtMs' in each ? [each.askedAtMs ?? 0] : []))
    expect(times).toEqual(times.toSorted((one, other) => one - other))
    expect(times[0]).toBeGreaterThanOrEqual(fromMs)
    expect(times.at(-1)).toBeLessThanOrEqual(performance.now())
  })

  it('that has no address is told of with its name, however many others have some', async () => {
    names.set('registry.internal', async () => ['10.0.0.1'])
    names.set('empty.internal', async () => [])
    follow(['http://registry.internal:5000', 'http://empty.internal:5000'])

    await until(() => told.length > 0, { what: 'the failure' })
    expect(newest()).toEqual({ error: 'empty.internal: it has no address' })

    names.delete('empty.internal')
    await until(() => JSON.stringify(newest()).includes('ENOTFOUND'), { what: 'the other failure' })
    names.set('empty.internal', async () => ['10.0.0.2'])
    await until(() => addresses.length === 2, { what: 'the addresses' })
  })

  it('that nobody answers for is told of in time, asked for only once, and its late answer is as old as its question', async () => {
    const { promise, resolve } = Promise.withResolvers<readonly string[]>()
    names.set('registry.internal', () => promise)
    follow(['http://registry.internal:5000'], 20)

    await until(() => told.length > 1, { what: 'two failures' })
    expect(newest()).toEqual({ error: 'registry.internal: no answer within 20 ms' })
    expect(asked).toEqual(['registry.internal'])
    const lateMs = performance.now()
    resolve(['10.0.0.1'])

    await until(() => addresses.length === 1, { what: 'the late answer' })
    const late = told.find((each) => 'askedAtMs' in each)
    expect(late).toMatchObject({ keys: ['http://registry.internal:5000 (10.0.0.1)'] })
    expect(late && 'askedAtMs' in late && late.askedAtMs).toBeLessThan(lateMs)
  })

  it('is asked of the operating system where nothing else is given', async () => {
    const found = Promise.withResolvers<readonly InstanceAddress[]>()
    await using _following = followInstances(
      { onResolved: found.resolve, onUnresolved: found.reject },
      { origins: ['http://localhost:5000'] },
    )

    expect((await found.promise).map(({ ip }) => ip)).toContain('127.0.0.1')
  })
})

it('ends at once, with a question under way', async () => {
  names.set('registry.internal', () => new Promise(() => {}))
  follow(['http://registry.internal:5000'], 60_000)
  await until(() => asked.length > 0, { what: 'the question' })

  await open.disposeAsync()

  expect(told).toEqual([])
})
