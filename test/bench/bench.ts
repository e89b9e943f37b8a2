/**
 * `npm run bench`: how fast and how big, side by side in one run, as ratios. Options: `--only warm,cold,…` selects rows,
 * `--markdown` prints the README's table. `--peers` runs the comparison with other caches instead (`peers/run.ts`), with
 * `--rounds N`, `--seed N`, `--json FILE`, `--svg FILE`, `--profile FOLDER`. The exit status is 0 though a bound is missed
 * (a busy machine is no fault), and 1 when something did not work.
 */
import { parseArgs } from 'node:util'
import { installPrograms } from '../support/install.ts'
import { measureBlackHole } from './black-hole.ts'
import { measureColdBlob } from './cold-blob.ts'
import { describeMachine } from './machine.ts'
import { measureMemory } from './memory.ts'
import { measureOneFetch } from './one-fetch.ts'
import { runPeers } from './peers/run.ts'
import { measurePush } from './push.ts'
import { measureRelayEvents } from './relay-events.ts'
import { measureRelayWatermark } from './relay-watermark.ts'
import { measureReplicationBeside } from './replication-beside.ts'
import { measureReplicationCopy } from './replication-copy.ts'
import { measureReplicationLag } from './replication-lag.ts'
import { measureReplicationMemory } from './replication-memory.ts'
import { measureReplicationReconcile } from './replication-reconcile.ts'
import { markdownTable, type Row, textTable } from './report.ts'
import { type Scene, startScene } from './scene.ts'
import { measureTagCost } from './tag-cost.ts'
import { measureTrackingScale } from './tracking-scale.ts'
import { measureWarmBlob } from './warm-blob.ts'
import { measureWarmManifest } from './warm-manifest.ts'

/** In the order of the issues' tables. `--only` takes any beginning: `warm` is both warm ones. */
const BENCHES: Readonly<Record<string, (scene: Scene) => Promise<Row[]>>> = {
  'warm-manifest': measureWarmManifest,
  'warm-blob': measureWarmBlob,
  'cold-blob': measureColdBlob,
  'one-fetch': measureOneFetch,
  memory: measureMemory,
  push: measurePush,
  'black-hole': measureBlackHole,
  'tag-cost': measureTagCost,
  lag: measureReplicationLag,
  copy: measureReplicationCopy,
  reconcile: measureReplicationReconcile,
  tracked: async () => [...(await measureTrackingScale()), ...(await measureReplicationMemory())],
  beside: measureReplicationBeside,
  'relay-events': measureRelayEvents,
  watermark: measureRelayWatermark,
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      only: { type: 'string' },
      markdown: { type: 'boolean', default: false },
      peers: { type: 'boolean', default: false },
      rounds: { type: 'string', default: '3' },
      seed: { type: 'string' },
      json: { type: 'string' },
      svg: { type: 'string' },
      profile: { type: 'string' },
    },
  })
  const { markdown, json, svg, profile } = values
  if (values.peers) {
    if (values.only !== undefined) throw new Error('--peers is one comparison: leave --only out')
    const rounds = wholeNumber('--rounds', values.rounds)
    const seed = values.seed === undefined ? {} : { seed: wholeNumber('--seed', values.seed) }
    await installPrograms(['docker-registry', 'nginx', 'wrk', 'openssl'])
    await runPeers({ rounds, ...seed, markdown, json, svg, profile })
    return
  }
  const wanted = select(values.only)
  await installPrograms(['docker-registry', 'nginx', 'wrk', 'openssl', 'pg_ctlcluster'])
  const machine = await describeMachine()
  await using scene = await startScene()
  const rows: Row[] = []
  for (const [name, measure] of wanted) {
    const startedAtMs = performance.now()
    process.stderr.write(`${name} …`)
    try {
      rows.push(...(await measure(scene)))
    } catch (error) {
      complain(name, error) // The other rows are worth having all the same.
    }
    process.stderr.write(` ${Math.round((performance.now() - startedAtMs) / 1000)} s\n`)
  }
  print(rows, machine, markdown ? markdownTable : textTable)
}

function wholeNumber(option: string, text: string): number {
  if (!/^\d{1,10}$/.test(text) || Number(text) < 1)
    throw new Error(`${option} ${text}: expected a whole number from 1`)
  return Number(text)
}

function select(only: string | undefined): [name: string, (scene: Scene) => Promise<Row[]>][] {
  const all = Object.entries(BENCHES)
  if (only === undefined) return all
  const beginnings = only.split(',')
  const unknown = beginnings.filter((beginning) => !all.some(([name]) => name.startsWith(beginning)))
  if (unknown.length > 0)
    throw new Error(`no row is called ${unknown.join(', ')}; there are ${Object.keys(BENCHES).join(', ')}`)
  return all.filter(([name]) => beginnings.some((beginning) => name.startsWith(beginning)))
}

function print(rows: readonly Row[], machine: string, table: (rows: readonly Row[]) => string): void {
  process.stdout.write(`\n${machine}\n\n${table(rows)}\n\n`)
  const missed = rows.filter(({ met }) => met === false)
  if (missed.length === 0 && !process.exitCode) process.stdout.write('Every bound is met.\n')
  for (const { work, ratio, geoRegistry, bound } of missed) {
    process.stdout.write(`!!! NOT MET: ${work}: ${ratio || geoRegistry}, bound ${bound}\n`)
  }
}

function complain(what: string, error: unknown): void {
  process.stderr.write(`\n${what} did not work: ${error instanceof Error ? error.stack : String(error)}\n`)
  process.exitCode = 1
}

try {
  await main()
} catch (error) {
  complain('the bench', error)
}
