/** Events as a registry posts them, through the real inbox into the parts of a site of `sync-fixture`. */
import pino from 'pino'
import { createInbox } from '../../replicator/inbox.ts'
import { readEnvelope } from '../../replicator/notification.ts'
import type { SyncFixture } from './sync-fixture.ts'

/** As it stands in an envelope; any further fields are sent as they are. */
export interface PostedEvent {
  readonly id: string
  readonly action: string
  readonly target: object
}

/** Resolves when they are stored, as the registry is then answered 204. Jobs are the test's to run. */
export async function notified(site: SyncFixture, ...events: readonly PostedEvent[]): Promise<void> {
  const { tracking, freshness, metrics, store } = site
  const { index, holdings } = store
  using inbox = createInbox({
    tracking,
    freshness,
    metrics,
    index,
    holdings,
    queue: { wake: async () => undefined },
    modeOf: () => 'replicate',
    log: pino({ level: 'silent' }),
  })
  await inbox.accept(readEnvelope(Buffer.from(JSON.stringify({ events }))).notices)
}
