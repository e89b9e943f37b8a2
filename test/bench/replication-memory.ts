/** What a site of a million tracked repositories keeps in memory, from its start through a pass over all of them. */
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { createLogger } from '../../src/log.ts'
import type { StatusReport } from '../../src/status/status-report.ts'
import { openTracking } from '../../src/tracking/open-tracking.ts'
import { startGeoRegistry } from '../support/geo-registry.ts'
import { type HttpListener, listenHttp } from '../support/http-listener.ts'
import { tempFolder } from '../support/temp.ts'
import { until } from '../support/wait.ts'
import { describeMemory, type MemoryWatch, watchMemory } from './memory-watch.ts'
import { absolute, type Row } from './report.ts'
import { MIB } from './scene.ts'
import { million, nameOf, REPOSITORIES } from './tracking-scale.ts'

const BOUND_BYTES = 300 * MIB
const DEADLINE_MS = 180_000

export async function measureReplicationMemory(): Promise<Row[]> {
  await using folder = await tempFolder('million')
  await prefill(join(folder.path, 'geo-registry'))
  await using primary = await startEmptyPrimary()
  const starting = startGeoRegistry({
    primary: primary.url,
    root: folder.path,
    config: { replication: { enabled: true, requests: '10000/s' } },
  })
  await using site = await starting
  const status = async () => (await (await fetch(`${site.adminUrl}/status`)).json()) as StatusReport
  const memory: MemoryWatch = await watchMemory(site, () =>
    until(
      async () => {
        const { reconcile, queue, container_repositories_count: count } = await status()
        if (count !== null && count !== REPOSITORIES) throw new Error(`${count} repositories are tracked`)
        return reconcile?.last_pass_timestamp && queue && queue.waiting + queue.running === 0
      },
      {
        what: 'a pass over all repositories, and the jobs that were due',
        deadlineMs: DEADLINE_MS,
        everyMs: 500,
      },
    ),
  )
  return [
    absolute(
      '1 000 000 repositories in SQLite: resident memory of the site, from its start through a pass and 10 000 jobs',
      describeMemory(memory),
      '< 300 MiB',
      memory.peakBytes < BOUND_BYTES,
    ),
  ]
}

async function prefill(folder: string): Promise<void> {
  const file = join(folder, 'tracking.db')
  await (await openTracking({ kind: 'sqlite', file }, { log: createLogger({ level: 'error' }) }))[
    Symbol.asyncDispose
  ]()
  using database = new DatabaseSync(file)
  database.exec(million(Date.now()))
}

/** Lists a million repositories, none of which has a tag. */
async function startEmptyPrimary(): Promise<HttpListener> {
  const names = Array.from({ length: REPOSITORIES }, (_, index) => nameOf(index))
  return await listenHttp((request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? '', 'http://primary')
    const [, repository] = /^\/v2\/(.+)\/tags\/list$/.exec(pathname) ?? []
    response.setHeader('content-type', 'application/json')
    if (pathname === '/v2/_catalog') {
      const start = Number(searchParams.get('last') ?? 0)
      const page = names.slice(start, start + 1000)
      const next = start + page.length
      if (next < names.length) response.setHeader('link', `</v2/_catalog?n=1000&last=${next}>; rel="next"`)
      response.end(JSON.stringify({ repositories: page }))
    } else if (repository !== undefined) {
      response.end(JSON.stringify({ name: repository, tags: [] }))
    } else {
      response.writeHead(pathname === '/v2/' ? 200 : 404).end('{}')
    }
  })
}
