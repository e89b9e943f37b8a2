/** Waiting for a condition with a deadline: what stands where a sleep would. */
import { setTimeout as delay } from 'node:timers/promises'

export interface UntilOptions {
  /** What is waited for, for the error: `the blob to be published`. */
  readonly what: string
  /** Default 10 s. */
  readonly deadlineMs?: number
  /** Between two looks; default 20 ms. */
  readonly everyMs?: number
}

/**
 * The condition's value once it is truthy. A condition that throws counts as not yet, and what it threw last is the
 * `cause` of the error when the deadline passes.
 */
export async function until<T>(
  condition: () => T | Promise<T>,
  options: UntilOptions,
): Promise<NonNullable<Exclude<T, false | 0 | ''>>> {
  const deadlineMs = options.deadlineMs ?? 10_000
  const endsAt = performance.now() + deadlineMs
  let cause: unknown
  for (;;) {
    try {
      const value = await condition()
      if (value) return value as NonNullable<Exclude<T, false | 0 | ''>>
      cause = undefined
    } catch (error) {
      cause = error
    }
    if (performance.now() >= endsAt) {
      throw new Error(`waited ${deadlineMs} ms in vain for ${options.what}`, { cause })
    }
    await delay(options.everyMs ?? 20)
  }
}
