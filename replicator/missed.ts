/**
 * Events may have been missed: when that was found, for the jobs that make it good. What the primary said before then is
 * not believed again without another question.
 */
import { randomUUID } from 'node:crypto'
import type { Tracking } from '../src/tracking/tracking.ts'

/** When everything was last to be compared, wall-clock milliseconds, and a text of its own. */
const ASKED = 'reconcile asked'

/** Durable when it resolves. */
export async function noteMissed(tracking: Pick<Tracking, 'setCursor'>, nowMs: number): Promise<void> {
  await tracking.setCursor(ASKED, `${nowMs} ${randomUUID()}`)
}

/** Another text each time; undefined: nothing was ever missed. */
export async function missedMark(tracking: Pick<Tracking, 'cursor'>): Promise<string | undefined> {
  return await tracking.cursor(ASKED)
}

/** In wall-clock milliseconds; undefined: nothing was ever missed. */
export async function missedAtMs(tracking: Pick<Tracking, 'cursor'>): Promise<number | undefined> {
  const mark = await missedMark(tracking)
  return mark === undefined ? undefined : Number.parseInt(mark, 10)
}
