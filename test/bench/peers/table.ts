/** The comparison for people: one row per kind of work, a column for each contender. */
import { times } from '../report.ts'
import { type ComparedRow, type Comparison, middle } from './comparison.ts'
import { CONTENDERS, type ContenderName, TRUST_SECONDS } from './contender.ts'
import { type Figure, ROWS } from './rows.ts'

/** What is a percent apart is the same. */
const BEHIND = 0.99
const [OURS, ...PEERS] = CONTENDERS

/** For a README. */
export function markdownComparison(comparison: Comparison): string {
  const lines = [
    ['work', ...CONTENDERS],
    ['---', ...CONTENDERS.map(() => '---')],
    ...comparison.rows.map((row) => cells(row, comparison, (text) => `**${text}**`)),
  ]
  return [...lines.map((line) => `| ${line.join(' | ')} |`), '', NOTE].join('\n')
}

/** For a terminal. */
export function textComparison(comparison: Comparison): string {
  const lines = [
    ['work', ...CONTENDERS],
    ...comparison.rows.map((row) => cells(row, comparison, (text) => `${text} !`)),
  ]
  const widths = [OURS, OURS, ...PEERS].map((_, column) =>
    Math.max(...lines.map((line) => line[column]?.length ?? 0)),
  )
  return lines
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

export const NOTE = [
  'Medians. In brackets: how many times better geo-registry is than that one; bold where it is behind; — where one cannot',
  'be run so. Clients send no token, and each cache has what it needs for the primary, which wants tokens (geo-registry',
  'and docker-registry a password, NGINX one token that lasts): NGINX gives whoever asks all that is in it, and does not',
  'check what it stores. None writes a log of requests. Between each and the primary: 100 MB/s and 20 ms each way.',
  'NGINX: one worker, `proxy_cache` with the lock, keepalive, revalidation and `use_stale`, `proxy_read_timeout` 10 s;',
  `tags are believed for ${TRUST_SECONDS} s there, and by geo-registry where the row says so. Each round on empty folders.`,
  'geo-registry fetches a blob in pieces of 32 MiB, a request each; `http.limits` and timeouts are those it comes with.',
].join('\n')

function cells(row: ComparedRow, comparison: Comparison, behind: (text: string) => string): string[] {
  const ours = middle(row.figures[OURS])
  return [
    ROWS[row.id].title(comparison.measures),
    cell(row, comparison, OURS),
    ...PEERS.map((name) => {
      const text = cell(row, comparison, name)
      const ratio = advantage(row, ours, middle(row.figures[name]))
      if (ratio === undefined) return text
      const compared = `${text} (${times(ratio)})`
      return ratio < BEHIND ? behind(compared) : compared
    }),
  ]
}

function cell(row: ComparedRow, comparison: Comparison, name: ContenderName): string {
  const figure = middle(row.figures[name])
  if (!figure) return comparison.failures.some((failure) => failure.startsWith(name)) ? 'failed' : '—'
  const value = ROWS[row.id].write(figure.value)
  if (figure.said === undefined) return value
  return figure.said === 'no answer' ? `no answer in ${value}` : `${figure.said} after ${value}`
}

/** Above 1: ours is better. Undefined where there is nothing to compare, or where the answer is the point. */
function advantage(
  row: ComparedRow,
  ours: Figure | undefined,
  theirs: Figure | undefined,
): number | undefined {
  if (!ours || !theirs || ours.said !== undefined || theirs.said !== undefined) return undefined
  return ROWS[row.id].better === 'more' ? ours.value / theirs.value : theirs.value / ours.value
}
