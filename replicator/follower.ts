/**
 * Follows a relay's log at a site: what is in it is heard and stored, and the watermark behind it covers tags here.
 *
 * Why a tag that the watermark covers is no older than it says. Let W be a write of the tag that the primary acknowledged
 * before the watermark's moment. By the relay's proof its event is in the log up to the watermark's `through`, or it was
 * acknowledged before the relay's epoch began. `advance` is called only after every record up to `through` was heard in
 * this session or is settled (below). A confirmation under the epoch of this site comes from a question asked after
 * `beginEpoch`. When it was asked,
 * - W's event had not been heard: it was heard later, renewed the generation, and nothing older is covered any longer;
 * - W's event had been heard in this session: for the next minute only an answer that says what was announced is covered,
 *   and after it W is in its tag;
 * - W's event is one of those before the session's first page: they had been received for over a minute when that page was
 *   sent (it begins at `settledThrough`), so W was in its tag when the question was asked;
 * - W's event was lost, or W is older than the relay's epoch: the relay began that epoch after such writes were in their
 *   tags, and `beginEpoch` was called after its first watermark had arrived here.
 * So each session begins with what the last minute told, since what was announced may have been forgotten with Redis or
 * with the process; and each new epoch of the relay begins one here. Whatever breaks the order (a number left out, another
 * log, a record that could not be taken, a refused `advance`) ends the session: the same is read again, nothing is skipped,
 * and no watermark is told before a new epoch. A relay that is away ends nothing: the watermark only grows old.
 *
 * Two followers of one site are safe: both hear everything, and a watermark counts only for the epoch that was begun last,
 * by whoever began it. The other tells its own in vain, until the first is gone.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { Epochs, Freshness } from '../src/freshness/freshness.ts'
import type { Logger } from '../src/log.ts'
import type { Tracking } from '../src/tracking/tracking.ts'
import { EpochLostError, LogGapError, troubleText } from './follower-trouble.ts'
import type { Inbox } from './inbox.ts'
import { positionText, readPosition } from './log-cursor.ts'
import { readOn, whyGone } from './read-on.ts'
import type { Reconciler } from './reconcile.ts'
import { RelayAnswerError } from './relay-answer.ts'
import type { LogPosition, LogQuestion, RelayAnswer, RelayClient } from './relay-client.ts'
import { createWatermarkMoments } from './watermark-moments.ts'

export interface FollowerDeps {
  readonly client: Pick<RelayClient, 'url' | 'ask'>
  readonly inbox: Pick<Inbox, 'accept'>
  readonly tracking: Pick<Tracking, 'cursor' | 'setCursor'>
  readonly freshness: Epochs & Pick<Freshness, 'watermark'>
  readonly reconciler: Pick<Reconciler, 'compareEverything'>
  readonly log: Pick<Logger, 'info' | 'warn'>
}

export interface FollowerOptions {
  /** Milliseconds that only go forward, the clock of `client` and `freshness`; default `performance.now`. */
  readonly now?: (() => number) | undefined
  /** How long the relay may hold a question while there is nothing new; default 10 000. */
  readonly waitMs?: number | undefined
  /** Between two tries: the first, default 200, doubled up to the longest, default 5000; up to half of it less at random. */
  readonly firstRestMs?: number | undefined
  readonly longestRestMs?: number | undefined
  /** Waits; may end early, and does so when the signal is aborted. Never rejects. Default: a timer. */
  readonly rest?: ((restMs: number, signal: AbortSignal) => Promise<void>) | undefined
}

export interface FollowerStatus {
  readonly url: string
  /** The relay answered the last question. */
  readonly connected: boolean
  /** Since it last did; undefined while it does, or when it never did. */
  readonly awayMs: number | undefined
  /** The number of the log up to which everything was taken, and how many were left when it last answered. */
  readonly cursor: number | undefined
  readonly behind: number | undefined
  /** Since the epoch of this site began; undefined: none since the process started, or since the trouble it is in. */
  readonly epochAgeMs: number | undefined
  /** What the relay says of its watermark; undefined also while it does not answer. */
  readonly note: string | undefined
  /** What was missed last, since the process started, for which everything was compared. */
  readonly lastGap: string | undefined
  /** What keeps it from following, and what to do; undefined: nothing. */
  readonly lastError: string | undefined
}

export interface Follower {
  start(): void
  status(): FollowerStatus
  /** Resolves when nothing is asked any more, within a second. */
  close(): Promise<void>
}

const CURSOR = 'relay'
/** Where nothing is new, a relay that does not hold its questions is not asked again sooner. */
const IDLE_REST_MS = 200
const AT_ONCE_MS = 100
/** So long the watermark of another follower may stand still before this one begins an epoch of its own. */
const TAKEN_OVER_MS = 15_000
/** Taking a page that is under way is waited for so long. */
const CLOSE_MS = 900

/** An epoch of this site, under one of the relay's. */
interface SiteEpoch {
  readonly id: string
  readonly relayEpoch: string
  readonly beganAtMs: number
}

/** Where a session stands: each page that was taken makes another of it. */
interface Stand {
  readonly position: LogPosition
  /** All that the relay received within its last minute was heard in this session. */
  readonly isSettled: boolean
  readonly seen: LogQuestion['seen']
  readonly epoch: SiteEpoch | undefined
}

type Page = Extract<RelayAnswer, { readonly kind: 'page' }>

export function createFollower(deps: FollowerDeps, options: FollowerOptions = {}): Follower {
  const { client, inbox, tracking, freshness, reconciler, log } = deps
  const { now = () => performance.now(), waitMs = 10_000 } = options
  const { firstRestMs = 200, longestRestMs = 5_000, rest = restFor } = options
  const closing = new AbortController()
  const { signal } = closing
  const moments = createWatermarkMoments()
  let running: Promise<void> | undefined
  let failures = 0
  let saved: LogPosition | undefined
  let epoch: SiteEpoch | undefined
  /** When the watermark was last one that counts, ours or another follower's. */
  let countedAtMs = 0
  let answeredAtMs: number | undefined
  let connected = false
  let behind: number | undefined
  let note: string | undefined
  let lastGap: string | undefined
  let lastError: string | undefined

  /** Asked again until it answers. Rejects when this is closed. */
  async function ask(question: Omit<LogQuestion, 'waitMs'>): Promise<RelayAnswer> {
    for (;;) {
      try {
        const answer = await client.ask({ ...question, waitMs }, signal)
        if (!connected) log.info({ relay: client.url }, 'the relay answers')
        connected = true
        answeredAtMs = now()
        if (answer.kind === 'page') note = answer.page.note
        return answer
      } catch (error) {
        connected = false
        await trouble(error)
      }
    }
  }

  /** Told once, and waited for longer each time. Rejects when this is closed. */
  async function trouble(error: unknown): Promise<void> {
    signal.throwIfAborted()
    const sentence = troubleText(error)
    if (sentence !== lastError) log.warn({ error, relay: client.url }, sentence)
    lastError = sentence
    await pause(Math.min(longestRestMs, firstRestMs * 2 ** failures++))
  }

  async function pause(longestMs: number): Promise<void> {
    await rest(longestMs * (1 - Math.random() / 2), signal)
    signal.throwIfAborted()
  }

  async function save(position: LogPosition): Promise<void> {
    await tracking.setCursor(CURSOR, positionText(position))
    saved = position
  }

  /** Everything is due before the cursor moves: whoever is killed between the two does both again. */
  async function startOver(position: LogPosition, why: string): Promise<never> {
    await reconciler.compareEverything()
    await save(position)
    lastGap = why
    log.warn({ relay: client.url, position }, `events may have been missed, everything is compared: ${why}`)
    throw new LogGapError(why)
  }

  async function startingPoint(): Promise<LogPosition> {
    const text = await tracking.cursor(CURSOR)
    saved = readPosition(text)
    if (saved) return saved
    const answer = await ask({ after: undefined, settled: false, seen: undefined })
    if (answer.kind === 'gone') throw new RelayAnswerError('the relay said that nothing is gone')
    const position = { log: answer.page.log, number: answer.page.last }
    await reconciler.compareEverything()
    await save(position)
    log.info(
      { relay: client.url, position },
      'the relay is followed from here on, and everything is compared',
    )
    return position
  }

  /** Rejects with what ended it: what it had not taken is read again by the next one. */
  async function session(): Promise<never> {
    epoch = undefined
    const position = await startingPoint()
    for (let at: Stand = { position, isSettled: false, seen: undefined, epoch: undefined }; ; ) {
      const answer = await ask({ after: at.position, settled: !at.isSettled, seen: at.seen })
      signal.throwIfAborted()
      if (answer.kind === 'gone') {
        const { log: id, last } = answer.gone
        return await startOver({ log: id, number: last }, whyGone(answer.gone, at.position))
      }
      const before = at
      at = await take(before, answer)
      epoch = at.epoch
      failures = 0
      if (lastError !== undefined) log.info({ relay: client.url }, "the relay's log is followed again")
      lastError = undefined
      if (saysNothing(answer, before)) await pause(IDLE_REST_MS)
    }
  }

  async function take(at: Stand, answer: Page): Promise<Stand> {
    const { page } = answer
    const reading = readOn(page, { after: at.position, settled: !at.isSettled })
    if (reading.kind === 'missed') return await startOver({ log: page.log, number: page.last }, reading.why)
    if (reading.notices.length > 0) await inbox.accept(reading.notices)
    const position = { log: page.log, number: page.through }
    if (saved === undefined || saved.number < position.number) await save(position)
    behind = Math.max(0, page.last - page.through)
    const isSettled = at.isSettled || reading.isSettled
    const next = { position, isSettled, seen: page.watermark ?? at.seen }
    // A repository under a renamed path may be asked for just now and not be held yet: no event names it, an epoch does.
    const isRenamed = reading.notices.some(({ action }) => action === 'rename')
    return { ...next, epoch: await advance(isRenamed ? undefined : at.epoch, answer, isSettled) }
  }

  /** Everything up to the watermark's `through` was heard. The epoch it was told in; without `isSettled` it is not told. */
  async function advance(
    current: SiteEpoch | undefined,
    answer: Page,
    isSettled: boolean,
  ): Promise<SiteEpoch | undefined> {
    const { watermark } = answer.page
    // Asked for in any case: should it come again, its age is known.
    const asOfMs = watermark && moments.of(watermark, answer.page, answer)
    if (!watermark || asOfMs === undefined || !isSettled) return current
    const told = current?.relayEpoch === watermark.epoch ? current : await begin(watermark.epoch)
    await freshness.advance(told.id, asOfMs)
    const known = await freshness.watermark()
    if (known && (known.epoch === told.id || known.ageMs < TAKEN_OVER_MS)) countedAtMs = now()
    if (now() - countedAtMs > TAKEN_OVER_MS) throw new EpochLostError('another epoch has been begun')
    return told
  }

  async function begin(relayEpoch: string): Promise<SiteEpoch> {
    const id = await freshness.beginEpoch()
    log.info(
      { relay: client.url, relay_epoch: relayEpoch },
      'the watermark covers what is asked for from now on',
    )
    countedAtMs = now()
    return { id, relayEpoch, beganAtMs: countedAtMs }
  }

  async function follow(): Promise<void> {
    while (!signal.aborted) {
      try {
        await session()
      } catch (error) {
        // Closed while it waits: it ends. After a gap it has no haste: each of them lets everything be compared.
        await (error instanceof LogGapError ? pause(longestRestMs) : trouble(error)).catch(() => {})
      }
    }
  }

  return {
    start() {
      running ??= follow()
    },
    status: () => ({
      url: client.url,
      connected,
      awayMs: connected || answeredAtMs === undefined ? undefined : now() - answeredAtMs,
      cursor: saved?.number,
      behind,
      epochAgeMs: epoch && now() - epoch.beganAtMs,
      note: connected ? note : undefined,
      lastGap,
      lastError,
    }),
    async close() {
      closing.abort()
      const given = new AbortController()
      await Promise.race([running, restFor(CLOSE_MS, given.signal)])
      given.abort()
    },
  }
}

function restFor(restMs: number, signal: AbortSignal): Promise<void> {
  return delay(restMs, undefined, { signal, ref: false }).catch(() => {}) // Closed: it ends.
}

function saysNothing({ page, sentAtMs, answeredAtMs }: Page, { position, seen }: Stand): boolean {
  const { watermark, through } = page
  const isKnown = !watermark || (watermark.epoch === seen?.epoch && watermark.round === seen.round)
  return isKnown && through === position.number && answeredAtMs - sentAtMs < AT_ONCE_MS
}
