/**
 * `npm run bench -- --peers`: the comparison from the command line. The table goes to standard output, the chart to
 * `peers.svg` beside this file (`--svg FILE`: elsewhere), all figures to `--json FILE`.
 */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describeMachine } from '../machine.ts'
import { chartOf } from './chart.ts'
import { comparePeers } from './comparison.ts'
import { FULL_MEASURES } from './course.ts'
import { markdownComparison, textComparison } from './table.ts'

const SVG = join(import.meta.dirname, 'peers.svg')
const LINE = 'To the primary 100 MB/s and 20 ms each way'
const TITLE = 'geo-registry beside other caches of the same registry'

/** Not a contender: Go's module proxy answers 403 for every version of it that was asked for (2026-11-22). */
const ABSENT = 'zot: not to be had here: zotregistry.dev/zot: 403 Forbidden from the module proxy'

export interface PeersRun {
  readonly rounds: number
  /** Of the order in which contenders take turns; default: another one each time. */
  readonly seed?: number
  readonly markdown: boolean
  readonly json?: string | undefined
  readonly svg?: string | undefined
  /** Folder for V8's CPU profiles of geo-registry; slower by what profiling costs. */
  readonly profile?: string | undefined
}

/** Sets the exit status to 1 when a contender could not do its work; what worked is printed all the same. */
export async function runPeers(options: PeersRun): Promise<void> {
  const { rounds, seed = Math.ceil(Math.random() * 2 ** 32), profile } = options
  const startedAtMs = performance.now()
  const machine = await describeMachine()
  const comparison = await comparePeers({
    measures: FULL_MEASURES,
    rounds,
    seed,
    ...(profile !== undefined && { nodeOptions: ['--cpu-prof', `--cpu-prof-dir=${profile}`] }),
    onProgress: (line) => void process.stderr.write(`${line}\n`),
  })
  const howOften = `${rounds === 1 ? 'one round' : `medians of ${rounds} rounds`}, orders by seed ${seed}`
  const chart = chartOf(comparison, {
    title: TITLE,
    lines: [...halves(machine), `${LINE}; ${howOften}`, ABSENT],
  })
  await writeFile(options.svg ?? SVG, chart)
  if (options.json !== undefined) {
    await writeFile(options.json, `${JSON.stringify({ machine, ...comparison }, null, 2)}\n`)
  }
  const table = options.markdown ? markdownComparison(comparison) : textComparison(comparison)
  process.stdout.write(`\n${machine}; ${howOften}\n\n${table}\n\n${ABSENT}\n`)
  for (const failure of comparison.failures) process.stdout.write(`!!! FAILED: ${failure}\n`)
  process.stderr.write(`${Math.round((performance.now() - startedAtMs) / 1000)} s\n`)
  if (comparison.failures.length > 0) process.exitCode = 1
}

/** Two lines of about the same length, broken at a comma. */
function halves(line: string): string[] {
  const parts = line.split(', ')
  const middle = Math.ceil(parts.length / 2)
  return [`${parts.slice(0, middle).join(', ')},`, parts.slice(middle).join(', ')]
}
