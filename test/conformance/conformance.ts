/**
 * `npm run conformance`: what a primary does by itself, it does through the secondary too. A suite of conformance cases
 * runs against each primary directly, then through a real `geo-registry serve` in front of another one of the same kind,
 * and the reports are compared case by case; then read-only, with the primary stopped.
 *
 * Options: `--suite PROGRAM` runs the official suite, built elsewhere, in the place of our own cases; `--only olareg`
 * one primary; `--keep FOLDER` where the reports stay (default `.conformance`). Status 1 when any case is worse, 2 when
 * something did not run.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { installPrograms } from '../support/install.ts'
import type { Comparison, Worse } from './compare.ts'
import { PRIMARIES } from './primaries.ts'
import { compareReading, compareWriting } from './runs.ts'

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      suite: { type: 'string' },
      only: { type: 'string' },
      keep: { type: 'string', default: '.conformance' },
    },
  })
  const wanted = Object.entries(PRIMARIES).filter(
    ([name]) => values.only === undefined || name === values.only,
  )
  if (wanted.length === 0) {
    throw new Error(`no primary is called ${values.only}; there are ${Object.keys(PRIMARIES).join(', ')}`)
  }
  const suite = values.suite && resolve(values.suite)
  const kept = resolve(values.keep)
  await installPrograms(['docker-registry'])
  await mkdir(kept, { recursive: true })
  const lines: string[] = []
  for (const [name, start] of wanted) {
    const folder = join(kept, name)
    for (const compare of [compareWriting, compareReading]) {
      await compare(start, { suite, folder }, async (words, comparison) => {
        const line = `conformance ${name}${words}: ${summary(comparison)}`
        process.stdout.write(`${line}\n`)
        lines.push(line)
        for (const worse of comparison.worse) process.stdout.write(`\n!!! WORSE: ${described(worse)}\n\n`)
        const file = `differences${words.replace(',', '').replaceAll(' ', '-')}.txt`
        await writeFile(join(folder, file), differences(comparison))
        if (comparison.worse.length > 0) process.exitCode = 1
      })
    }
  }
  await writeFile(join(kept, 'result.txt'), `${lines.join('\n')}\n`)
  const cases = suite ?? 'our own, after the specification (`--suite PROGRAM` runs the official ones)'
  process.stdout.write(`Cases: ${cases}. Reports: ${kept}\n`)
}

function summary({ passedDirect, passedThrough, worse, different }: Comparison): string {
  const noted = different.length === 0 ? '' : ` (${different.length} fail on both sides, answered otherwise)`
  return `${passedDirect} passed direct, ${passedThrough} through, ${worse.length} worse${noted}`
}

function differences({ worse, different }: Comparison): string {
  return [
    ...worse.map((pair) => `WORSE: ${described(pair)}`),
    ...different.map((pair) => `FAILS ON BOTH SIDES: ${described(pair)}`),
  ].join('\n\n')
}

function described({ direct, through }: Worse): string {
  const found = through ? `${through.status} ${through.message}` : 'the case did not run'
  return [
    `${direct.group} / ${direct.name}`,
    `directly: ${direct.status} ${direct.message}\n${direct.output}`,
    `through the secondary: ${found}\n${through?.output ?? ''}`,
  ].join('\n--- ')
}

try {
  await main()
} catch (error) {
  process.stderr.write(
    `conformance: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
  )
  process.exitCode = 2
}
