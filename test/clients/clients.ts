/**
 * `npm run clients`: what every client of registries does at the primary it does through the secondary too. Each logs in
 * with a token service, pushes, pulls by tag, by digest and of an index (cold, warm, and with the primary stopped),
 * copies, deletes, attaches referrers and lists tags, as far as it can, against a real docker-registry with token auth,
 * directly and through `geo-registry serve`. What was pulled is compared by digests with what was pushed. Those that sign
 * sign and verify, and must trust neither another's key nor a changed image, in a table of their own.
 *
 * Options: `--only docker,podman`; `--markdown` prints the table as such; `--report FILE` keeps every step as JSON;
 * `--require-all` fails when a client is not in the table. Status 1: something works directly and not through the secondary;
 * 2: it did not run.
 */
import { writeFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { DEVELOPER } from '../e2e/clients/two-sites.ts'
import { installPrograms } from '../support/install.ts'
import {
  anyFailed,
  asMarkdown,
  asText,
  CLIENT_OPERATIONS,
  rowsOf,
  SIGNER_OPERATIONS,
  type Step,
} from './cells.ts'
import { CLIENTS, type Driven, type StartSites } from './roster.ts'
import { type Sites, startSites } from './sites.ts'

const print = (line: string) => void process.stdout.write(`${line}\n`)

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      only: { type: 'string' },
      markdown: { type: 'boolean', default: false },
      report: { type: 'string' },
      'require-all': { type: 'boolean', default: false },
    },
  })
  const startedAt = performance.now()
  await installPrograms(['docker-registry', 'openssl'])
  await using owned = new AsyncDisposableStack()
  const running = new Map<StartSites, Sites>([[startSites, owned.use(await startSites(DEVELOPER))]])
  const steps: Step[] = []
  const done = (step: Step) => {
    steps.push(step)
    const { client, operation, phase, ok, words, tookMs } = step
    if (!ok) print(`${client}, ${operation}, ${phase} failed after ${tookMs} ms: ${words}\n`)
  }
  const clients: Driven[] = []
  const missing: { client: string; why: string }[] = []
  for (const name of chosen(values.only)) {
    try {
      const client = CLIENTS.get(name)
      if (!client) continue
      const sites = running.get(client.startSites) ?? owned.use(await client.startSites(DEVELOPER))
      running.set(client.startSites, sites)
      clients.push(owned.use(await client.drive(sites, done)))
    } catch (error) {
      missing.push({ client: name, why: messageOf(error) })
    }
  }

  for (const { matrix } of clients) await matrix.run()
  for (const { primary } of running.values()) await primary.stop()
  // Side by side: docker alone tries for 50 s before it gives a push up.
  await Promise.all(clients.map(({ matrix }) => matrix.runStopped()))

  for (const operations of [CLIENT_OPERATIONS, SIGNER_OPERATIONS]) {
    const own = clients.filter((client) => client.operations === operations)
    if (own.length === 0) continue
    const rows = rowsOf(
      own.map(({ row }) => row),
      operations,
      steps,
    )
    print(`${values.markdown ? asMarkdown(rows) : asText(rows)}\n`)
  }
  for (const { client, why } of missing) print(`${client} is not in the table: ${why}`)
  const tookMs = Math.round(performance.now() - startedAt)
  print(
    `${steps.length} steps, ${steps.filter(({ ok }) => !ok).length} failed, in ${Math.round(tookMs / 1000)} s`,
  )
  if (values.report !== undefined) {
    const date = new Date().toISOString()
    await writeFile(
      values.report,
      `${JSON.stringify({ date, tookMs, clients: clients.map(({ row }) => row), missing, steps }, null, 2)}\n`,
    )
  }
  if (anyFailed(steps) || (values['require-all'] && missing.length > 0)) process.exitCode = 1
}

function chosen(only: string | undefined): readonly string[] {
  const known = [...CLIENTS.keys()]
  const names = only?.split(',') ?? known
  for (const name of names) {
    if (!known.includes(name)) throw new Error(`no client is called ${name}; there are ${known.join(', ')}`)
  }
  return names
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

try {
  await main()
} catch (error) {
  process.stderr.write(
    `clients: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
  )
  process.exitCode = 2
}
