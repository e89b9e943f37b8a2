/**
 * The follower's side: news as they are published, and a look at the keys every second for what was missed: a holder that
 * is gone says nothing.
 */
import { z } from 'zod'
import type { FillFollowing, FillListener } from '../fill/fill-leases.ts'
import { type FillNews, parseNews } from '../fill/fill-state.ts'
import type { Digest } from '../oci/digest.ts'
import { LOOK } from './fill-lease-scripts.ts'
import type { FillLink } from './redis-fill-link.ts'

export interface FollowerOptions {
  /** Without an answer for so long it is given up. */
  readonly patienceMs: number
  readonly now: () => number
}

const LOOK_MS = 1000
const LOOKED = z.tuple([z.number(), z.string()])
/** Nothing but that somebody follows. */
const HELLO = JSON.stringify({ spans: [], client: false })

export function createFollowing(
  link: FillLink,
  digest: Digest,
  listener: FillListener,
  { patienceMs, now }: FollowerOptions,
): FillFollowing {
  const wants = link.wantChannel(digest)
  let isOver = false
  let heard = 0
  let answeredAtMs = now()
  /** Since when Redis knows nothing of the fetch. */
  let forgottenSinceMs: number | undefined
  const deafen = link.listen(link.newsChannel(digest), hear, () => {
    link.say(wants, HELLO)
    void look()
  })
  const looking = setInterval(() => void look(), LOOK_MS).unref()

  function hear(text: string): void {
    heard += 1
    answeredAtMs = now()
    tell(parseNews(text))
  }

  function tell(news: FillNews | undefined): void {
    if (!news || isOver) return
    if ('state' in news) listener.state(news.state)
    else finish(news.end)
  }

  async function look(): Promise<void> {
    const heardBefore = heard
    try {
      const [isHeld, said] = LOOKED.parse(await link.run(LOOK, digest))
      answeredAtMs = now()
      const news = parseNews(said)
      if (isHeld === 1 || news) forgottenSinceMs = undefined
      else forgottenSinceMs ??= now()
      if (isHeld === 0 && !(news && 'end' in news)) {
        // Where nothing is left of it Redis has forgotten everything, and the holder is about to say so again.
        if (news || now() - (forgottenSinceMs ?? now()) > patienceMs) finish({ kind: 'left' })
      }
      // What was published since the question was sent came later than its answer, or comes again.
      else if (heard === heardBefore) tell(news)
    } catch {
      // Redis is away, which the link has said.
      if (now() - answeredAtMs > patienceMs) finish({ kind: 'unreachable' })
    }
  }

  function finish(word: Parameters<FillListener['ended']>[0]): void {
    if (isOver) return
    close()
    listener.ended(word)
  }

  function close(): void {
    isOver = true
    clearInterval(looking)
    deafen()
  }

  return {
    want: (want) => link.say(wants, JSON.stringify(want)),
    close: () => {
      if (!isOver) close()
    },
  }
}
