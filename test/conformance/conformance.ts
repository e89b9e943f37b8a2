/**
 * `npm run conformance`: what a primary does by itself, it does through the secondary too. Our own cases and the official
 * suite run against each primary directly, then through a real `geo-registry serve` in front of another one of the same
 * kind, and the reports are compared case by case; then read-only, with the primary stopped.
 *
 * Options: `--suite PROGRAM` runs a suite that was built elsewhere and reads the settings of ours, in the place of both;
 * `--only olareg` one primary; `--keep FOLDER` where the reports stay (default `.conformance`). Status 1 when any case is
 * worse, 2 when something did not run.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { installPrograms } from '../support/install.ts'
import type { Comparison, Worse } from './compare.ts'
import { createOfficialSuite } from './official.ts'
import { createOwnSuite } from './own.ts'
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
  const kept = resolve(values.keep)
  await installPrograms(['docker-registry'])
  await mkdir(kept, { recursive: true })
  const lines: string[] = []
  const suites = values.suite
    ? [createOwnSuite(resolve(values.suite))]
    : [createOwnSuite(), await createOfficialSuite()]
  for (const suite of suites) {
    for (const [name, start] of wanted) {
      const folder = join(kept, suite.folder, name)
      const report = async (words: string, comparison: Comparison) => {
        if (comparison.passedDirect === 0) throw new Error(`${suite.label}: ${name} passes no case directly`)
        const line = `${suite.label}: ${name}${words} ${summary(comparison)}`
        process.stdout.write(`${line}\n`)
        lines.push(line)
        for (const worse of comparison.worse) process.stdout.write(`\n!!! WORSE: ${described(worse)}\n\n`)
        const file = `differences${words.replace(',', '').replaceAll(' ', '-')}.txt`
        await writeFile(join(folder, file), differences(comparison))
        if (comparison.worse.length > 0) process.exitCode = 1
      }
      await compareWriting(start, { suite, folder }, report)
      await compareReading(start, { suite, folder }, report)
    }
  }
  await writeFile(join(kept, 'result.txt'), `${lines.join('\n')}\n`)
  process.stdout.write(`Reports: ${kept}\n`)
}

function summary(comparison: Comparison): string {
  const { ranDirect, passedDirect, passedThrough, worse, expected, different } = comparison
  return [
    `${passedDirect} of ${ranDirect} directly, ${passedThrough} through, ${worse.length} worse`,
    ...(expected.length > 0 ? [`${expected.length} unknowable without the primary: 503`] : []),
    ...(different.length > 0 ? [`${different.length} fail on both sides, answered otherwise`] : []),
  ].join('; ')
}

function differences({ worse, expected, different }: Comparison): string {
  return [
    ...worse.map((pair) => `WORSE: ${described(pair)}`),
    ...expected.map((pair) => `UNKNOWABLE WITHOUT THE PRIMARY: ${described(pair)}`),
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
