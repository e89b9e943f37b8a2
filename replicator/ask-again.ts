/** Asking until the answer is the one an event announced: it may precede its own effect at the primary (law 8). */
import { setTimeout as delay } from 'node:timers/promises'
import { forEachBounded } from '../src/store/bounded.ts'

export interface AskAgainOptions {
  /** Waited before each further question, in milliseconds. */
  readonly stepsMs: readonly number[]
  /** Questions at a time. */
  readonly atOnce: number
  readonly signal: AbortSignal
}

/**
 * Asks about each item at once, and again after each of the steps those for which `ask` resolved false; at the last step
 * `last` is true, and its answer stands.
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
