/** Law 7 with real processes, on one store, one Redis and one primary that counts: what is fetched is fetched once. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { Digest } from '../../src/oci/digest.ts'
import { HOLD_BACK_BYTES } from '../../src/store/verify-stream.ts'
import { type Program, startProgram } from '../support/process.ts'
import { type RedisServer, startRedis } from '../support/redis.ts'
import { tempFolder } from '../support/temp.ts'
import { until } from '../support/wait.ts'
import { type BlobPrimary, startBlobPrimary } from './blob-primary.ts'
import { APP, KiB, MiB, someBytes } from './fill-fixture.ts'

interface Sharer {
  readonly program: Program
  pull(digest: Digest, options?: PullOptions): Promise<Buffer>
  job(digest: Digest): Promise<void>
  received(): Promise<number>
}

interface PullOptions {
  readonly range?: readonly [first: number, last: number]
  /** Told after each chunk how many bytes have come. */
  readonly onBytes?: (bytes: number) => void
}

/** A store, a Redis and a primary that processes share; each test has its own, and they run side by side. */
interface Sharing extends AsyncDisposable {
  readonly redis: RedisServer
  readonly primary: BlobPrimary
  startSharer(): Promise<Sharer>
  isPublished(digest: Digest): Promise<boolean>
  /** What is left of fetches. */
  spools(): Promise<string[]>
}

async function startSharing(): Promise<Sharing> {
  await using starting = new AsyncDisposableStack()
  const root = starting.use(await tempFolder('shared')).path
  const redis = starting.use(await startRedis())
  const primary = starting.use(await startBlobPrimary())
  const owned = starting.move()
  return {
    redis,
    primary,
    async startSharer() {
      const port = Promise.withResolvers<string>()
      const script = join(import.meta.dirname, 'sharing-process.ts')
      const program = await startProgram(process.execPath, [script, root, primary.origin, redis.url], {
        onLine: port.resolve,
      })
      owned.use(program)
      return sharer(program, `http://127.0.0.1:${await port.promise}`)
    },
    async isPublished(digest) {
      const names = await readdir(join(root, 'docker/registry/v2'), { recursive: true }).catch(() => [])
      return names.some((name) => name.endsWith(join(digest.slice(7), 'data')))
    },
    spools: () => readdir(join(root, 'geo-registry/spools')),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

function sharer(program: Program, origin: string): Sharer {
  return {
    program,
    async pull(digest, { range, onBytes } = {}) {
      const headers = range ? { range: `bytes=${range[0]}-${range[1]}` } : {}
      const response = await fetch(`${origin}/${APP}@${digest}`, { headers, redirect: 'manual' })
      if (response.status !== 200) throw new Error(`${response.status}: ${await response.text()}`)
      const chunks: Uint8Array[] = []
      let bytes = 0
      for await (const chunk of response.body ?? []) {
        chunks.push(chunk)
        bytes += chunk.length
        onBytes?.(bytes)
      }
      return Buffer.concat(chunks)
    },
    async job(digest) {
      const response = await fetch(`${origin}/fetch/${APP}@${digest}`)
      if (response.status !== 200) throw new Error(await response.text())
    },
    received: async () => Number(await (await fetch(`${origin}/received`)).text()),
  }
}

/** What the tests count on: everything of this size comes in several requests. */
const SIZE = 16 * MiB + 12_345

describe.concurrent('two processes on one store', () => {
  it('read the primary once for fifty readers and a job, ranges among them', async () => {
    await using sharing = await startSharing()
    const { primary, startSharer, isPublished, spools } = sharing
    const [one, two] = await Promise.all([startSharer(), startSharer()])
    const bytes = someBytes(SIZE)
    const digest = primary.hold([APP], bytes)
    const goOn = primary.pauseFirst(MiB)
    const first = one.pull(digest)
    await until(() => primary.gets().length === 1, { what: 'the first request' })

    const wholes = Array.from({ length: 29 }, (_, index) => (index % 2 ? one : two).pull(digest))
    const ranges = Array.from({ length: 20 }, async (_, index) => {
      const start = Math.floor((index / 20) * SIZE)
      const last = Math.min(start + MiB, SIZE) - 1
      const got = await (index % 2 ? one : two).pull(digest, { range: [start, last] })
      expect(got.equals(bytes.subarray(start, last + 1))).toBe(true)
    })
    const job = two.job(digest)
    // Ahead of the request that stalls these come by requests of their own; the last one wants what is held back.
    await Promise.all(ranges.slice(10, 19))
    goOn()

    for (const got of await Promise.all([first, ...wholes])) expect(got.equals(bytes)).toBe(true)
    await Promise.all([...ranges, job])
    expect((await one.received()) + (await two.received())).toBe(SIZE)
    expect(await isPublished(digest)).toBe(true)
    expect(await spools()).toEqual([])
  })

  it('lose nothing when the one that fetches is killed: the other’s readers get every byte', async () => {
    await using sharing = await startSharing()
    const { primary, startSharer, isPublished, spools } = sharing
    const [one, two] = await Promise.all([startSharer(), startSharer()])
    const size = 96 * MiB
    const bytes = someBytes(size)
    const digest = primary.hold([APP], bytes)
    let sentBytes = 0
    const lost = one.pull(digest, { onBytes: (count) => (sentBytes = count) }).catch(() => undefined)
    await until(() => sentBytes > MiB, { what: 'the fetch to have begun', everyMs: 1 })
    let readBytes = 0
    const readers = [
      two.pull(digest, {
        onBytes(count) {
          readBytes = count
          if (count > size / 2 && !one.program.exit) one.program.signal('SIGKILL')
        },
      }),
      two.pull(digest),
      two.pull(digest, { range: [60 * MiB, 90 * MiB - 1] }),
    ]

    await lost
    await one.program.exited

    const [whole, other, range] = await Promise.all(readers)
    expect(readBytes).toBe(size)
    expect(whole?.equals(bytes)).toBe(true)
    expect(other?.equals(bytes)).toBe(true)
    expect(range?.equals(bytes.subarray(60 * MiB, 90 * MiB))).toBe(true)
    await until(() => isPublished(digest), { what: 'the blob to be published' })
    // Two had been told of at least half: of that not a byte is asked for again, though half a sync interval of it and
    // more was not on the disk.
    expect(await two.received()).toBeLessThanOrEqual(size / 2)
    await until(async () => (await spools()).length === 0, {
      what: 'what the killed one left to be gone',
    })
  })

  it('go on without the one that fetches when it is stopped, which does no harm when it wakes', async () => {
    await using sharing = await startSharing()
    const { primary, startSharer, isPublished, spools } = sharing
    const [one, two] = await Promise.all([startSharer(), startSharer()])
    const bytes = someBytes(SIZE)
    const digest = primary.hold([APP], bytes)
    const goOn = primary.pauseFirst(1.5 * MiB)
    let sleeperBytes = 0
    const sleeper = one.pull(digest, { onBytes: (count) => (sleeperBytes = count) })
    await until(() => sleeperBytes > MiB, { what: 'the fetch to have begun' })
    const other = two.pull(digest)
    await until(() => primary.requests.some(({ method }) => method === 'HEAD'), { what: 'the other to join' })

    one.program.signal('SIGSTOP')
    expect((await other).equals(bytes)).toBe(true)
    one.program.signal('SIGCONT')
    goOn()

    expect((await sleeper).equals(bytes)).toBe(true)
    await until(() => isPublished(digest), { what: 'the blob to be published' })
    expect((await one.pull(digest)).equals(bytes)).toBe(true)
    await until(async () => (await spools()).length === 0, {
      what: 'every spool to be gone',
    })
  })

  it('show nobody the last 64 KiB of content that is wrong, and publish nothing', async () => {
    await using sharing = await startSharing()
    const { primary, startSharer, isPublished } = sharing
    const [one, two] = await Promise.all([startSharer(), startSharer()])
    const bytes = someBytes(4 * MiB)
    const digest = primary.hold([APP], bytes)
    primary.answer(({ method }) => (method === 'GET' ? { wrongByteAt: MiB } : undefined))
    const most = [0, 0, 0, 0]

    const pulls = most.map((_, index) =>
      (index % 2 ? one : two).pull(digest, {
        onBytes(count) {
          most[index] = count
        },
      }),
    )

    for (const result of await Promise.allSettled(pulls)) expect(result.status).toBe('rejected')
    for (const count of most) expect(count).toBeLessThanOrEqual(bytes.length - HOLD_BACK_BYTES)
    expect(await isPublished(digest)).toBe(false)
    primary.answer(() => undefined)
    expect((await two.pull(digest)).equals(bytes)).toBe(true)
  })

  it('serve every client while Redis is killed in the middle, and keep again when it is back', async () => {
    await using sharing = await startSharing()
    const { redis, primary, startSharer, isPublished } = sharing
    const [one, two] = await Promise.all([startSharer(), startSharer()])
    const bytes = someBytes(SIZE)
    const digest = primary.hold([APP], bytes)
    const goOn = primary.pauseFirst(3 * MiB)
    const counts = [0, 0, 0, 0]
    const pulls = [one, two, one, two].map((sharer, index) =>
      sharer.pull(digest, {
        onBytes(count) {
          counts[index] = count
        },
      }),
    )
    await until(() => counts.every((count) => count >= 2 * MiB), { what: 'every client to have begun' })

    await redis.stop()
    const late = two.pull(digest)

    for (const got of await Promise.all(pulls)) expect(got.equals(bytes)).toBe(true)
    expect((await late).equals(bytes)).toBe(true)
    goOn()
    await redis.start()
    await until(async () => (await one.pull(digest)).equals(bytes) && (await isPublished(digest)), {
      what: 'the blob to be kept',
      everyMs: 500,
      deadlineMs: 20_000,
    })
  })

  it('pass a lone range by, and follow it into a fetch of the other process', async () => {
    await using sharing = await startSharing()
    const { primary, startSharer } = sharing
    const [one, two] = await Promise.all([startSharer(), startSharer()])
    const bytes = someBytes(SIZE)
    const digest = primary.hold([APP], bytes)
    const range = [10 * MiB, 10 * MiB + 64 * KiB - 1] as const
    await expect(two.pull(digest, { range })).rejects.toThrow('307')
    const goOn = primary.pauseFirst(MiB)
    const whole = one.pull(digest)
    await until(() => primary.gets().length === 1, { what: 'the first request' })

    const got = await two.pull(digest, { range })

    expect(got.equals(bytes.subarray(range[0], range[1] + 1))).toBe(true)
    goOn()
    expect((await whole).equals(bytes)).toBe(true)
    expect(await two.received()).toBe(0)
  })
})
