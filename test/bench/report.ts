/** What is printed: one row per figure, in a table for people, on a terminal or in the README. */

export interface Row {
  readonly work: string
  readonly geoRegistry: string
  /** What it is held against: `NGINX 61 000/s`. */
  readonly against: string
  readonly ratio: string
  /** As the issue words it; empty for what is only for information. */
  readonly bound: string
  /** Undefined: for information. */
  readonly met: boolean | undefined
}

type Figures = Pick<Row, 'work' | 'geoRegistry' | 'against'>

/** `value` is usually ours divided by theirs. */
export function atLeast(figures: Figures, value: number, bound: number): Row {
  return { ...figures, ratio: times(value), bound: `≥ ${bound} ×`, met: value >= bound }
}

export function atMost(figures: Figures, value: number, bound: number): Row {
  return { ...figures, ratio: times(value), bound: `≤ ${bound} ×`, met: value <= bound }
}

/** A figure with a bound of its own. */
export function absolute(work: string, geoRegistry: string, bound: string, met: boolean): Row {
  return { work, geoRegistry, against: '', ratio: '', bound, met }
}

export function information(work: string, geoRegistry: string, against: string = ''): Row {
  return { work, geoRegistry, against, ratio: '', bound: '', met: undefined }
}

export const perSecond = (rate: number) => `${grouped(rate)}/s`
export const milliseconds = (ms: number) => (ms < 100 ? `${ms.toFixed(1)} ms` : `${grouped(ms)} ms`)
export const mebibytes = (bytes: number) => `${grouped(bytes / 2 ** 20)} MiB`
export const megabytesPerSecond = (bytesPerSecond: number) => `${grouped(bytesPerSecond / 1e6)} MB/s`

export function times(value: number): string {
  return `${value >= 20 ? grouped(value) : value.toFixed(value < 2 ? 3 : 1)} ×`
}

export function grouped(value: number): string {
  return Math.round(value)
    .toString()
    .replace(/\B(?=(?:\d{3})+$)/g, '\u202f')
}

const TITLES = ['work', 'geo-registry', 'compared with', 'ratio', 'bound', ''] as const
const VERDICTS = { true: 'met', false: 'NOT MET', undefined: 'for information' } as const

function cells(row: Row): string[] {
  return [row.work, row.geoRegistry, row.against, row.ratio, row.bound, VERDICTS[`${row.met}`]]
}

export function markdownTable(rows: readonly Row[]): string {
  const lines = [TITLES, TITLES.map(() => '---'), ...rows.map(cells)]
  return lines.map((line) => `| ${line.join(' | ')} |`).join('\n')
}

export function textTable(rows: readonly Row[]): string {
  const lines = [[...TITLES], ...rows.map(cells)]
  const widths = TITLES.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)))
  const padded = lines.map((line) =>
    line
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  )
  const rule = widths.map((width) => '─'.repeat(width)).join('  ')
  return [padded[0], rule, ...padded.slice(1)].join('\n')
}
