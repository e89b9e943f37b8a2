/**
 * One of several processes on a store: `node sharing-process.ts <root> <origin> <redis url>`. Prints the port of its
 * listener. `GET /<name>@<digest>` answers as the proxy would: the blob, or what `Range` asks of it, straight from the
 * primary where the fill passes; `GET /fetch/<name>@<digest>` when a job has it; `GET /received` with the bytes of bodies
 * that came from the primary.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createRedisFillLeases } from '../../src/coordination/redis-fill-leases.ts'
import { openFill } from '../../src/fill/flights.ts'
import { createLogger } from '../../src/log.ts'
import { createMetrics } from '../../src/metrics.ts'
import { parseDigest } from '../../src/oci/digest.ts'
import { parseAskedRanges } from '../../src/oci/ranges.ts'
import { openStore } from '../../src/store/store.ts'
import { createDispatcher } from '../../src/upstream/dispatcher.ts'
import { createRegistryClient } from '../../src/upstream/registry-client.ts'
import { createNoTokenSource } from '../../src/upstream/token-source.ts'
import { nameOf } from '../store/store-fixture.ts'

const [root = '', origin = '', redisUrl = ''] = process.argv.slice(2)
const SITE = { kind: 'site' } as const
const deps = { log: createLogger({ level: 'error' }), metrics: createMetrics() }
const store = await openStore(root, { minFreeFraction: 0 }, deps)
const upstream = createRegistryClient({
  dispatcher: createDispatcher(deps, { origin }),
  tokens: createNoTokenSource(),
  breaker: { failed: () => undefined, succeeded: () => undefined },
})
const leases = createRedisFillLeases(deps, { url: redisUrl, site: 'test' })
const fill = await openFill(
  { ...deps, ...store, upstream },
  { folder: store.paths.spools, leases, pieceBytes: 2 * 1024 * 1024 },
)

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  if (request.url === '/received') {
    return void response.end(String((await deps.metrics.upstreamBytes.get()).values[0]?.value ?? 0))
  }
  const [, job, name = '', digestText = ''] = /^\/(fetch\/)?(.+)@(.+)$/.exec(request.url ?? '') ?? []
  const digest = parseDigest(digestText)
  if (!digest) return void response.writeHead(400).end()
  const gone = new AbortController()
  response.on('close', () => gone.abort())
  const { signal } = gone
  if (job) {
    await fill.fetch(nameOf(name), digest, { credential: SITE, signal })
    return void response.end()
  }
  const [range] = parseAskedRanges(request.headers.range) ?? []
  const outcome = await fill.follow(nameOf(name), digest, { credential: SITE, range, signal })
  if (outcome.kind === 'pass') return void response.writeHead(307).end()
  if (outcome.kind === 'stored') {
    const bytes = await store.blobs.read(digest, Number.MAX_SAFE_INTEGER)
    return void response.end(
      bytes?.subarray(range?.start ?? 0, range?.end === undefined ? undefined : range.end + 1),
    )
  }
  const { follower } = outcome
  const end = range?.end === undefined ? follower.sizeBytes : range.end + 1
  const start = range?.start ?? 0
  response.writeHead(200, { 'content-length': String(end - start) })
  response.flushHeaders()
  try {
    for (let position = start; position < end; ) {
      const buffer = Buffer.alloc(256 * 1024)
      const length = Math.min(buffer.length, end - position)
      const count = await follower.read(buffer, length, position, signal)
      position += count
      if (!response.write(buffer.subarray(0, count))) {
        await new Promise<void>((resolve) => {
          response.once('drain', resolve)
          response.once('close', resolve)
        })
      }
    }
    response.end()
  } finally {
    follower.close()
  }
}

const server = createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
  answer(request, response).catch((error: unknown) => {
    if (response.headersSent) response.destroy()
    else response.writeHead(502).end(String(error))
  })
})
server.listen(0, '127.0.0.1', () => {
  const address = server.address()
  process.stdout.write(`${typeof address === 'object' ? address?.port : ''}\n`)
})
