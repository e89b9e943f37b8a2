/** How figures are taken: contenders take turns, and what counts is the median. */
import { runProgram } from '../support/process.ts'

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  const upper = sorted[middle] ?? Number.NaN
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2
}

/** By the nearest rank: a value that was measured. `share`: 0.99 for the 99th percentile. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.ceil(share * sorted.length) - 1] ?? Number.NaN
}

/** What was written before is on the disk: no contender is measured while another's work, or the primary's, still goes there. */
export async function writtenBack(): Promise<void> {
  await runProgram('sync', [])
}

/**
 * Every contender once per round, each round beginning with another one, so that noise and heat hit all alike. `round`
 * counts from 0.
 */
export async function takeTurns<K extends string, T>(
  rounds: number,
  contenders: Readonly<Record<K, (round: number) => Promise<T>>>,
): Promise<Record<K, T[]>> {
  const names = Object.keys(contenders) as K[]
  const figures = Object.fromEntries(names.map((name) => [name, [] as T[]])) as Record<K, T[]>
  for (let round = 0; round < rounds; round++) {
    const first = round % names.length
    for (const name of [...names.slice(first), ...names.slice(0, first)]) {
      await writtenBack()
      figures[name].push(await contenders[name](round))
    }
  }
  return figures
}

/** Requests per second as wrk counts them; throws on any answer other than 2xx and on connections that failed. */
export async function requestRate(
  url: string,
  options: {
    readonly headers: Readonly<Record<string, string>>
    readonly connections: number
    readonly seconds: number
  },
): Promise<number> {
  const headers = Object.entries(options.headers).flatMap(([name, value]) => ['-H', `${name}: ${value}`])
  const { stdout } = await runProgram('wrk', [
    ...['-t1', `-c${options.connections}`, `-d${options.seconds}s`, '--timeout', '30s', ...headers, url],
  ])
  const rate = Number(/^Requests\/sec:\s+([\d.]+)$/m.exec(stdout)?.[1] ?? Number.NaN)
  if (!(rate > 0) || /Non-2xx|Socket errors/.test(stdout)) throw new Error(`${url}: wrk says\n${stdout}`)
  return rate
}
