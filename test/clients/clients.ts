/**
 * `npm run clients`: what every client of registries does at the primary it does through the secondary too. Each logs in
 * with a token service, pushes, pulls by tag, by digest and of an index (cold, warm, and with the primary stopped),
 * copies, deletes, attaches referrers and lists tags, as far as it can, against a real docker-registry with token auth,
 * directly and through `geo-registry serve`. What was pulled is compared by digests with what was pushed.
 *
 * Options: `--only docker,podman`; `--markdown` prints the table as such; `--report FILE` keeps every step as JSON;
 * `--require-all` fails when a client is not in the table. Status 1: something works directly and not through the secondary;
 * 2: it did not run.
 */
import { writeFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { DEVELOPER } from '../e2e/clients/two-sites.ts'
import { installPrograms } from '../support/install.ts'
import { anyFailed, asMarkdown, asText, type Row, rowsOf, type Step } from './cells.ts'
import { ENGINES } from './engines.ts'
import { GO_TOOLS } from './go-tools.ts'
import { createMatrix } from './matrix.ts'
import { startSites } from './sites.ts'
import type { StartTool, Tool } from './tool.ts'

const CLIENTS: Readonly<Record<string, StartTool>> = {
  ...ENGINES,
  ...GO_TOOLS,
  cosign: notDriven('nothing here drives a signer yet (Go builds it in five minutes)'),
  notation: notDriven('nothing here drives a signer yet (of its versions the module proxy gave 1.3.2)'),
}

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
  const sites = owned.use(await startSites(DEVELOPER))
  const tools: Tool[] = []
  const missing: { client: string; why: string }[] = []
  for (const name of chosen(values.only)) {
    try {
      const start = CLIENTS[name]
      if (start) tools.push(owned.use(await start()))
    } catch (error) {
      missing.push({ client: name, why: messageOf(error) })
    }
  }

  const steps: Step[] = []
  const done = (step: Step) => {
    steps.push(step)
    const { client, operation, phase, ok, words, tookMs } = step
    if (!ok) print(`${client}, ${operation}, ${phase} failed after ${tookMs} ms: ${words}\n`)
  }
  const matrices = tools.map((tool) => createMatrix(sites, tool, done))
  for (const matrix of matrices) await matrix.run()
  await sites.primary.stop()
  // Side by side: docker alone tries for 50 s before it gives a push up.
  await Promise.all(matrices.map((matrix) => matrix.runStopped()))

  const clients: Row[] = tools.map(({ name, version }) => ({ client: name, version }))
  const rows = rowsOf(clients, steps)
  print(values.markdown ? asMarkdown(rows) : asText(rows))
  for (const { client, why } of missing) print(`${client} is not in the table: ${why}`)
  const tookMs = Math.round(performance.now() - startedAt)
  print(
    `${steps.length} steps, ${steps.filter(({ ok }) => !ok).length} failed, in ${Math.round(tookMs / 1000)} s`,
  )
  if (values.report !== undefined) {
    const date = new Date().toISOString()
    await writeFile(values.report, `${JSON.stringify({ date, tookMs, clients, missing, steps }, null, 2)}\n`)
  }
  if (anyFailed(steps) || (values['require-all'] && missing.length > 0)) process.exitCode = 1
}

function chosen(only: string | undefined): readonly string[] {
  const known = Object.keys(CLIENTS)
  const names = only?.split(',') ?? known
  for (const name of names) {
    if (!known.includes(name)) throw new Error(`no client is called ${name}; there are ${known.join(', ')}`)
  }
  return names
}

/** Said at every run, so that nobody takes its absence for a success. */
function notDriven(why: string): StartTool {
  return () => Promise.reject(new Error(why))
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
