/** The holder's side of a fill lease: it says how far it is, renews its lease by saying so, and hears what others want. */
import type { FillLease, FillSource } from '../fill/fill-leases.ts'
import { type FillState, parseWant } from '../fill/fill-state.ts'
import type { Logger } from '../log.ts'
import type { Digest } from '../oci/digest.ts'
import { BEAT, END } from './fill-lease-scripts.ts'
import type { FillLink } from './redis-fill-link.ts'

export interface HolderOptions {
  readonly token: string
  readonly left: FillState | undefined
  /** When the lease was asked for, on the clock of `now`. */
  readonly askedAtMs: number
  readonly ttlMs: number
  readonly now: () => number
  readonly log: Logger
}

/** Between two words on a fetch that is followed; what comes meanwhile is said together. */
const FOLLOWED_MS = 20
/** On one that nobody in another process follows. */
const ALONE_MS = 250
/** After a word that did not reach Redis. */
const AGAIN_MS = 250
/** A holder that was lost may have been fetching for as long before another asks what it said. */
const SAID_MS = 24 * 60 * 60 * 1000
/** For those who look only once a second. */
const LAST_WORD_MS = 30_000

export function createHolder(link: FillLink, digest: Digest, options: HolderOptions): FillLease {
  const { token, left, ttlMs, now, log } = options
  const lost = new AbortController()
  let source: FillSource | undefined
  let isFollowed = false
  let isDirty = false
  let isBeating = false
  let isOver = false
  let saidAtMs = Number.NEGATIVE_INFINITY
  let beating: NodeJS.Timeout | undefined
  let runningOut: NodeJS.Timeout | undefined
  const deafen = link.listen(link.wantChannel(digest), hear)
  heldSince(options.askedAtMs)
  beatIn(ttlMs / 3)

  /** Redis counts from later on, so that nobody can have the lease before it has run out here. */
  function heldSince(askedAtMs: number): void {
    clearTimeout(runningOut)
    runningOut = setTimeout(lose, Math.max(0, askedAtMs + ttlMs - now())).unref()
  }

  function beatIn(delayMs: number): void {
    clearTimeout(beating)
    if (!isOver) beating = setTimeout(() => void beat(), delayMs).unref()
  }

  async function beat(): Promise<void> {
    if (isBeating || isOver) return
    isBeating = true
    isDirty = false
    const askedAtMs = now()
    const state = source?.state()
    const text = state ? JSON.stringify({ state }) : ''
    try {
      const heardBy = Number(
        await link.run(BEAT, digest, token, ttlMs, text, SAID_MS, link.newsChannel(digest)),
      )
      saidAtMs = askedAtMs
      if (heardBy < 0) lose()
      else if (!isOver) {
        heldSince(askedAtMs)
        isFollowed = heardBy > 0
      }
    } catch {
      // Redis is away, which the link has said. Until the lease has run out nobody else can have it.
      isDirty = true
      saidAtMs = now() - FOLLOWED_MS + AGAIN_MS
    }
    isBeating = false
    if (isDirty) beatSoon()
    else beatIn(ttlMs / 3)
  }

  function beatSoon(): void {
    beatIn(Math.max(0, saidAtMs + (isFollowed ? FOLLOWED_MS : ALONE_MS) - now()))
  }

  function changed(): void {
    if (isDirty && !isBeating) return
    isDirty = true
    if (!isBeating) beatSoon()
  }

  function hear(text: string): void {
    const want = parseWant(text)
    if (!want || isOver) return
    if (!isFollowed) {
      isFollowed = true
      isDirty = true
      if (!isBeating) beatSoon()
    }
    source?.wanted(want)
  }

  function close(): void {
    isOver = true
    clearTimeout(beating)
    clearTimeout(runningOut)
    deafen()
  }

  function lose(): void {
    if (isOver) return
    close()
    log.warn({ digest }, 'the lease of a fill was lost: another process may fetch the blob too')
    lost.abort()
  }

  return {
    left,
    lost: lost.signal,
    changed,
    share(given) {
      source = given
      changed()
    },
    async end(word) {
      close()
      const text = JSON.stringify({ end: word })
      try {
        await link.run(END, digest, token, text, LAST_WORD_MS, link.newsChannel(digest))
      } catch {
        // Redis is away, which the link has said: the lease runs out by itself.
      }
    },
  }
}
