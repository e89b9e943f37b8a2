/**
 * The comparison as one SVG file: for each kind of work a bar per contender, on a scale of its own that begins at 0. It
 * brings its own ground, so that it can be read on light and dark pages; names stand beside the bars, so that it can be
 * read without colours.
 */
import { type ComparedRow, type Comparison, middle } from './comparison.ts'
import { CONTENDERS, type ContenderName } from './contender.ts'
import { ROWS } from './rows.ts'

export interface ChartWords {
  readonly title: string
  /** The machine, versions and date; a line each. */
  readonly lines: readonly string[]
}

const WIDTH = 880
const MARGIN = 24
const LINE_HEIGHT = 17
const BAR_HEIGHT = 13
const BAR_STEP = 17
const NAMES_WIDTH = 110
/** Right of the longest bar, for its figure. */
const FIGURE_WIDTH = 110
const GROUP_GAP = 16
const LONGEST = WIDTH - 2 * MARGIN - NAMES_WIDTH - FIGURE_WIDTH

const CLASSES: Readonly<Record<ContenderName, string>> = {
  'geo-registry': 'ours',
  'docker-registry': 'registry',
  NGINX: 'nginx',
}

/** Contrast of text to ground: at least 7 in both. */
const STYLE = `
  text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; fill: #1f2328 }
  .title { font-size: 18px; font-weight: 600 } .work { font-weight: 600 } .soft { fill: #4a525a }
  .ground { fill: #ffffff; stroke: #d0d7de } .axis { stroke: #8c959f }
  .ours { fill: #0969da } .registry { fill: #bc4c00 } .nginx { fill: #6e7781 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .soft { fill: #b1bac4 }
    .ground { fill: #0d1117; stroke: #30363d } .axis { stroke: #6e7681 }
    .ours { fill: #58a6ff } .registry { fill: #f0883e } .nginx { fill: #9ea7b3 }
  }`

export function chartOf(comparison: Comparison, words: ChartWords): string {
  const body: string[] = [text(MARGIN, MARGIN + 14, words.title, 'title')]
  let y = MARGIN + 14
  y += 4
  for (const line of words.lines) {
    y += LINE_HEIGHT
    body.push(text(MARGIN, y, line, 'soft'))
  }
  y += GROUP_GAP + 4
  for (const row of comparison.rows.filter(({ id }) => ROWS[id].charted)) {
    const group = groupOf(row, comparison, y)
    body.push(...group.body)
    y = group.end + GROUP_GAP
  }
  const height = y - GROUP_GAP + MARGIN
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img">`,
    `<title>${escaped(words.title)}</title>`,
    `<style>${STYLE}\n</style>`,
    `<rect class="ground" x="0.5" y="0.5" width="${WIDTH - 1}" height="${height - 1}" rx="8"/>`,
    ...body,
    '</svg>\n',
  ].join('\n')
}

function groupOf(
  row: ComparedRow,
  comparison: Comparison,
  top: number,
): { readonly body: string[]; readonly end: number } {
  const kind = ROWS[row.id]
  const values = CONTENDERS.map((name) => middle(row.figures[name])?.value)
  const most = Math.max(...values.map((value) => value ?? 0))
  const left = MARGIN + NAMES_WIDTH
  const hint = kind.better === 'more' ? 'more is better' : 'less is better'
  const title = `${escaped(kind.title(comparison.measures))} <tspan class="soft" font-weight="400">(${hint})</tspan>`
  const body = [`<text class="work" x="${MARGIN}" y="${top + 11}">${title}</text>`]
  const firstBar = top + LINE_HEIGHT + 2
  CONTENDERS.forEach((name, index) => {
    const y = firstBar + index * BAR_STEP
    const value = values[index]
    const length = value === undefined || most === 0 ? 0 : (value / most) * LONGEST
    const figure = value === undefined ? '—' : kind.write(value)
    body.push(
      text(MARGIN, y + 11, name, 'soft'),
      `<rect class="${CLASSES[name]}" x="${left}" y="${y}" width="${rounded(length)}" height="${BAR_HEIGHT}" rx="2"/>`,
      text(left + rounded(length) + 6, y + 11, figure),
    )
  })
  const end = firstBar + CONTENDERS.length * BAR_STEP
  body.push(`<line class="axis" x1="${left - 0.5}" x2="${left - 0.5}" y1="${firstBar - 2}" y2="${end - 2}"/>`)
  return { body, end }
}

function text(x: number, y: number, words: string, className?: string): string {
  const marked = className === undefined ? '' : ` class="${className}"`
  return `<text${marked} x="${x}" y="${y}">${escaped(words)}</text>`
}

const rounded = (length: number) => Math.round(length * 10) / 10

function escaped(words: string): string {
  return words.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
