/**
 * A process that stops in the middle of a link, a tag or a mark until it is told to go on:
 * `node paused-process.ts <root> <redis url> <site> <what> <digest>`. Prints `looked` once it has seen that nothing overrules
 * it, waits for a line, and prints what came of it.
 */
import { once } from 'node:events'
import { createRedisCoordination } from '../../src/coordination/redis-coordination.ts'
import { createLogger } from '../../src/log.ts'
import { createMetrics } from '../../src/metrics.ts'
import { parseDigest } from '../../src/oci/digest.ts'
import { openStore } from '../../src/store/store.ts'
import { nameOf, tagOf } from './store-fixture.ts'

const [root = '', url = '', site = '', what = '', text = ''] = process.argv.slice(2)
const digest = parseDigest(text)
if (!digest) throw new Error(`${text} is no digest`)
const deps = { log: createLogger({ level: 'silent' }), metrics: createMetrics() }
const coordination = createRedisCoordination(deps, { url, site, turnTtlMs: 500 })
await coordination.reach()
let looked = false
const { index, holdings } = await openStore(
  root,
  {
    minFreeFraction: 0,
    coordination: {
      ...coordination,
      overrules: async (mark, ...keys) => {
        const overruled = await coordination.overrules(mark, ...keys)
        if (!looked) {
          looked = true
          const goesOn = once(process, 'SIGUSR2') // Before it is told of: unheard, the signal would end the process.
          process.stdout.write(`looked ${overruled}\n`)
          await goesOn
        }
        return overruled
      },
    },
  },
  deps,
)
const name = nameOf('team/app')
const mark = index.mark()
const works: Record<string, () => Promise<unknown>> = {
  link: () => index.putLink(name, 'manifest', digest, mark),
  tag: () => index.putTag(name, tagOf('latest'), digest, mark),
  mark: () => holdings.markComplete(name, mark),
}
process.stdout.write(`came to ${await works[what]?.()}\n`)
process.exit()
