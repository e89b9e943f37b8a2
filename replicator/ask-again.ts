/** Asking until the answer is the one an event announced: it may precede its own effect at the primary (law 8). */
import { setTimeout as delay } from 'node:timers/promises'
import { forEachBounded } from '../src/store/bounded.ts'

/** How long the primary is given to show what an event announced. */
export interface Patience {
  /** Waited inside a job before each further question, in milliseconds. */
  readonly stepsMs: readonly number[]
  /** When a job comes back for what it was still waiting for; undefined: the last answer inside the job stands. */
  readonly laterMs: number | undefined
  /** An event that was heard so long ago announces nothing any longer. */
  readonly settledMs: number
}

/** Not inside a job, whose place others want, and which hears of no newer event. */
const LONGEST_WAIT_MS = 1000

export function patienceOf(eventRetryMs: readonly number[]): Patience {
  return {
    stepsMs: eventRetryMs.filter((ms) => ms <= LONGEST_WAIT_MS),
    laterMs: eventRetryMs.find((ms) => ms > LONGEST_WAIT_MS),
    settledMs: eventRetryMs.at(-1) ?? 0,
  }
}

export interface AskAgainOptions {
  /** Waited before each further question, in milliseconds. */
  readonly stepsMs: readonly number[]
  /** Questions at a time. */
  readonly atOnce: number
  readonly signal: AbortSignal
}

/**
 * Asks about each item at once, and again after each of the steps those for which `ask` resolved false; at the last step
 * `last` is true: there is no further question.
 */
export async function askAgain<T>(
  items: Iterable<T>,
  { stepsMs, atOnce, signal }: AskAgainOptions,
  ask: (item: T, last: boolean) => Promise<boolean>,
): Promise<void> {
  let left = [...items]
  for (let step = 0; left.length > 0 && step <= stepsMs.length; step++) {
    if (step > 0) await delay(stepsMs[step - 1], undefined, { signal, ref: false })
    const again: T[] = []
    await forEachBounded(left, atOnce, async (item) => {
      if (!(await ask(item, step === stepsMs.length))) again.push(item)
    })
    left = again
  }
}
