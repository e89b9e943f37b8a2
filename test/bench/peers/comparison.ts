/** All contenders over the same course, in rounds, each round on empty folders and in an order of its own. */
import { createChance } from '../../support/chance.ts'
import { median } from '../measure.ts'
import {
  CONTENDERS,
  type Contender,
  type ContenderName,
  type ContenderOptions,
  startContender,
} from './contender.ts'
import { type Measures, startCourse } from './course.ts'
import { measureOutage } from './outage.ts'
import { type Figure, type Figures, ROW_IDS, type RowId } from './rows.ts'
import { STEPS, settle } from './steps.ts'

export interface ComparisonOptions extends ContenderOptions {
  readonly measures: Measures
  readonly rounds: number
  /** Of the orders. */
  readonly seed: number
  /** Told what goes on. */
  readonly onProgress?: (line: string) => void
}

export interface ComparedRow {
  readonly id: RowId
  /** All that were taken, by contender; none where a contender cannot be run so. */
  readonly figures: Readonly<Record<ContenderName, readonly Figure[]>>
}

export interface Comparison {
  readonly measures: Measures
  readonly rounds: number
  readonly seed: number
  readonly rows: readonly ComparedRow[]
  /** What did not work, with the contender's name; its figures are missing. */
  readonly failures: readonly string[]
}

export async function comparePeers(options: ComparisonOptions): Promise<Comparison> {
  const { measures, rounds, seed, onProgress = () => {} } = options
  const chance = createChance(seed)
  const taken: { readonly name: ContenderName; readonly figures: Figures }[] = []
  const failures: string[] = []
  await using course = await startCourse(measures)
  for (let round = 1; round <= rounds; round++) {
    await using ending = new AsyncDisposableStack()
    const contenders: Contender[] = []
    for (const name of CONTENDERS) contenders.push(ending.use(await startContender(name, course, options)))
    const attempt = async (what: string, contender: Contender, work: () => Promise<Figures>) => {
      try {
        taken.push({ name: contender.name, figures: await work() })
      } catch (error) {
        failures.push(`${contender.name}, ${what}, round ${round}: ${wordsOf(error)}`)
      }
    }
    for (const step of STEPS) {
      const startedAtMs = performance.now()
      for (const contender of shuffled(contenders, chance)) {
        await settle()
        await attempt(step.name, contender, () => step.measure(contender, course))
      }
      onProgress(`round ${round}, ${step.name}: ${seconds(performance.now() - startedAtMs)}`)
    }
    const startedAtMs = performance.now()
    await Promise.all(
      contenders.map((contender) => attempt('outage', contender, () => measureOutage(contender, course))),
    )
    onProgress(`round ${round}, outage: ${seconds(performance.now() - startedAtMs)}`)
  }
  const rows = ROW_IDS.map((id) => ({
    id,
    figures: perContender((contender) =>
      taken.flatMap(({ name, figures }) => (name === contender ? (figures[id] ?? []) : [])),
    ),
  }))
  return { measures, rounds, seed, rows, failures }
}

/** The one in the middle: what was said goes with how long it took. Undefined: there is none. */
export function middle(figures: readonly Figure[]): Figure | undefined {
  const [first] = figures
  if (!first) return undefined
  const value = median(figures.map((figure) => figure.value))
  const said = [...new Set(figures.flatMap((figure) => figure.said ?? []))]
  return said.length === 0 ? { value } : { value, said: said.join(' or ') }
}

export function shuffled<T>(items: readonly T[], chance: () => number): T[] {
  const order = [...items]
  for (let last = order.length - 1; last > 0; last--) {
    const other = Math.floor(chance() * (last + 1))
    const [a, b] = [order[last], order[other]]
    if (a !== undefined && b !== undefined) [order[last], order[other]] = [b, a]
  }
  return order
}

function perContender<T>(of: (name: ContenderName) => T): Record<ContenderName, T> {
  return { 'geo-registry': of('geo-registry'), 'docker-registry': of('docker-registry'), NGINX: of('NGINX') }
}

const seconds = (ms: number) => `${Math.round(ms / 1000)} s`

function wordsOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).slice(0, 500)
}
