/** A site's place in its relay's log, as the tracking database keeps it. */
import { z } from 'zod'
import type { LogPosition } from './relay-client.ts'

const POSITION = z.object({ log: z.string(), number: z.int().nonnegative() })

export function positionText({ log, number }: LogPosition): string {
  return JSON.stringify({ log, number })
}

/** What another version wrote is none: the site begins anew, and compares everything. */
export function readPosition(text: string | undefined): LogPosition | undefined {
  if (text === undefined) return undefined
  try {
    return POSITION.safeParse(JSON.parse(text)).data
  } catch {
    return undefined
  }
}
