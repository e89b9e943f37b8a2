/**
 * The moment of a watermark on this site's own clock. The page was sent at the earliest `heldMs` after the question left
 * here, so that the moment is never taken for later than it is, however long the line held question or answer.
 */
import type { LogPage, PageWatermark } from './relay/page.ts'

export interface Exchange {
  /** When the question was about to be sent, and when all of the answer was here: on one monotonic clock. */
  readonly sentAtMs: number
  readonly answeredAtMs: number
}

export interface WatermarkMoments {
  /** On the clock of the exchange; undefined: it is one that was overtaken, and says nothing. */
  of(watermark: PageWatermark, page: Pick<LogPage, 'heldMs'>, exchange: Exchange): number | undefined
}

/** Epochs that ended and are remembered: none of them may come back. */
const MAX_ENDED = 100

export function createWatermarkMoments(): WatermarkMoments {
  const ended = new Set<string>()
  let latest: { readonly epoch: string; readonly round: number; readonly asOfMs: number } | undefined

  function end(epoch: string): void {
    ended.add(epoch)
    for (const oldest of ended) {
      if (ended.size <= MAX_ENDED) return
      ended.delete(oldest)
    }
  }

  return {
    of({ epoch, round, ageMs }, { heldMs }, { sentAtMs, answeredAtMs }) {
      if (ended.has(epoch)) return undefined
      if (latest && latest.epoch !== epoch) {
        end(latest.epoch)
        latest = undefined
      }
      if (latest && round < latest.round) return undefined
      // No relay held it for longer than the whole exchange took.
      const asOfMs = sentAtMs + Math.min(heldMs, answeredAtMs - sentAtMs) - ageMs
      // Told again, it may come with the age of the first time.
      const toldBeforeMs = latest?.round === round ? latest.asOfMs : asOfMs
      latest = { epoch, round, asOfMs: Math.min(asOfMs, toldBeforeMs) }
      return latest.asOfMs
    },
  }
}
