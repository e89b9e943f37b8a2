/** A worker in a process of its own, to be killed: `worker-process.ts URL NAME LOCK_DURATION_MS`. Its runs never end. */
import { createLogger } from '../../src/log.ts'
import { createBullmqQueue } from '../../src/queue/bullmq-queue.ts'

const [url = '', name = '', lockDurationMs] = process.argv.slice(2)
const queue = createBullmqQueue(
  { log: createLogger({ level: 'silent' }) },
  { url, name, lockDurationMs: Number(lockDurationMs) },
)
queue.work(
  async (key, signal) => {
    process.stdout.write(`begun ${key}\n`)
    await new Promise((resolve) => signal.addEventListener('abort', resolve))
    process.stdout.write(`aborted ${key}: ${signal.reason.message}\n`)
  },
  { concurrency: 4 },
)
