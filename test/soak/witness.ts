/**
 * Asks every way in, and the primary itself, for what costs them nothing, again and again. One that is late with that is
 * not let run by a machine under load (or stands still for a reason of its own, which the longest of these waits shows):
 * an error beside it is no wonder, wrong content is.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { Disturbances, Place } from './disturbances.ts'

export interface Witnessed {
  readonly name: string
  readonly place: Place
  readonly url: string
}

export interface Witness extends AsyncDisposable {
  /** The longest that one took to answer while no fault could explain it, in milliseconds. */
  readonly longestMs: number
}

const EVERY_MS = 300
/** Far below the patience of the sites with the primary. */
const LATE_MS = 1_000
const PATIENCE_MS = 10_000

export function startWitness(
  all: readonly Witnessed[],
  disturbances: Disturbances,
  now: () => number,
): Witness {
  const ending = new AbortController()
  let longestMs = 0

  async function watch({ name, place, url }: Witnessed): Promise<void> {
    while (!ending.signal.aborted) {
      const start = now()
      const isAnswered = await fetch(`${url}/v2/`, { signal: AbortSignal.timeout(PATIENCE_MS) }).then(
        async (response) => {
          await response.body?.cancel()
          return true
        },
        (error: unknown) => error instanceof Error && error.name === 'TimeoutError',
      )
      const span = { start, end: now() }
      const tookMs = span.end - start
      if (isAnswered && disturbances.explain(place, ['down', 'away'], span) === undefined) {
        longestMs = Math.max(longestMs, tookMs)
      }
      if (isAnswered && tookMs > LATE_MS) {
        const what = `${name} took ${Math.round(tookMs)} ms to answer GET /v2/`
        const places: readonly Place[] = place === 'primary' ? ['tokyo', 'lima', 'primary'] : [place]
        disturbances.record({ what, places, effect: 'away' }, span)
      }
      await delay(EVERY_MS, undefined, { signal: ending.signal }).catch(() => undefined)
    }
  }
  const watching = all.map(watch)
  return {
    get longestMs() {
      return longestMs
    },
    async [Symbol.asyncDispose]() {
      ending.abort()
      await Promise.all(watching)
    },
  }
}
