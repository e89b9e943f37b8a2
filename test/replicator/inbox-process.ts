/** A process that takes notifications into a folder and nothing more, to be killed: `node inbox-process.ts FOLDER PORT`. */
import { join } from 'node:path'
import { startEventsListener } from '../../replicator/events-listener.ts'
import { createInbox } from '../../replicator/inbox.ts'
import { createMemoryFreshness } from '../../src/freshness/memory-freshness.ts'
import { createLogger } from '../../src/log.ts'
import { createMetrics } from '../../src/metrics.ts'
import { createMemoryQueue } from '../../src/queue/memory-queue.ts'
import { openStore } from '../../src/store/store.ts'
import { openTracking } from '../../src/tracking/open-tracking.ts'

const [folder = '', port = ''] = process.argv.slice(2)
const log = createLogger()
const metrics = createMetrics()
const store = await openStore(join(folder, 'root'), {}, { log, metrics })
const tracking = await openTracking({ kind: 'sqlite', file: join(folder, 'tracking.sqlite') }, { log })
const { accept } = createInbox({
  tracking,
  queue: createMemoryQueue({ log }),
  freshness: createMemoryFreshness(),
  index: store.index,
  holdings: store.holdings,
  modeOf: () => 'replicate',
  log,
  metrics,
})
await startEventsListener(
  { accept: ({ notices }) => accept(notices), log, metrics },
  { host: '127.0.0.1', port: Number(port), secret: () => undefined },
)
