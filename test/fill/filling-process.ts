/**
 * A process that fills one blob until it is killed: `node filling-process.ts <root> <origin> <name> <digest>`. Prints
 * the position it has read to, one number a line.
 */
import { openFill } from '../../src/fill/flights.ts'
import { createLogger } from '../../src/log.ts'
import { createMetrics } from '../../src/metrics.ts'
import { parseDigest } from '../../src/oci/digest.ts'
import { openStore } from '../../src/store/store.ts'
import { createDispatcher } from '../../src/upstream/dispatcher.ts'
import { createRegistryClient } from '../../src/upstream/registry-client.ts'
import { createNoTokenSource } from '../../src/upstream/token-source.ts'
import { nameOf } from '../store/store-fixture.ts'

const [root = '', origin = '', name = '', digestText = ''] = process.argv.slice(2)
const digest = parseDigest(digestText)
if (!digest) throw new Error(`${digestText} is no digest`)
const deps = { log: createLogger({ level: 'silent' }), metrics: createMetrics() }
const store = await openStore(root, { minFreeFraction: 0 }, deps)
const upstream = createRegistryClient({
  dispatcher: createDispatcher(deps, { origin }),
  tokens: createNoTokenSource(),
  breaker: { failed: () => undefined, succeeded: () => undefined },
})
const fill = await openFill({ ...deps, ...store, upstream }, { folder: store.paths.spools })
const outcome = await fill.follow(nameOf(name), digest, { credential: { kind: 'site' } })
if (outcome.kind !== 'follower') throw new Error(outcome.kind)
const { follower } = outcome
const buffer = Buffer.alloc(512 * 1024)
const { signal } = new AbortController()
for (let position = 0; position < follower.sizeBytes; ) {
  position += await follower.read(buffer, buffer.length, position, signal)
  process.stdout.write(`${position}\n`)
}
