/** The comparisons: which registries and sites run, what the suite is pointed at, and in which order. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { RepositoryRow } from '../../src/status/rows.ts'
import type { Tree } from '../support/deep-merge.ts'
import { type GeoRegistry, startGeoRegistry } from '../support/geo-registry.ts'
import { freePort } from '../support/port.ts'
import { until } from '../support/wait.ts'
import { type Comparison, compareRuns } from './compare.ts'
import type { Primary } from './primaries.ts'
import { pushReadOnlyContent } from './read-only.ts'
import { REPOSITORY, type Suite } from './run-suite.ts'

export interface RunOptions {
  readonly suite: Suite
  /** Where the reports of this primary's runs stay. */
  readonly folder: string
}

/** Called with each comparison as it is made; `words` say which run it is of. */
export type Report = (words: string, comparison: Comparison) => Promise<void>

const SECRET = 'a-Secret-of-the-registry'

/**
 * Each side has a primary of its own: what one run leaves behind must not change the other. The second round pushes
 * again what the first has deleted, to sites that remember it.
 */
export async function compareWriting(
  start: () => Promise<Primary>,
  { suite, folder }: RunOptions,
  report: Report,
): Promise<void> {
  await using alone = await start()
  await using behind = await start()
  await using site = await startSite(behind, { auth: { none: { push: true } } })
  for (const [round, words, again] of [
    ['', '', false],
    ['-again', ' once more', true],
  ] as const) {
    const direct = await suite.run({ url: alone.url, folder: join(folder, `direct${round}`), again })
    const through = await suite.run({ url: site.url, folder: join(folder, `through${round}`), again })
    await writeFile(join(folder, `through${round}`, 'geo-registry.log'), site.logs())
    await report(words, compareRuns(direct, through))
  }
}

/** The site is told of the repository, copies it, and has served all of it once; then its primary is gone. */
export async function compareReading(
  start: () => Promise<Primary>,
  { suite, folder }: RunOptions,
  report: Report,
): Promise<void> {
  await using primary = await start()
  const eventsAddress = `127.0.0.1:${await freePort()}`
  await using site = await startSite(primary, {
    auth: { none: { push: false } },
    http: { events: { addr: eventsAddress } },
    replication: { enabled: true, requests: '1000/s', notifications: { secret: SECRET } },
  })
  const content = await pushReadOnlyContent(primary.url, REPOSITORY)
  const run = (url: string, words: string) => suite.run({ url, folder: join(folder, words), content })
  const direct = await run(primary.url, 'read-only-direct')
  await copied(site, eventsAddress)
  await run(site.url, 'read-only-primary-running')
  await primary.stop()
  const through = await run(site.url, 'read-only-primary-stopped')
  await writeFile(join(folder, 'read-only-primary-stopped', 'geo-registry.log'), site.logs())
  await report(' read-only, primary stopped', compareRuns(direct, through, suite.failsInOutage))
}

async function startSite(primary: Primary, config: Tree): Promise<GeoRegistry> {
  return await startGeoRegistry({ primary: primary.url, config })
}

/** By an event, as olareg has no catalog that a reconciliation could read. */
async function copied(site: GeoRegistry, eventsAddress: string): Promise<void> {
  const mediaType = 'application/vnd.oci.image.manifest.v1+json'
  const target = { repository: REPOSITORY, tag: 'image', mediaType }
  const told = await fetch(`http://${eventsAddress}/notifications`, {
    method: 'POST',
    headers: { authorization: SECRET, 'content-type': 'application/json' },
    body: JSON.stringify({ events: [{ id: 'one', action: 'push', target }] }),
  })
  if (told.status !== 204) throw new Error(`the event was answered ${told.status}`)
  await until(
    async () => {
      const answer = await fetch(`${site.adminUrl}/repositories?limit=10`)
      const { repositories } = (await answer.json()) as { readonly repositories: readonly RepositoryRow[] }
      return repositories.some(({ path, state, bytesOutstanding }) => {
        return path === REPOSITORY && /^synced$/i.test(String(state)) && bytesOutstanding === 0
      })
    },
    { what: `${REPOSITORY} to be copied`, deadlineMs: 30_000 },
  )
}
