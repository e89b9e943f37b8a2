/**
 * Random turns over two proxies, with Redis and the proxies going away and coming back: no answer is older
 * than the last write that was acknowledged through either. `SCALED_OUT_SEED` repeats a run.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { buildImage, type Image } from '../support/images.ts'
import type { Answer, RegistryApi } from '../support/registry-api.ts'
import { createHistory, type History, type PendingWrite, type Span } from './model-history.ts'
import { type ScaledOutSite, startScaledOutSite } from './scaled-out-site.ts'
import { expectSoundStore } from './store-files.ts'

const SEED = Number(process.env['SCALED_OUT_SEED'] ?? Date.now() % 1_000_000)
const TURNS = 200
/** A run in which much was refused, while Redis or a proxy was away, goes on until this much was not. */
const ENOUGH = { acknowledged: 60, read: 150 }
const NAME = 'team/app'
const TAGS = ['t0', 't1', 't2'] as const

let site: ScaledOutSite
let images: Image[]

beforeAll(async () => {
  // With so long a trust every confirmation that should have been withdrawn shows.
  site = await startScaledOutSite({ repositories: [NAME], config: { tags: { trust: '10m' } } })
  images = await Promise.all(
    Array.from({ length: 4 }, (_, index) => buildImage({ seed: `${SEED} ${index}`, layers: [500] })),
  )
  for (const image of images) for (const blob of image.blobs) await site.there.pushBlob(NAME, blob)
})
afterAll(() => site[Symbol.asyncDispose]())

describe(`a random run over two proxies (SCALED_OUT_SEED=${SEED})`, () => {
  it('finds no tag and no digest older than the last acknowledged write through either', {
    timeout: 300_000,
  }, async () => {
    const run = createRun(site, images, seeded(SEED))
    try {
      const { counts } = run
      const saidEnough = () => counts.acknowledged >= ENOUGH.acknowledged && counts.read >= ENOUGH.read
      for (let turn = 0; turn < TURNS || !saidEnough(); turn++) await run.turn()
      await run.audit()
    } catch (error) {
      throw new Error(`${logged()}\n${run.story.slice(-60).join('\n')}\n${String(error)}`, { cause: error })
    }
    await expectSoundStore(site.root)
  })
})

function createRun(
  { a, b, there, primary, proxies, redis }: ScaledOutSite,
  all: readonly Image[],
  random: () => number,
) {
  const histories = new Map<string, History>()
  const story: string[] = []
  const counts = { acknowledged: 0, read: 0 }
  const pushed = new Set<string>()
  const apis = [a, b] as const
  let ticks = 0

  const upTo = (count: number) => Math.floor(random() * count)
  const oneOf = <T>(list: readonly T[]): T =>
    list[upTo(list.length)] ?? expect.unreachable('nothing to choose')
  const nameOf = (api: RegistryApi) => (api === a ? 'A' : api === b ? 'B' : 'primary')
  const imageName = (digest: string | undefined) => all.findIndex((image) => image.digest === digest)
  function historyOf(key: string): History {
    const history = histories.get(key) ?? createHistory()
    histories.set(key, history)
    return history
  }

  async function ask(
    what: string,
    request: () => Promise<Answer>,
  ): Promise<Span & { answer: Answer | undefined }> {
    const start = ++ticks
    const answer = await request().catch(() => undefined) // Cut with its process.
    const end = ++ticks
    const digest = imageName(answer?.headers['docker-content-digest'])
    const body = answer && answer.status >= 400 ? answer.body.toString().slice(0, 150) : ''
    story.push(
      `${start}-${end} ${what} → ${answer?.status ?? 'cut'} ${digest === -1 ? '' : `image ${digest}`} ${body}`,
    )
    return { start, end, answer }
  }

  async function write(
    what: string,
    begun: (start: number) => PendingWrite[],
    request: () => Promise<Answer>,
  ): Promise<void> {
    const writes = begun(ticks + 1)
    const { answer, end } = await ask(what, request)
    const outcome = outcomeOf(answer)
    if (outcome === 'acknowledged') counts.acknowledged++
    for (const pending of writes) pending.settle(outcome, end)
  }

  async function push(): Promise<void> {
    const [api, tag, image] = [oneOf(apis), oneOf(TAGS), oneOf(all)]
    const { digest, bytes, mediaType } = image
    pushed.add(digest)
    await write(
      `${nameOf(api)} push ${tag} = image ${imageName(digest)}`,
      (start) =>
        [tag, digest].map((key) => historyOf(key).begin({ kind: 'put', digest, via: 'site', start })),
      () => api.putManifest(NAME, tag, bytes, mediaType),
    )
  }

  /** docker-registry takes every tag of the digest with it. */
  async function remove(): Promise<void> {
    const [api, { digest }] = [oneOf(apis), oneOf(all)]
    await write(
      `${nameOf(api)} delete image ${imageName(digest)}`,
      (start) =>
        [...TAGS, digest].map((key) => historyOf(key).begin({ kind: 'delete', digest, via: 'site', start })),
      () => api.deleteManifest(NAME, digest),
    )
  }

  async function read(): Promise<void> {
    const [api, reference] = [oneOf(apis), random() < 0.7 ? oneOf(TAGS) : oneOf(all).digest]
    const { answer, ...span } = await ask(`${nameOf(api)} read ${label(reference)}`, () =>
      api.getManifest(NAME, reference),
    )
    if (!answer || (answer.status === 503 && wasConfused(reference))) return
    counts.read++
    const value = answer.status === 404 ? undefined : answer.digest
    if (answer.status !== 200 && answer.status !== 404)
      throw new Error(`a read was answered ${answer.status}`)
    if (!historyOf(reference).mayBe(value, span)) {
      throw new Error(
        `${nameOf(api)} says that ${label(reference)} is ${value ? `image ${imageName(value)}` : 'not there'}`,
      )
    }
  }

  /** docker-registry writes a tag's file in place: whoever reads it just then is told 500. */
  const wasConfused = (reference: string) =>
    primary
      .logs()
      .split('\n')
      .some((line) => line.includes('status=500') && line.includes(`/manifests/${reference}`))

  const label = (reference: string) => (reference.includes(':') ? `image ${imageName(reference)}` : reference)

  async function killOne(): Promise<void> {
    const proxy = oneOf(proxies)
    story.push(`kill ${proxy === proxies[0] ? 'A' : 'B'}`)
    await Promise.all([push(), push(), proxy.kill()])
    await proxy.start()
  }

  async function redisAway(): Promise<void> {
    story.push('Redis goes')
    await redis.stop()
    for (let count = upTo(4); count >= 0; count--) await together([push, read, remove, read])
    await redis.start()
    story.push('Redis is back')
  }

  /** A push and a delete of one digest at a time confuse docker-registry itself. */
  async function together(kinds: readonly (() => Promise<void>)[]): Promise<void> {
    const chosen = Array.from({ length: 1 + upTo(4) }, () => oneOf(kinds))
    const hasPush = chosen.includes(push)
    let deletes = 0
    await settle(chosen.map((kind) => (kind === remove && (hasPush || deletes++ > 0) ? read() : kind())))
  }

  async function settle(work: readonly Promise<void>[]): Promise<void> {
    for (const { status, ...rest } of await Promise.allSettled(work)) {
      if (status === 'rejected' && 'reason' in rest) throw rest.reason
    }
  }

  return {
    story,
    counts,
    async turn(): Promise<void> {
      const dice = random()
      if (dice < 0.02) await killOne()
      else if (dice < 0.04) await redisAway()
      else if (dice < 0.07) {
        story.push('Redis is emptied')
        await Promise.all([redis.command('FLUSHALL'), together([push, read, remove])])
      } else await together([push, push, read, read, read, remove])
    },
    /** With nothing under way, both say what the primary says. */
    async audit(): Promise<void> {
      for (const reference of [...TAGS, ...pushed]) {
        const truth = await there.getManifest(NAME, reference)
        for (const api of apis) {
          const { answer } = await ask(`${nameOf(api)} audit ${label(reference)}`, () =>
            api.getManifest(NAME, reference),
          )
          expect([label(reference), answer?.status, answer?.digest]).toEqual([
            label(reference),
            truth.status,
            truth.status === 200 ? truth.digest : answer?.digest,
          ])
        }
      }
    },
  }
}

/** What the proxies had to complain of at the end. */
function logged(): string {
  return site.proxies
    .flatMap(({ lines }) => lines)
    .filter(({ level }) => level === 'warn' || level === 'error')
    .toSorted((one, other) => String(one['time']).localeCompare(String(other['time'])))
    .slice(-10)
    .map((line) => JSON.stringify(line).slice(0, 500))
    .join('\n')
}

/** What was refused here never reached the primary; a connection that was cut may have. */
function outcomeOf(answer: Answer | undefined): 'acknowledged' | 'refused' | 'lost' {
  if (!answer) return 'lost'
  if (answer.status === 201 || answer.status === 202) return 'acknowledged'
  if (answer.status === 404) return 'refused'
  if (answer.status === 503 && answer.body.includes('was not sent to the primary')) return 'refused'
  throw new Error(`a write was answered ${answer.status}: ${answer.body.toString()}`)
}

function seeded(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}
