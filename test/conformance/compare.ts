/** Two runs of one suite, case by case: what the primary does by itself, the secondary does too. */
import type { CaseResult } from './junit.ts'

export interface Worse {
  readonly direct: CaseResult
  /** Undefined: the case did not run. */
  readonly through: CaseResult | undefined
}

export interface Comparison {
  /** Cases that ran directly: those that were not skipped. */
  readonly ranDirect: number
  readonly passedDirect: number
  readonly passedThrough: number
  /** Cases that pass directly and do not pass through the secondary. */
  readonly worse: readonly Worse[]
  /** Those of them that were expected to fail there; not among `worse`. */
  readonly expected: readonly Worse[]
  /** Cases that fail on both sides, where the statuses answered differ: worth a look, no fault by itself. */
  readonly different: readonly Worse[]
}

/** `mayFail`: whether a case that fails through the secondary fails there as it must. */
export function compareRuns(
  direct: readonly CaseResult[],
  through: readonly CaseResult[],
  mayFail: (through: CaseResult) => boolean = () => false,
): Comparison {
  const others = byKey(through)
  const pairs = [...byKey(direct)].map(([key, result]) => ({ direct: result, through: others.get(key) }))
  const lost = pairs.filter(
    ({ direct, through }) => direct.status === 'passed' && through?.status !== 'passed',
  )
  const isExpected = ({ through }: Worse) => through?.status === 'failed' && mayFail(through)
  return {
    ranDirect: direct.filter(({ status }) => status !== 'skipped').length,
    passedDirect: passed(direct),
    passedThrough: passed(through),
    worse: lost.filter((pair) => !isExpected(pair)),
    expected: lost.filter(isExpected),
    different: pairs.filter(
      ({ direct, through }) =>
        direct.status === 'failed' &&
        through?.status === 'failed' &&
        statusesOf(direct.output) !== statusesOf(through.output),
    ),
  }
}

/** A suite may run a case of the same name twice: they are told apart by their order. */
function byKey(results: readonly CaseResult[]): Map<string, CaseResult> {
  const seen = new Map<string, number>()
  return new Map(
    results.map((result) => {
      const name = `${result.group} / ${result.name}`
      const nth = (seen.get(name) ?? 0) + 1
      seen.set(name, nth)
      return [`${name} #${nth}`, result]
    }),
  )
}

function passed(results: readonly CaseResult[]): number {
  return results.filter(({ status }) => status === 'passed').length
}

function statusesOf(output: string): string {
  return [...output.matchAll(/^< (\d{3})/gm)].map(([, status]) => status).join(' ')
}
