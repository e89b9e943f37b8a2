/** A site that follows a relay into a folder and does nothing more, to be killed: `node following-process.ts FOLDER URL`. */
import { join } from 'node:path'
import { createFollower } from '../../replicator/follower.ts'
import { createInbox } from '../../replicator/inbox.ts'
import { createRelayClient } from '../../replicator/relay-client.ts'
import { createMemoryFreshness } from '../../src/freshness/memory-freshness.ts'
import { createLogger } from '../../src/log.ts'
import { createMetrics } from '../../src/metrics.ts'
import { createMemoryQueue } from '../../src/queue/memory-queue.ts'
import { openStore } from '../../src/store/store.ts'
import { openTracking } from '../../src/tracking/open-tracking.ts'
import { TOKENS } from './relay/listening-relay.ts'

const [folder = '', url = ''] = process.argv.slice(2)
const log = createLogger()
const metrics = createMetrics()
const store = await openStore(join(folder, 'root'), {}, { log, metrics })
const tracking = await openTracking({ kind: 'sqlite', file: join(folder, 'tracking.sqlite') }, { log })
const freshness = createMemoryFreshness({ maxStalenessMs: 10_000 })
const inbox = createInbox({
  tracking,
  queue: createMemoryQueue({ log }),
  freshness,
  index: store.index,
  holdings: store.holdings,
  modeOf: () => 'replicate',
  log,
  metrics,
})
createFollower({
  client: createRelayClient({ url, token: () => TOKENS.berlin }),
  inbox,
  tracking,
  freshness,
  reconciler: { compareEverything: async () => log.info('everything is compared') },
  log,
}).start()
