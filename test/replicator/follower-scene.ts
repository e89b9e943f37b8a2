/**
 * A follower between a relay and a site in memory, with a clock and a line that a test moves by hand: a question waits
 * until the test answers it, and what an answer caused is done when the next question is asked.
 */
import { createFollower, type Follower } from '../../replicator/follower.ts'
import { createInbox, type InboxDeps } from '../../replicator/inbox.ts'
import type { LogGone, LogPage } from '../../replicator/relay/page.ts'
import { type LogQuestion, type RelayAnswer, RelayAwayError } from '../../replicator/relay-client.ts'
import type { Epochs, Freshness } from '../../src/freshness/freshness.ts'
import { createMemoryFreshness } from '../../src/freshness/memory-freshness.ts'
import { createLogger } from '../../src/log.ts'
import type { Tracking } from '../../src/tracking/tracking.ts'
import { type FakeRelay, fakeRelay } from './fake-relay.ts'
import { idleDeps } from './inbox-world.ts'

export const MAX_STALENESS_MS = 10_000

/** A question on its way. */
export interface Asked {
  readonly question: LogQuestion
  readonly sentAtMs: number
}

interface Pending extends Asked {
  readonly resolve: (answer: RelayAnswer) => void
  readonly reject: (error: unknown) => void
}

export type Freshened = Freshness & Epochs

export interface FollowerScene {
  readonly relay: FakeRelay
  /** Of the process that runs now; another one after a restart. */
  readonly freshness: Freshened
  readonly follower: Follower
  nowMs: number
  /** Ids of the events that were stored, as often as they were. */
  readonly stored: string[]
  /** What was saved as its place, newest last. */
  readonly cursors: (string | undefined)[]
  /** Times that everything was to be compared. */
  compared: number
  readonly rests: number[]
  readonly lines: { readonly level: string; readonly msg: string }[]
  /** Each fails while set. */
  readonly broken: Set<'accept' | 'cursor' | 'setCursor' | 'compare' | 'hear' | 'beginEpoch' | 'advance'>
  /** Starts the process, or kills it and starts another one. */
  start(): void
  /** The question that waits for an answer. Waits for one, and with it for what the last answer caused. */
  asked(): Promise<Asked>
  /** What the relay says now to the question that waits, had it arrived at `arrivedAtMs` (default: now). */
  page(arrivedAtMs?: number): Promise<LogPage | { readonly gone: LogGone }>
  /** Answers it, by default with `page()`, and waits for what that causes. */
  reply(page?: LogPage | { readonly gone: LogGone }): Promise<void>
  /** The question, or its answer, is lost. */
  lose(): Promise<void>
  /** Answers until the site has the newest watermark and the whole log. */
  catchUp(): Promise<void>
}

export interface SceneOptions {
  /** In place of one in memory that only has cursors and ids. */
  readonly tracking?: Pick<Tracking, 'cursor' | 'setCursor' | 'accept'> | undefined
  /** Makes that of each process; default the one in memory with the scene's clock. */
  readonly freshness?: ((now: () => number) => Freshened) | undefined
}

export function followerScene(options: SceneOptions = {}): FollowerScene {
  let nowMs = 1_000_000
  const now = () => nowMs
  const cursors = new Map<string, string>()
  let pending: Pending | undefined
  let arrived = Promise.withResolvers<void>()
  const makeFreshness =
    options.freshness ?? ((clock) => createMemoryFreshness({ maxStalenessMs: MAX_STALENESS_MS, now: clock }))
  let freshness = makeFreshness(now)
  let follower: Follower | undefined
  const lines: FollowerScene['lines'] = []
  const log = createLogger({ destination: { write: (line) => void lines.push(JSON.parse(line)) } })
  const idle = idleDeps()

  const mayFail = (part: Parameters<FollowerScene['broken']['has']>[0]) => {
    if (scene.broken.has(part)) throw new Error(`${part} is away`)
  }
  const tracking: Pick<Tracking, 'cursor' | 'setCursor' | 'accept'> = {
    async cursor(name) {
      mayFail('cursor')
      return options.tracking ? await options.tracking.cursor(name) : cursors.get(name)
    },
    async setCursor(name, value) {
      mayFail('setCursor')
      scene.cursors.push(value)
      await options.tracking?.setCursor(name, value)
      cursors.set(name, value ?? '')
    },
    async accept(events) {
      mayFail('accept')
      scene.stored.push(...events.map(({ id }) => id))
      return (await options.tracking?.accept(events)) ?? []
    },
  }

  function process(): Follower {
    freshness = makeFreshness(now)
    const mine = freshness
    const guarded: Freshened = {
      ...mine,
      async hear(name, changes) {
        mayFail('hear')
        await mine.hear(name, changes)
      },
      async beginEpoch() {
        mayFail('beginEpoch')
        return await mine.beginEpoch()
      },
      async advance(epoch, asOfMs) {
        mayFail('advance')
        await mine.advance(epoch, asOfMs)
      },
    }
    const deps: InboxDeps = { ...idle, tracking: { ...idle.tracking, ...tracking }, freshness: guarded }
    return createFollower(
      {
        client: { url: 'https://relay.example.com', ask },
        inbox: createInbox(deps),
        tracking,
        freshness: guarded,
        reconciler: {
          async compareEverything() {
            mayFail('compare')
            scene.compared++
          },
        },
        log,
      },
      {
        now,
        async rest(restMs, signal) {
          scene.rests.push(restMs)
          if (!signal.aborted) await new Promise((resolve) => setImmediate(resolve))
        },
      },
    )
  }

  async function ask(question: LogQuestion, signal: AbortSignal): Promise<RelayAnswer> {
    const { promise, resolve, reject } = Promise.withResolvers<RelayAnswer>()
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
    pending = { question, sentAtMs: nowMs, resolve, reject }
    arrived.resolve()
    return await promise
  }

  function take(): Pending {
    const taken = pending
    if (!taken) throw new Error('the test is wrong: no question waits')
    pending = undefined
    arrived = Promise.withResolvers()
    return taken
  }

  async function waiting(): Promise<Pending> {
    await arrived.promise
    if (!pending) throw new Error('the test is wrong: two wait for one question')
    return pending
  }

  const scene: FollowerScene = {
    relay: fakeRelay(now),
    get freshness() {
      return freshness
    },
    get follower() {
      if (!follower) throw new Error('the test is wrong: not started')
      return follower
    },
    get nowMs() {
      return nowMs
    },
    set nowMs(ms) {
      nowMs = ms
    },
    stored: [],
    cursors: [],
    compared: 0,
    rests: [],
    lines,
    broken: new Set(),
    start() {
      void follower?.close()
      if (pending) take()
      follower = process()
      follower.start()
    },
    asked: waiting,
    async page(arrivedAtMs) {
      return scene.relay.answer((await waiting()).question, arrivedAtMs ?? nowMs)
    },
    async reply(given) {
      const { question, sentAtMs } = await waiting()
      const page = given ?? scene.relay.answer(question, sentAtMs)
      const { resolve } = take()
      resolve(
        'gone' in page ? { kind: 'gone', ...page } : { kind: 'page', page, sentAtMs, answeredAtMs: nowMs },
      )
      await waiting()
    },
    async lose() {
      await waiting()
      take().reject(new RelayAwayError('the relay cannot be reached (ECONNRESET)'))
      await waiting()
    },
    async catchUp() {
      for (let turn = 0; turn < 50; turn++) {
        await scene.reply()
        const { question } = await waiting()
        const { watermark, last, log: id } = scene.relay
        const isRead = question.after?.log === id && question.after.number === last && !question.settled
        if (isRead && (!watermark || question.seen?.round === watermark.round)) return
      }
      throw new Error('the site did not catch up')
    },
  }
  return scene
}
