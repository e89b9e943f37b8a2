/** What keeps a site from following its relay, and what to do about it. */
import { RelayAnswerError } from './relay-answer.ts'
import { RelayAwayError } from './relay-client.ts'

/** Something of the log was missed; everything is due, and the site's place in the log has moved. */
export class LogGapError extends Error {
  override readonly name = 'LogGapError'
}

/** The epoch that the watermark is told in is not the one under way. */
export class EpochLostError extends Error {
  override readonly name = 'EpochLostError'
}

/** For the log and the status. */
export function troubleText(error: unknown): string {
  const reason = error instanceof Error ? error.message : String(error)
  if (error instanceof RelayAwayError || error instanceof RelayAnswerError) {
    return `${reason}. It is asked again by itself, and keeps the events meanwhile.`
  }
  if (error instanceof EpochLostError) {
    return 'The watermark does not count: another process of this site began an epoch, or Redis lost it. A new one is begun by itself; let one replicator run for a site.'
  }
  return `What the relay told could not be taken (${reason}). It is tried again by itself: start what is away, the tracking database or Redis.`
}
