/** Whether what is fetched now may be kept. Without room, clients are served straight from the primary. */
import type { Logger } from '../log.ts'
import type { Metrics } from '../metrics.ts'
import type { BlobStore, StoreError } from '../store/blob-store.ts'

/** For so long after a disk failed in the middle of a fill nothing is kept: the next spool would only fill it again. */
const PAUSE_MS = 10_000

export interface Room {
  isLeft(): Promise<boolean>
  /** A spool could not be made or went lost. */
  wasLost(error: StoreError): void
}

export interface RoomDependencies {
  readonly blobs: BlobStore
  readonly log: Logger
  readonly metrics: Metrics
}

export function createRoom({ blobs, log, metrics }: RoomDependencies): Room {
  let pausedUntilMs = 0
  let wasLeft = true
  return {
    async isLeft() {
      const isLeft = performance.now() >= pausedUntilMs && (await blobs.hasRoom())
      if (!isLeft) metrics.storeErrors.inc({ kind: 'full' })
      if (isLeft !== wasLeft) {
        wasLeft = isLeft
        if (isLeft) log.info('there is room again: what is fetched is kept')
        else log.error('no room: nothing new is kept, clients are served from the primary')
      }
      return isLeft
    },
    wasLost(error) {
      pausedUntilMs = performance.now() + PAUSE_MS
      metrics.storeErrors.inc({ kind: error.kind })
      log.error({ error }, 'a fill has no spool: nothing is kept, its clients are served from the primary')
    },
  }
}
