/**
 * The line between a site and the relay: it delays, loses and repeats. A question that is lost is given up as
 * replicator/relay-client.ts does; an answer is read as there.
 */
import { readLogGone, readLogPage } from '../../replicator/relay-answer.ts'
import { type LogQuestion, type RelayAnswer, RelayAwayError } from '../../replicator/relay-client.ts'
import type { Answered, Relay } from './watermark-model-relay.ts'
import type { Rules } from './watermark-model-rules.ts'
import type { VirtualTime } from './watermark-model-time.ts'

const HEAD_GRACE_MS = 5_000
const BODY_TIMEOUT_MS = 30_000

export interface SiteLine {
  /** Each way, at most. */
  delayMs: number
  isCut: boolean
  /** How probable it is that an answer is lost, and that one of before comes in its place. */
  losing: number
  repeating: number
}

export interface SiteConnection {
  ask(question: LogQuestion): Promise<RelayAnswer>
}

export interface ConnectionDeps {
  readonly time: VirtualTime
  readonly rules: Rules
  readonly relay: Relay
  readonly line: SiteLine
  readonly site: string
  readonly now: () => number
  readonly seen: { lost: number; repeatedPages: number }
}

/** Of one process of a site: pages of another's are nobody's answer. */
export function connectSite({ time, rules, relay, line, site, now, seen }: ConnectionDeps): SiteConnection {
  const delivered: Exclude<Answered, undefined>[] = []
  const lost: Exclude<Answered, undefined>[] = []

  async function exchange({ after, settled, seen: mark, waitMs }: LogQuestion): Promise<Answered> {
    const isLost = () => line.isCut || time.odds(line.losing)
    if (isLost()) return await time.sleep(time.between(0, 2 * HEAD_GRACE_MS)).then(() => undefined)
    await time.sleep(time.between(0.2, 1) * line.delayMs)
    const question = {
      after: after?.number,
      log: after?.log,
      epoch: mark?.epoch,
      round: mark?.round ?? 0,
      waitMs,
      settled,
    }
    const page = await new Promise<Answered>((resolve) => relay.ask(site, question, resolve))
    await time.sleep(time.between(0.2, 1) * line.delayMs)
    if (!page) return undefined
    if (isLost()) {
      seen.lost += 1
      lost.push(page)
      return await time.sleep(time.between(0, HEAD_GRACE_MS)).then(() => undefined)
    }
    const late = rules.mixesPages ? lost.shift() : undefined
    if (late) return late
    if (delivered.length > 0 && time.odds(line.repeating)) {
      seen.repeatedPages += 1
      return time.pick(time.odds(0.5) ? delivered.slice(-1) : delivered)
    }
    delivered.push(page)
    if (delivered.length > 60) delivered.shift()
    return page
  }

  return {
    async ask(question) {
      const sentAtMs = now()
      const limitMs = question.waitMs + HEAD_GRACE_MS + time.between(0, BODY_TIMEOUT_MS)
      const page = await Promise.race([exchange(question), time.sleep(limitMs).then(() => undefined)])
      if (!page) throw new RelayAwayError('the relay cannot be reached (ECONNRESET)')
      if ('gone' in page) return { kind: 'gone', gone: readLogGone(page.gone) }
      return { kind: 'page', page: readLogPage(page.text), sentAtMs, answeredAtMs: now() }
    },
  }
}
