/**
 * `npm run soak`: a random workload of pushes, pulls, rollbacks and deletes at two sites through lines that fail, with
 * processes that are killed, and a model that checks every answer. What is right stands in model.ts; who runs, in world.ts.
 *
 * Options: `--minutes 3` (the default) or `--hours 2`, how long clients work; `--seed N` makes the decisions of another
 * run again: who does what in which order, and which fault strikes when. What it cannot make again is time: which
 * answer comes first, which request a fault meets, and so what has been pushed when a digest is chosen. Status 1: something
 * was wrong, with the end of the story; 2: it did not run.
 */
import { parseArgs } from 'node:util'
import { installPrograms } from '../support/install.ts'
import { runSoak, seconds } from './run.ts'
import { createStory, type Story } from './story.ts'
import { startWorld, type World } from './world.ts'

/** `--minutes 1` takes less than 110 s. */
const BESIDE_MS = 50_000
const LAST_LINES = 60
const LOG_LINES = 6

const print = (line: string) => void process.stdout.write(`${line}\n`)

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { minutes: { type: 'string' }, hours: { type: 'string' }, seed: { type: 'string' } },
  })
  const seed = values.seed === undefined ? Date.now() % 1_000_000 : numberOf('seed', values.seed)
  const workMs = values.hours
    ? numberOf('hours', values.hours) * 3_600_000
    : numberOf('minutes', values.minutes ?? '3') * 60_000
  print(`soak: seed ${seed}, ${seconds(workMs)} of work`)
  await installPrograms(['docker-registry', 'redis-server', 'openssl'])
  const startedAt = performance.now()
  const now = () => performance.now() - startedAt
  const story = createStory(now)
  await using world = await startWorld()
  print(`${seconds(now())}: both sites run`)
  try {
    const found = await runSoak(world, { seed, workMs, besideMs: BESIDE_MS, story, now, print })
    for (const line of found) print(line)
  } catch (error) {
    process.exitCode = 1
    const words = error instanceof Error ? error.message : String(error)
    print(
      [...logged(world), '', ...story.last(LAST_LINES), '', `!!! ${words}`, `!!! seed ${seed}`].join('\n'),
    )
  }
  print(`took ${seconds(now())}; answers: ${story.counted('answers')}`)
  print(counts(story))
}

/** The last line. */
function counts(story: Story): string {
  const list = (kind: 'operations' | 'faults') => `${story.total(kind)} ${kind} (${story.counted(kind)})`
  return `${list('operations')}; ${list('faults')}`
}

/** What the processes complained of last. */
function logged({ sites }: World): string[] {
  const processes = [...sites.tokyo.doors, ...sites.lima.doors, sites.lima.keeper]
  return processes.flatMap(({ lines, port }) =>
    lines.slice(-LOG_LINES).map((line) => `${port} ${JSON.stringify(line).slice(0, 300)}`),
  )
}

function numberOf(option: string, text: string): number {
  const value = Number(text)
  if (text.trim() === '' || !(value >= 0)) throw new Error(`--${option}: expected a number, not ${text}`)
  return value
}

try {
  await main()
} catch (error) {
  process.stderr.write(`soak: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`)
  process.exitCode = 2
}
