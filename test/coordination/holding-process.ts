/**
 * A process that takes a turn and keeps it: `node holding-process.ts <redis url> <site> <ttl ms> <key>`. Prints `held` when it
 * has it.
 */
import { createRedisCoordination } from '../../src/coordination/redis-coordination.ts'
import { createLogger } from '../../src/log.ts'

const [url = '', site = '', ttl = '', key = ''] = process.argv.slice(2)
const coordination = createRedisCoordination(
  { log: createLogger({ level: 'silent' }) },
  { url, site, turnTtlMs: Number(ttl) },
)
await coordination.run(key, () => {
  process.stdout.write('held\n')
  return new Promise<void>(() => setInterval(() => undefined, 1000))
})
