/** A process that adopts a folder until it is killed: `node adopting-process.ts <store> <folder>`. A line per step. */
import { writeSync } from 'node:fs'
import { adopt } from '../../replicator/adopt.ts'
import { createLogger } from '../../src/log.ts'
import { createMetrics } from '../../src/metrics.ts'
import { openStore } from '../../src/store/store.ts'

const [root = '', folder = ''] = process.argv.slice(2)
const deps = { log: createLogger({ level: 'silent' }), metrics: createMetrics() }
const store = await openStore(root, { minFreeFraction: 0 }, deps)
await adopt(folder, store, { onProgress: ({ done }) => writeSync(1, `${done.bytes}\n`) })
await store.close()
